package timed

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"komainu/appliance/control"
	"komainu/appliance/say"
	"komainu/drivers/files"
	"komainu/ntp/timer"
)

// line is a note in STATE/time/journal.ndjson.
type line struct {
	Wall int64    `json:"wall"` // Unix ns
	Code string   `json:"code"` // row of appliance/say
	Args []string `json:"args,omitempty"`
}

// note writes a line for people: to the log at once, and to the journal.
func (d *Daemon) note(code string, args ...string) {
	d.cfg.Log.Info(say.Text("en", code, args...))
	l := line{Wall: time.Now().UnixNano(), Code: code, Args: args}
	d.disk.put(func() error { return d.journal(l) }) // dropped when the disk is that far behind
}

// journalMax bounds the journal in bytes; one as large before it is kept.
const journalMax = 4 << 20

func (d *Daemon) journal(l line) error {
	path := d.path(journalFile)
	if st, err := os.Stat(path); err == nil && st.Size() > journalMax {
		if err := os.Rename(path, path+".1"); err != nil {
			return err
		}
	}
	return files.Append(path, l)
}

type alarmKey struct{ id, subject string }

// standing is an alarm that is up.
type standing struct {
	critical bool
	since    time.Time
}

// alarm raises or clears one; both are noted once.
func (d *Daemon) alarm(id, subject string, critical, raised bool) {
	key := alarmKey{id, subject}
	d.mu.Lock()
	now, was := d.alarms[key]
	if !was {
		now.since = time.Now()
	}
	if now.critical = critical; raised {
		d.alarms[key] = now
	} else {
		delete(d.alarms, key)
	}
	d.mu.Unlock()
	if was == raised {
		return
	}
	code := "alarm-cleared"
	if raised {
		code = "alarm-raised"
	}
	d.note(code, id, severity(critical), subject)
}

func severity(critical bool) string {
	if critical {
		return "critical"
	}
	return "warning"
}

// standing is the alarms that are up; the caller holds the lock.
func (d *Daemon) standing() []control.Alarm {
	out := []control.Alarm{}
	for k, s := range d.alarms {
		out = append(out, control.Alarm{ID: k.id, Subject: k.subject, Severity: severity(s.critical), SinceS: time.Since(s.since).Seconds()})
	}
	slices.SortFunc(out, func(a, b control.Alarm) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Subject, b.Subject))
	})
	return out
}

// mostClients bounds one answer.
const mostClients = 1000

func (d *Daemon) routes() []control.Route {
	return []control.Route{
		{Pattern: "GET " + control.TimePath, Role: control.Viewer, Handle: func(context.Context, *control.Request) (any, error) {
			return d.Status(), nil
		}},
		{Pattern: "GET " + control.TimeClientsPath, Role: control.Viewer, Handle: func(_ context.Context, r *control.Request) (any, error) {
			n, err := strconv.Atoi(cmp.Or(r.Query("n"), "20"))
			if err != nil || n < 1 || n > mostClients {
				return nil, &control.Error{Code: "bad-request", Args: []string{fmt.Sprintf("n is 1 to %d", mostClients)}, Status: http.StatusBadRequest}
			}
			return d.clients(n), nil
		}},
		{Pattern: "POST " + control.TimeStepPath, Role: control.Operator, Handle: func(ctx context.Context, r *control.Request) (any, error) {
			var o control.TimeStep
			if err := r.Decode(&o); err != nil {
				return nil, err
			}
			return d.order(ctx, o, r.Peer), nil
		}},
	}
}

// order hands an operator's order to the core and waits for its answer.
func (d *Daemon) order(ctx context.Context, o control.TimeStep, p control.Peer) control.Reply {
	answer := make(chan timer.Done, 1)
	d.mu.Lock()
	_, twice := d.orders[o.ID]
	if !twice {
		d.orders[o.ID] = answer
	}
	d.mu.Unlock()
	if twice {
		return control.Reply{ID: o.ID, Code: "ntp-order-twice", Args: []string{o.ID}}
	}
	d.note("note-time-ordered", cmp.Or(o.By, p.Name()), o.Reason)
	d.tell(ctx, timer.Order{ID: o.ID, Step: true})
	select {
	case a := <-answer:
		return control.Reply{ID: o.ID, OK: a.Code == "", Code: cmp.Or(a.Code, "ntp-stepped"), Args: a.Args}
	case <-ctx.Done():
		return control.Reply{ID: o.ID, Code: "ntp-order-unknown", Args: []string{o.ID}}
	}
}

// done passes the core's answer on to who waits for it.
func (d *Daemon) done(a timer.Done) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.orders[a.ID]; c != nil {
		c <- a
		delete(d.orders, a.ID)
	}
}

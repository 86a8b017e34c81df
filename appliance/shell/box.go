package shell

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"komainu/appliance/agent"
	"komainu/appliance/control"
	"komainu/drivers/files"
)

// lookAtBox is how often PID 1 is asked about machine and image.
const lookAtBox = 10 * time.Second

// boxkeeping is what PID 1 said last of machine and image. On a machine that
// doesn't run our image there is nobody to say it.
type boxkeeping struct {
	socket control.Client
	state  string           // box/told.json: what the journal knows, over restarts of agent and box
	note   func(agent.Note) // something happened to the box

	mu    sync.Mutex
	last  *control.Box // nil: PID 1 isn't ours, or hasn't answered yet
	heard time.Time    // when last was
	told  *told        // nil: not read yet
	up    []standing
}

// standing is an alarm that was told of.
type standing struct {
	boxAlarm
	since time.Time
}

// boxAlarm is something about the box that somebody must know now.
type boxAlarm struct {
	id, subject string
	severity    agent.Severity
}

// told is STATE/box/told.json: what stands in the journal already.
type told struct {
	Booted time.Time         `json:"booted"`
	Trial  string            `json:"trial,omitempty"` // version on trial
	Images map[string]string `json:"images"`          // state by version
	Faults []control.Reason  `json:"faults"`
}

const (
	toldFile    = "box/told.json"
	toldVersion = 1
)

func newBoxkeeping(run, state string) *boxkeeping {
	return &boxkeeping{socket: control.Client{Socket: filepath.Join(run, "pid1.sock")}, state: state}
}

// watch asks PID 1 until ctx ends, or until the first answer says that it isn't ours.
func (b *boxkeeping) watch(ctx context.Context) error {
	tick := time.NewTicker(lookAtBox)
	defer tick.Stop()
	for b.ask(ctx) {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	return nil
}

// ask is false when this is no box of ours.
func (b *boxkeeping) ask(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, lookAtBox)
	defer cancel()
	x := &control.Box{}
	err := b.socket.Get(ctx, control.BoxPath, x)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		var refused *control.Error
		return b.last != nil || !errors.As(err, &refused) || refused.Code != "not-found"
	}
	b.last, b.heard = x, time.Now()
	b.tell(*x)
	return true
}

// tell notes what is new. It is written down what was told, so that neither a
// restart of the agent nor one of the box repeats or loses it.
func (b *boxkeeping) tell(x control.Box) {
	path := filepath.Join(b.state, toldFile)
	if b.told == nil {
		b.told = &told{}
		_ = files.ReadJSON(path, toldVersion, b.told) // without it all is told again
	}
	next, notes := news(*b.told, x)
	now := time.Now()
	for _, n := range notes {
		n.Wall = now.UnixNano()
		b.note(n)
	}
	if len(notes) > 0 {
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = files.ReplaceJSON(path, toldVersion, next)
		}
		if err != nil {
			b.note(agent.Note{Wall: now.UnixNano(), Code: "box-news-unkept", Args: []string{err.Error()}})
		}
	}
	b.told = &next
	var up []standing
	for _, a := range boxAlarms(x) {
		if i := slices.IndexFunc(b.up, func(s standing) bool { return s.boxAlarm == a }); i >= 0 {
			up = append(up, b.up[i])
			continue
		}
		up = append(up, standing{a, now})
		b.note(alarmNote(agent.Alarm{ID: a.id, Subject: a.subject, Severity: a.severity, Raised: true}))
	}
	for _, s := range b.up {
		if !slices.ContainsFunc(up, func(t standing) bool { return t.boxAlarm == s.boxAlarm }) {
			b.note(alarmNote(agent.Alarm{ID: s.id, Subject: s.subject}))
		}
	}
	b.up = up
}

// news are the lines of the journal between what was told and x.
func news(old told, x control.Box) (told, []agent.Note) {
	next := told{Booted: x.Booted, Images: map[string]string{}, Faults: x.Faults}
	var notes []agent.Note
	note := func(code string, args ...string) { notes = append(notes, agent.Note{Code: code, Args: args}) }
	if !x.Booted.Equal(old.Booted) {
		if x.Last.Kind == "" {
			note("box-started", x.Version)
		} else {
			note("box-started", append([]string{x.Version, "reset-" + x.Last.Kind, x.Last.Reason.Code}, x.Last.Reason.Args...)...)
		}
	}
	if x.Trial != nil {
		next.Trial = x.Version
		if old.Trial != x.Version {
			note("box-trial-begun", x.Version)
		}
	}
	for _, i := range x.Images {
		if i.State == "rescue" {
			continue // of the same version as another
		}
		next.Images[i.Version] = i.State
		was := old.Images[i.Version]
		switch {
		case i.State == was:
		case i.State == "accepted" && was == "trial":
			note("image-step-accepted", i.Version)
		case i.State == "failed":
			note("box-given-up", append([]string{i.Version, i.Reason.Code}, i.Reason.Args...)...)
		}
	}
	changed := func(from, to []control.Reason, code string) {
		for _, f := range to {
			if !holds(from, f) {
				note(code, append([]string{f.Code}, f.Args...)...)
			}
		}
	}
	changed(old.Faults, x.Faults, "box-fault")
	changed(x.Faults, old.Faults, "box-fault-over")
	return next, notes
}

func holds(all []control.Reason, r control.Reason) bool {
	return slices.ContainsFunc(all, func(x control.Reason) bool { return x.Code == r.Code && slices.Equal(x.Args, r.Args) })
}

// trialLong is the time since the start from which on a trial is an alarm: it is
// decided within five minutes, unless its end can't be written.
const trialLong = 10 * time.Minute

// resetFresh is how long a reset that nobody ordered stays an alarm.
const resetFresh = 24 * time.Hour

// boxAlarms are the alarms that what PID 1 says is worth.
func boxAlarms(x control.Box) []boxAlarm {
	var all []boxAlarm
	raise := func(severity agent.Severity, id, subject string) { all = append(all, boxAlarm{id, subject, severity}) }
	if x.Data == "none" {
		raise(agent.Critical, "box-data-lost", "")
	}
	if up := time.Duration(x.UptimeS * float64(time.Second)); up < resetFresh {
		switch x.Last.Kind {
		case "watchdog":
			raise(agent.Critical, "box-was-reset", "")
		case "panic":
			raise(agent.Critical, "box-panicked", "")
		}
	}
	if x.Trial != nil && x.UptimeS > trialLong.Seconds() {
		raise(agent.Warning, "box-trial-long", x.Version)
	}
	for _, i := range x.GivenUp() {
		raise(agent.Warning, "box-image-failed", i.Version)
	}
	if len(x.Faults) > 0 {
		raise(agent.Warning, "box-faulty", "")
	}
	return all
}

// boxSilent is how long PID 1 may not answer before that is an alarm, and what
// it said counts no more: PID 1 replaces a supervisor that died within seconds.
const boxSilent = time.Minute

// add puts the box and its alarms into the status.
func (b *boxkeeping) add(st *control.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last == nil {
		return
	}
	if d := time.Since(b.heard); d > boxSilent {
		st.Alarms = append(st.Alarms, control.Alarm{ID: "box-silent", Severity: string(agent.Critical), SinceS: d.Seconds()})
		return
	}
	st.Box = b.last
	for _, a := range b.up {
		st.Alarms = append(st.Alarms, control.Alarm{ID: a.id, Subject: a.subject, Severity: string(a.severity), SinceS: time.Since(a.since).Seconds()})
	}
}

package shell

import (
	"context"
	"path/filepath"
	"sync"
	"time"

	"komainu/appliance/agent"
	"komainu/appliance/control"
)

// lookAtTime is how often the time daemon is asked how it is.
const lookAtTime = 2 * time.Second

// timekeeping is what the time daemon said last. It is a process of its own:
// when it is gone the agent goes on and says so.
type timekeeping struct {
	socket control.Client
	note   func(agent.Note) // an alarm of the time daemon was raised or cleared

	mu     sync.Mutex
	last   *control.TimeStatus // nil: it doesn't answer
	silent time.Time           // since when; zero while it answers
	up     map[[2]string]bool  // alarms that were told of, by ID and subject
}

// watch asks the time daemon until ctx ends.
func (t *timekeeping) watch(ctx context.Context) error {
	tick := time.NewTicker(lookAtTime)
	defer tick.Stop()
	for {
		t.ask(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (t *timekeeping) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookAtTime)
	defer cancel()
	st := &control.TimeStatus{}
	if t.socket.Get(ctx, control.TimePath, st) != nil {
		st = nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case st != nil:
		t.tell(st.Alarms)
		t.last, t.silent = st, time.Time{}
	case t.silent.IsZero():
		t.last, t.silent = nil, time.Now()
	}
}

// tell notes what has become of the time daemon's alarms.
func (t *timekeeping) tell(alarms []control.Alarm) {
	up := map[[2]string]bool{}
	for _, a := range alarms {
		k := [2]string{a.ID, a.Subject}
		up[k] = true
		if !t.up[k] {
			t.note(alarmNote(agent.Alarm{ID: a.ID, Subject: a.Subject, Severity: agent.Severity(a.Severity), Raised: true}))
		}
	}
	for k := range t.up {
		if !up[k] {
			t.note(alarmNote(agent.Alarm{ID: k[0], Subject: k[1]}))
		}
	}
	t.up = up
}

// now is what the time daemon said last; nil: it doesn't answer.
func (t *timekeeping) now() *control.TimeStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// silentFor is how long the time daemon may not answer before that is an
// alarm: it takes a moment to start, and to be started again.
const silentFor = 10 * time.Second

// add puts the clock and its alarms into the box's status.
func (t *timekeeping) add(st *control.Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	st.Clock = t.last.Clock()
	if t.last != nil {
		st.Alarms = append(st.Alarms, t.last.Alarms...)
	} else if d := time.Since(t.silent); !t.silent.IsZero() && d > silentFor {
		st.Alarms = append(st.Alarms, control.Alarm{ID: "time-daemon-silent", Severity: "critical", SinceS: d.Seconds()})
	}
}

func newTimekeeping(run string) *timekeeping {
	return &timekeeping{socket: control.Client{Socket: filepath.Join(run, "timed.sock")}, silent: time.Now()}
}

package town

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"komainu/appliance/agent"
	"komainu/tools/lab"
)

// pollEvery is how often a condition is looked at that nobody announces.
const pollEvery = 20 * time.Millisecond

// Event is one line of an agent's journal, as it came.
type Event struct {
	Host string
	agent.Note
}

// At is when the agent wrote it, by the wall clock that all hosts share here.
func (e Event) At() time.Time { return time.Unix(0, e.Wall) }

// Events follows the journals of the three boxes for as long as the town lives;
// those of machines stay inside them.
type Events struct {
	cancel context.CancelFunc
	wait   sync.WaitGroup
	mu     sync.Mutex
	all    []Event
	watch  map[chan Event]bool
}

func follow(w *World) *Events {
	ctx, cancel := context.WithCancel(context.Background())
	e := &Events{cancel: cancel, watch: map[chan Event]bool{}}
	for _, h := range []*lab.Host{w.Hall, w.Edge, w.DB} {
		if w.machine(h) != nil {
			continue
		}
		e.wait.Go(func() {
			for ctx.Err() == nil {
				// Ends when the agent does; the next one is followed anew.
				_ = w.Agent(h).Stream(ctx, "/v1/events", nil, func(line json.RawMessage) error {
					var n agent.Note
					if err := json.Unmarshal(line, &n); err != nil {
						return err
					}
					e.add(Event{h.Name, n})
					return nil
				})
				_ = pause(ctx, pollEvery) // the loop ends with ctx
			}
		})
	}
	return e
}

func (e *Events) add(x Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, x)
	for c := range e.watch {
		select {
		case c <- x:
		default: // a watcher that doesn't read loses lines
		}
	}
}

// All is what has come so far, in the order of arrival.
func (e *Events) All() []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]Event(nil), e.all...)
}

// Watch gives every event from now on, until cancel.
func (e *Events) Watch() (events <-chan Event, cancel func()) {
	c := make(chan Event, 1024)
	e.mu.Lock()
	e.watch[c] = true
	e.mu.Unlock()
	return c, func() {
		e.mu.Lock()
		delete(e.watch, c)
		e.mu.Unlock()
	}
}

// Last is the newest event of a host with this code, from t on.
func (e *Events) Last(host, code string, t time.Time) (Event, bool) {
	all := e.All()
	for i := len(all) - 1; i >= 0; i-- {
		if x := all[i]; x.Host == host && x.Code == code && !x.At().Before(t) {
			return x, true
		}
	}
	return Event{}, false
}

// First is the oldest event of a host with this code, from t on.
func (e *Events) First(host, code string, t time.Time) (Event, bool) {
	for _, x := range e.All() {
		if x.Host == host && x.Code == code && !x.At().Before(t) {
			return x, true
		}
	}
	return Event{}, false
}

func (e *Events) close() {
	e.cancel()
	e.wait.Wait()
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

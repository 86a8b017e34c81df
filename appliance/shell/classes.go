package shell

import (
	"context"
	"errors"
	"slices"
	"sync"

	"komainu/appliance/agent"
	"komainu/drivers/nft"
	"komainu/drivers/tc"
)

// queueing makes the kernel's queues and the sorting of packets so as the agent
// says.
type queueing struct {
	mu      sync.Mutex
	tc      *tc.Conn
	classes *nft.Classes
}

func newQueueing() (*queueing, error) {
	c, err := tc.Dial()
	if err != nil {
		return nil, err
	}
	n, err := nft.OpenClasses()
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &queueing{tc: c, classes: n}, nil
}

func (q *queueing) close() error { return errors.Join(q.tc.Close(), q.classes.Close()) }

// set carries out one SetQueues. link is the kernel's name of a link of the
// configuration. What stands at links that aren't there (yet) is left for the
// next time.
func (q *queueing) set(ctx context.Context, w agent.SetQueues, link func(string) string) agent.Done {
	q.mu.Lock()
	defer q.mu.Unlock()
	changes := 0
	var errs []error
	shaped := map[string]bool{}
	for _, t := range w.Trees {
		t.Link = link(t.Link)
		shaped[t.Link] = true
		n, err := q.tc.Apply(t)
		changes += n
		if !errors.Is(err, tc.ErrNoLink) { // the network's part says that a port is missing
			errs = append(errs, err)
		}
	}
	ours, err := q.tc.Links()
	errs = append(errs, err)
	for _, l := range slices.DeleteFunc(ours, func(l string) bool { return shaped[l] }) {
		errs = append(errs, q.tc.Clear(l))
		changes++
	}
	changed, err := q.classes.Apply(w.Sorting)
	if changed {
		changes++
	}
	d := result(ctx, errors.Join(append(errs, err)...), "queues-refused")
	d.Value = changes
	return d
}

// counts of the queues of one link.
func (q *queueing) counts(link string) ([]tc.Count, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.tc.Counters(link)
}

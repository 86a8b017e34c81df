package pid1

import (
	"context"
	"errors"
	"slices"
)

// stopAll stops every unit, one after the other, and waits for all tasks of
// the units. Nothing is started from its call on.
func (s *supervisor) stopAll(ctx context.Context) error {
	var err error
	for _, name := range s.beginStop() {
		_, e := s.Stop(ctx, name)
		err = errors.Join(err, e)
	}
	if err == nil {
		s.restarts.Wait() // an adopted unit that doesn't die would hold us here
	}
	return err
}

// beginStop gives the stop order: the agent before everything, so that it takes
// neither the end of PostgreSQL nor that of the line for a fault; then the latest
// first: PostgreSQL, which the agent started, before the line that it replicates
// over, and the consoles last, which an image starts first.
func (s *supervisor) beginStop() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	order := slices.Clone(s.order)
	slices.Reverse(order)
	slices.SortStableFunc(order, func(a, b string) int {
		switch {
		case a == agentUnit && b != agentUnit:
			return -1
		case b == agentUnit && a != agentUnit:
			return 1
		}
		return 0
	})
	for _, u := range s.units {
		s.giveUpRestart(u)
	}
	return order
}

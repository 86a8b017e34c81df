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

// beginStop gives the stop order: the agent before what it commands, so that
// it doesn't take the end of PostgreSQL for a fault.
func (s *supervisor) beginStop() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	var order []string
	for _, u := range s.o.Units {
		if s.units[u.Name] != nil {
			order = append(order, u.Name)
		}
	}
	for _, name := range slices.Backward(s.order) {
		if !slices.Contains(order, name) {
			order = append(order, name)
		}
	}
	for _, u := range s.units {
		s.giveUpRestart(u)
	}
	return order
}

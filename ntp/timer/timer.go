package timer

import "komainu/ntp/wall"

// Timer is the state of the time daemon's decisions.
type Timer struct{ spec Spec }

// New returns a timer that has not been started.
func New(spec Spec) *Timer { return &Timer{spec: spec} }

// Step takes an event at r and returns what must be done, in that order.
func (t *Timer) Step(r wall.Reading, ev Event) []Action { return nil }

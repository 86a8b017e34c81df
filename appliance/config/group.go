package config

import "time"

// Group is one [[group]]: services and databases that move together.
type Group struct {
	Name       string
	AutoDown   bool          // down: to the local endpoint without an order; default
	AutoBack   bool          // back: after local writes, return without an order; default not
	Write      string        // "operator" (default) or "never"
	HoldDown   time.Duration // how long the DC must be usable before a move back; default 120 s
	Drain      time.Duration // grace for open transactions in a hand-over; default 2 s
	MaxReadAge time.Duration // bound of stale reads; 0 (default): none

	src *table
}

func (r *reader) group(t *table) Group {
	return Group{
		Name:       r.ident(t, "name"),
		AutoDown:   r.word(t, "down", []string{"auto", "manual"}) == "auto",
		AutoBack:   r.word(t, "back", []string{"manual", "auto"}) == "auto",
		Write:      r.word(t, "write", []string{"operator", "never"}, "lease"),
		HoldDown:   r.duration(t, "hold-down", 120*time.Second, time.Second, 24*time.Hour),
		Drain:      r.duration(t, "drain", 2*time.Second, 0, time.Minute),
		MaxReadAge: r.duration(t, "max-read-age", 0, time.Second, 30*24*time.Hour),
		src:        t,
	}
}

// Package paths chooses the path that carries a class of traffic to a peer: the
// first in the class's order that is usable, with hysteresis, so that a line
// that flaps for a month (PRB-1) doesn't take the traffic along each time.
// Start reading at Chooser.Choose.
package paths

import (
	"slices"
	"time"

	"komainu/ntp/instant"
)

// Path is one way to a peer, as it is now.
type Path struct {
	Name  string
	Up    bool            // its heartbeats come
	Since instant.Instant // since when it is Up, or not
	Loss  float64         // of the last probes, 0 to 1; unknown: 0
}

// The bounds of a path that is up and yet poor: it carries only if no good one
// does. Between them what is, stays.
const (
	PoorLoss = 0.05 // from here on poor
	GoodLoss = 0.01 // up to here good again
)

// Times of the hysteresis.
const (
	Steady     = 5 * time.Second  // how long a path that came back must have been up
	steadyMost = 5 * time.Minute  // it doubles with each fall within the memory, up to here
	memory     = 10 * time.Minute // of falls
	poorFor    = 10 * time.Second // how long a path must have been poor, or good, to count as such
)

// Chooser remembers how the paths to one peer behaved. Its zero value knows
// nothing. Not for concurrent use.
type Chooser struct {
	paths map[string]*record
}

// record is the memory of one path.
type record struct {
	up    bool
	falls []instant.Instant
	poor  bool
	turn  instant.Instant // since when Loss says otherwise than poor; 0: it doesn't
}

// Watch takes the paths' present state. It is called before Choose whenever
// something may have changed.
func (c *Chooser) Watch(now instant.Instant, all []Path) {
	if c.paths == nil {
		c.paths = map[string]*record{}
	}
	for _, p := range all {
		r := c.paths[p.Name]
		if r == nil {
			r = &record{}
			c.paths[p.Name] = r
		}
		if r.up && !p.Up {
			r.falls = append(r.falls, now)
		}
		r.up = p.Up
		r.falls = slices.DeleteFunc(r.falls, func(t instant.Instant) bool { return now.Sub(t) > memory })
		switch changes := p.Up && (!r.poor && p.Loss >= PoorLoss || r.poor && p.Loss <= GoodLoss); {
		case !changes:
			r.turn = 0
		case r.turn == 0:
			r.turn = max(now, 1)
		case now.Sub(r.turn) >= poorFor:
			r.poor, r.turn = !r.poor, 0
		}
	}
}

// Poor tells whether a path loses too much to be preferred.
func (c *Chooser) Poor(name string) bool {
	r := c.paths[name]
	return r != nil && r.poor
}

// steady is how long the path called name must have been up before traffic
// moves to it from one that works.
func (c *Chooser) steady(name string) time.Duration {
	r := c.paths[name]
	if r == nil {
		return Steady
	}
	d := Steady
	for range r.falls[min(1, len(r.falls)):] {
		d = min(2*d, steadyMost)
	}
	return d
}

// Choose returns the path that carries from now on. order is the class's own,
// best first; carrying is the one that carried until now, empty at the start.
// With none up what is, stays: whether the peer is lost isn't decided here. At
// the start with none up it is the first.
func (c *Chooser) Choose(now instant.Instant, order []Path, carrying string) string {
	if len(order) == 0 {
		return ""
	}
	at := slices.IndexFunc(order, func(p Path) bool { return p.Name == carrying })
	works := at >= 0 && order[at].Up
	usable := func(i int, poor bool) bool {
		p := order[i]
		switch {
		case !p.Up || c.Poor(p.Name) != poor:
			return false
		case i == at || !works:
			return true
		}
		return now.Sub(p.Since) >= c.steady(p.Name)
	}
	for _, poor := range []bool{false, true} {
		for i := range order {
			if usable(i, poor) {
				return order[i].Name
			}
		}
	}
	if at >= 0 {
		return carrying
	}
	return order[0].Name
}

// Next is when Choose may say otherwise although nothing happens.
func (c *Chooser) Next(now instant.Instant, order []Path) instant.Instant {
	next := now.Add(time.Minute)
	for _, p := range order {
		if t := p.Since.Add(c.steady(p.Name)); p.Up && t > now {
			next = min(next, t)
		}
		if r := c.paths[p.Name]; r != nil && r.turn != 0 {
			next = min(next, max(r.turn.Add(poorFor), now.Add(1)))
		}
	}
	return next
}

package main

import (
	"slices"

	"komainu/appliance/agent"
	"komainu/failover/standby"
)

func (n *node) observe(s *server) standby.Observation {
	return s.observe(n.instant(n.w.now), n.wall)
}

// operate runs an operation on a server of the box, as the drivers do: each
// checks what it finds, and long ones have sub-steps between which the agent
// may die.
func (n *node) operate(f *flight, do agent.Server) {
	w := n.w
	s := w.server(n.id, do.Database)
	rnd := func(max int64) int64 { return w.rng.Int64N(max) + ms }
	ok := func() { f.ok(agent.Observed{Observation: n.observe(s)}) }
	fail := func(code string) { f.end(agent.Failed, code, agent.Observed{Observation: n.observe(s)}) }
	if f.act.Term != n.term(s.db) {
		switch do.Op {
		case agent.StartPrimary, agent.Promote, agent.Copy, agent.Rewind, agent.OpenWrites:
			f.then(ms, func() { fail("stale-term") })
			return
		}
	}
	// late does the effect after the report, as a signal that was sent does.
	late := func(d int64, effect func()) bool {
		if f.fate != unknownLate {
			return false
		}
		gen := s.gen
		f.then(rnd(100*ms), func() { f.end(agent.Unknown, "late", n.maybeLook(f)) })
		w.after(d+rnd(2*sec), func() {
			if n.power && s.gen == gen {
				effect()
			}
		})
		return true
	}
	switch do.Op {
	case agent.StartStandby, agent.StartPrimary:
		f.then(rnd(20*ms), func() {
			switch {
			case s.dir != whole:
				fail("not-startable")
				return
			case s.up():
				ok()
				return
			case do.Op == agent.StartPrimary && s.signal:
				fail("standby-signal")
				return
			}
			if do.Op == agent.StartStandby {
				s.signal = true
				s.upstream = w.at(do.Upstream)
			}
			f.then(rnd(30*ms), func() {
				s.launch()
				f.then(rnd(500*ms), ok)
			})
		})
	case agent.StopFast:
		stop := func() { s.stopFast() }
		if late(0, stop) {
			return
		}
		f.then(rnd(20*ms), func() {
			stop()
			var wait func()
			wait = func() {
				if s.up() {
					f.then(50*ms, wait)
					return
				}
				ok()
			}
			f.then(rnd(100*ms), wait)
		})
	case agent.StopImmediate:
		f.then(rnd(40*ms), func() {
			s.halt(false)
			ok()
		})
	case agent.Promote:
		if late(0, s.promote) {
			return
		}
		f.then(rnd(20*ms), func() {
			if s.state == writable {
				ok()
				return
			}
			if s.state != recovering && s.state != starting || s.hung > w.now {
				fail("not-a-standby")
				return
			}
			gen := s.gen
			w.after(rnd(100*ms), func() { // the server's own work: goes on without the agent
				if s.gen == gen {
					s.promote()
				}
			})
			f.then(110*ms, func() {
				if s.state != writable {
					fail("not-promoted")
					return
				}
				ok()
			})
		})
	case agent.Checkpoint:
		f.then(rnd(200*ms), func() {
			if s.state != writable && s.state != recovering || s.hung > w.now {
				fail("not-running")
				return
			}
			if s.state == writable {
				s.ckpt = s.tl
			}
			ok()
		})
	case agent.Drain:
		f.then(rnd(int64(do.Grace)), func() {
			n.gate(s.db.name).gen++
			ok()
		})
	case agent.OpenWrites, agent.Slots:
		f.then(rnd(20*ms), func() {
			if s.state != writable || s.hung > w.now {
				fail("not-a-primary")
				return
			}
			ok()
		})
	case agent.Keep:
		n.keep(f, s, do, fail)
	case agent.List:
		n.list(f, s, do, fail)
	case agent.Rewind:
		n.rewind(f, s, do, fail)
	case agent.Copy:
		n.copy(f, s, do, fail)
	}
}

// stopFast sends the whole log to a connected standby, then ends.
func (s *server) stopFast() {
	if s.state == stopped || s.state == ending {
		return
	}
	if s.state != writable {
		s.halt(false)
		return
	}
	if s.hung > s.w.now { // a stopped process takes no signal
		return
	}
	s.write(-1, 120)
	s.ckpt = s.tl
	s.state = ending
	s.w.changed()
	gen := s.gen
	var finish func()
	finish = func() {
		if s.gen != gen {
			return
		}
		d := s.other()
		if d.linked && d.upstream == s && d.end() < s.end() {
			d.ship()
			s.w.after(50*ms, finish)
			return
		}
		s.halt(true)
	}
	s.w.after(20*ms+s.w.rng.Int64N(100*ms), finish)
}

func (n *node) keep(f *flight, s *server, do agent.Server, fail func(string)) {
	w := n.w
	if s.up() {
		f.then(ms, func() { fail("running") })
		return
	}
	name := "kept-" + do.Text
	if s.kept[name] != nil {
		f.then(5*ms, func() { f.ok(agent.Observed{Observation: n.observe(s), Text: name}) })
		return
	}
	f.then(w.rng.Int64N(3*sec)+50*ms, func() { // the copy gets its name when it is complete
		s.kept[name] = &keptCopy{log: slices.Clone(s.log), tl: s.tl}
		w.say("%s kept as %s, up to %X", s.name(), name, s.end())
		f.then(w.rng.Int64N(20*ms)+ms, func() { f.ok(agent.Observed{Observation: n.observe(s), Text: name}) })
	})
}

func (n *node) list(f *flight, s *server, do agent.Server, fail func(string)) {
	w := n.w
	f.then(w.rng.Int64N(2*sec)+50*ms, func() {
		k := s.kept[do.Text]
		if k == nil {
			fail("no-such-copy")
			return
		}
		var count int32
		var listed []int32
		for _, r := range k.log {
			if r.num >= 0 && r.end > uint64(do.Fork) {
				count++
				listed = append(listed, r.num)
			}
		}
		s.db.list(listed)
		w.say("%s lists %d commits after %X", s.name(), count, uint64(do.Fork))
		f.ok(agent.Observed{Observation: n.observe(s), Count: count})
	})
}

// source is the running primary at an address that a long operation reads.
func (n *node) source(do agent.Server) *server {
	u := n.w.at(do.Upstream)
	if u == nil || u.state != writable || u.hung > n.w.now || !n.w.joined(n.id, u.node) {
		return nil
	}
	return u
}

func (n *node) rewind(f *flight, s *server, do agent.Server, fail func(string)) {
	w := n.w
	u := n.source(do)
	switch {
	case s.up():
		f.then(ms, func() { fail("running") })
		return
	case u == nil:
		f.then(w.rng.Int64N(sec)+ms, func() { fail("source-unreachable") })
		return
	case s.dir != whole, w.plan.noRewind, u.tl.id == s.tl.id && u.tl != s.tl:
		f.then(w.rng.Int64N(100*ms)+ms, func() { fail("rewind-impossible") })
		return
	case u.ckpt != u.tl:
		f.then(w.rng.Int64N(100*ms)+ms, func() { fail("same-timeline") })
		return
	case u.tl == s.tl: // nothing diverged
		f.then(w.rng.Int64N(100*ms)+ms, func() {
			s.signal = true
			f.ok(agent.Observed{Observation: n.observe(s)})
		})
		return
	}
	f.then(w.rng.Int64N(100*ms)+ms, func() { n.replace(f, s, do, standby.ReasonCopying, 3*sec, fail) })
}

func (n *node) copy(f *flight, s *server, do agent.Server, fail func(string)) {
	w := n.w
	f.then(w.rng.Int64N(100*ms)+ms, func() {
		if n.source(do) == nil {
			fail("source-unreachable")
			return
		}
		if s.up() {
			s.halt(false)
		}
		n.replace(f, s, do, standby.ReasonCopying, 15*sec, fail)
	})
}

// replace fetches the source's cluster. The directory is marked from before
// the first change until it is a standby that may start.
func (n *node) replace(f *flight, s *server, do agent.Server, why string, longest int64, fail func(string)) {
	w := n.w
	s.dir, s.why, s.torn = marked, why, true
	if w.bugs.early(s) {
		f.ok(agent.Observed{Observation: n.observe(s)})
		return
	}
	w.say("%s is marked: %s", s.name(), do.Op)
	parts := 3
	var part func()
	part = func() {
		u := n.source(do)
		if u == nil {
			fail("source-lost")
			return
		}
		if parts--; parts > 0 {
			f.then(w.rng.Int64N(longest/3)+ms, part)
			return
		}
		w.discards(s, u)
		s.log, s.tl, s.ckpt = slices.Clone(u.log), u.tl, u.tl
		u.slotGone = false
		// All is there but standby.signal.
		f.then(w.rng.Int64N(50*ms)+ms, func() {
			s.signal, s.clean = true, false
			s.upstream = u
			f.then(w.rng.Int64N(20*ms)+ms, func() {
				s.dir, s.torn = whole, false
				w.say("%s has become a copy of %s", s.name(), u.name())
				f.ok(agent.Observed{Observation: n.observe(s)})
			})
		})
	}
	part()
}

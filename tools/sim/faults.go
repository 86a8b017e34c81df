package main

import (
	"komainu/appliance/agent"
	"komainu/failover/machine"
)

// trigger kills a box when it has entered a phase.
type trigger struct {
	node  int
	phase uint8
	power bool
	after int64 // ns, or
	acts  int   // actions
}

// arrange puts the seed's faults and orders into the queue.
func (w *world) arrange() {
	r := w.rng
	span := func(from, to int64) int64 { return from + r.Int64N(max(to-from, 1)) }
	for range w.plan.faults {
		at := span(15*sec, w.plan.heal-20*sec)
		w.after(at, w.fault)
	}
	if r.IntN(4) > 0 { // an outage with a write order and what follows
		from := span(20*sec, 120*sec)
		to := from + span(15*sec, 140*sec)
		w.after(from, func() { w.outage(to - w.now) })
		w.after(from+span(2*sec, 25*sec), func() { w.order(hall, w.draft(machine.Write)) })
		w.after(to+span(3*sec, 60*sec), func() { w.order(hall, w.draft(machine.SwitchDC)) })
		for range r.IntN(4) {
			w.triggers = append(w.triggers, w.trigger())
		}
	}
	for range 2 + r.IntN(7) {
		at := span(10*sec, w.plan.heal+20*sec)
		kinds := [...]machine.OrderKind{machine.SwitchLocal, machine.SwitchDC, machine.Write, machine.Write, machine.Hold, machine.Release, machine.AcceptOrphans, machine.Open}
		w.after(at, func() {
			for range 1 + r.IntN(5)/4 { // sometimes two at once
				w.anyOrder(kinds[r.IntN(len(kinds))])
			}
		})
	}
	w.after(w.plan.heal, w.healAll)
	w.after(5*sec, w.attend)
	w.after(auditEvery, w.auditing)
}

func (w *world) auditing() {
	w.audit()
	w.after(auditEvery, w.auditing)
}

func (w *world) draft(k machine.OrderKind) machine.Order {
	g := w.groups[w.rng.IntN(len(w.groups))]
	return machine.Order{Kind: k, Group: g.name, Reason: "the counter waits"}
}

func (w *world) anyOrder(k machine.OrderKind) {
	o := w.draft(k)
	switch k {
	case machine.Open:
		w.order(dcdb, o)
		return
	case machine.AcceptOrphans:
		o.Count = int32(w.rng.IntN(4))
	}
	w.order(hall, o)
}

func (w *world) trigger() trigger {
	r := w.rng
	t := trigger{node: hall, phase: uint8(r.IntN(14)), power: r.IntN(3) == 0}
	if r.IntN(2) == 0 {
		t.node, t.phase = dcdb, uint8(r.IntN(10))
	}
	if t.power || r.IntN(2) == 0 {
		t.after = r.Int64N(3 * sec)
	} else {
		t.acts = 1 + r.IntN(6)
	}
	return t
}

// entered fires the triggers of a phase.
func (w *world) entered(n *node, phase uint8) {
	if w.now >= w.plan.heal {
		return
	}
	for i := range w.triggers {
		t := w.triggers[i]
		if t.node != n.id || t.phase != phase {
			continue
		}
		w.triggers = append(w.triggers[:i], w.triggers[i+1:]...)
		w.checks.faults++
		switch {
		case t.acts > 0:
			n.crashIn = t.acts
		case t.power:
			w.after(t.after, func() { w.blink(n) })
		default:
			w.after(t.after, n.crashRestart)
		}
		return
	}
}

// blink cuts a box's power for a while.
func (w *world) blink(n *node) {
	n.powerOff()
	w.after(sec+w.rng.Int64N(20*sec), n.powerOn)
}

// outage makes the DC unusable for a time, in one of several ways.
func (w *world) outage(d int64) {
	w.checks.faults++
	switch w.rng.IntN(6) {
	case 0, 1, 2:
		w.cut(mainLine, 2, d)
		w.cut(altLine, 2, d)
	case 3:
		w.say("the DC's database host is off")
		n := w.nodes[dcdb]
		n.powerOff()
		w.after(d, n.powerOn)
	case 4:
		w.cut(mainLine, w.rng.IntN(2), d)
		w.cut(altLine, w.rng.IntN(2), d)
	case 5:
		w.cut(lan, 2, d)
	}
}

// cut closes one way (0, 1) or both (2) of a line for a time.
func (w *world) cut(l, which int, d int64) {
	w.say("line %s is cut, way %d, for %d ms", w.lines[l].name, which, d/ms)
	for i := range w.lines[l].ways {
		if which == 2 || which == i {
			way := &w.lines[l].ways[i]
			way.cut++
			w.after(d, func() { way.cut-- })
		}
	}
}

// fault makes one thing go wrong, and right again before the heal.
func (w *world) fault() {
	r := w.rng
	w.checks.faults++
	d := 200*ms + r.Int64N(2*sec)
	if r.IntN(2) == 0 {
		d = sec + r.Int64N(50*sec)
	}
	d = min(d, w.plan.heal-w.now-sec)
	l := r.IntN(3)
	n := w.nodes[r.IntN(3)]
	db := w.dbs[r.IntN(len(w.dbs))]
	way := &w.lines[l].ways[r.IntN(2)]
	switch r.IntN(24) {
	case 0, 1:
		w.cut(l, r.IntN(3), d)
	case 2, 3:
		w.cut(mainLine, 2, d)
		w.cut(altLine, 2, d)
	case 4:
		w.say("line %s loses packets", w.lines[l].name)
		p := 0.05 + 0.6*r.Float64()
		way.loss += p
		w.after(d, func() { way.loss = max(0, way.loss-p) })
	case 5:
		w.say("line %s is late", w.lines[l].name)
		late, spread := r.Int64N(900*ms), r.Int64N(900*ms)
		way.delay, way.jitter = way.delay+late, way.jitter+spread
		w.after(d, func() { way.delay, way.jitter = way.delay-late, way.jitter-spread })
	case 6:
		w.say("line %s doubles packets", w.lines[l].name)
		way.dup += 0.5
		w.after(d, func() { way.dup -= 0.5 })
	case 7:
		n.crashRestart()
	case 8:
		n.restart()
	case 9, 10:
		w.blink(n)
	case 11:
		if n.ag != nil {
			n.crashIn = 1 + r.IntN(30)
		}
	case 12:
		stall := min(d, 6*sec)
		w.say("%s stalls for %d ms", nodeNames[n.id], stall/ms)
		n.stalled = max(n.stalled, w.now+stall)
		n.stalledAt = n.stalled
	case 13:
		w.say("the disk of %s is slow", nodeNames[n.id])
		slow := 50*ms + r.Int64N(3*sec)
		n.slow += slow
		w.after(d, func() { n.slow -= slow; n.stalledAt = w.now })
	case 14:
		w.say("the disk of %s fails", nodeNames[n.id])
		p := 0.2 + 0.8*r.Float64()
		n.badDisk += p
		w.after(d, func() { n.badDisk = max(0, n.badDisk-p-1e-9); n.stalledAt = w.now })
	case 15, 16:
		w.say("actions of %s end oddly", nodeNames[n.id])
		n.flaky += 0.2
		w.after(d, func() { n.flaky = max(0, n.flaky-0.2-1e-9); n.stalledAt = w.now })
	case 17:
		jump := r.Int64N(20*60*sec) - 10*60*sec
		if r.IntN(4) == 0 {
			jump *= 20
			w.checks.jumped = true
		}
		w.say("the wall clock of %s jumps by %d s", nodeNames[n.id], jump/sec)
		n.wallOff += jump
	case 18:
		n.setRate(r.Int64N(200_001) - 100_000)
		w.say("the clock of %s runs %d ppm fast", nodeNames[n.id], n.ppm)
	case 19:
		s := db.sides[r.IntN(2)]
		w.say("%s crashes", s.name())
		s.halt(false)
	case 20:
		s := db.sides[r.IntN(2)]
		if s.up() {
			w.say("%s hangs for %d ms", s.name(), d/ms)
			s.hung = w.now + d
			gen := s.gen
			w.after(d+ms, func() {
				if s.gen == gen {
					w.changed()
				}
			})
			w.changed()
		}
	case 22:
		s := db.sides[1]
		if s.state == writable {
			w.say("the slot of the standby of %s is lost", db.name)
			s.slotGone = true
			if o := s.other(); o.upstream == s && o.linked {
				o.hangUp()
				o.redial()
			}
		}
	case 23:
		s := db.sides[0]
		if s.signal && s.db.group.watch.rec.Phase == 0 {
			w.say("the data directory of %s is gone", s.name())
			s.halt(false)
			s.dir, s.torn, s.log, s.tl = absent, false, nil, nil
		}
	case 21:
		if r.IntN(2) == 0 {
			w.say("the town hall's LAN has no carrier")
			w.lanDown = true
			w.deliver(w.nodes[hall], agent.Carrier{Link: "office"})
			w.after(d, func() {
				w.lanDown, w.lanSettled = false, w.now+max(3*w.plan.detection(), 5*sec)
				w.deliver(w.nodes[hall], agent.Carrier{Link: "office", Up: true})
			})
			return
		}
		s := db.sides[1]
		w.say("a transaction with many subtransactions is open on %s", db.name)
		s.overflow, db.overflowed = true, true
		w.after(d, func() {
			s.overflow, db.overflowed = false, false
			if o := s.other(); o.stuck && o.linked {
				o.opened()
			}
		})
	}
}

// healAll ends what faults there still are.
func (w *world) healAll() {
	w.say("all faults are healed")
	w.triggers = nil
	for _, n := range w.nodes {
		n.crashIn = 0
		n.powerOn()
		w.after(3*sec, n.start)
	}
}

// attend is the operator who comes by every few seconds: accepts orphans, and
// after the heal brings groups back, in the seeds where somebody is so kind.
func (w *world) attend() {
	r := w.rng
	w.after(4*sec+r.Int64N(8*sec), w.attend)
	healed := w.now > w.plan.heal+5*sec && w.plan.helpful && w.now < w.plan.end-100*sec
	for _, g := range w.groups {
		rec := w.nodes[hall].groups[g.name]
		var orphans int32
		waiting := false
		for _, db := range g.dbs {
			if d := w.nodes[dcdb].databases[db.name]; d.Phase == machine.Awaiting {
				waiting = true
			}
			orphans += max(0, w.nodes[dcdb].databases[db.name].Orphans)
		}
		o := machine.Order{Group: g.name, Reason: "as agreed"}
		switch {
		case waiting && (r.IntN(3) == 0 || healed):
			o.Kind, o.Count = machine.AcceptOrphans, orphans
			if r.IntN(4) == 0 {
				o.Count++
			}
		case healed && rec.Hold:
			o.Kind = machine.Release
		case healed && (rec.Phase == machine.LocalWrite || rec.Phase == machine.LocalRead && rec.Pinned):
			o.Kind = machine.SwitchDC
		default:
			continue
		}
		w.order(hall, o)
	}
}

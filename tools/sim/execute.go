package main

import (
	"komainu/appliance/agent"
	"komainu/failover/machine"
)

// fate is how an action is made to end.
type fate uint8

const (
	fair fate = iota
	failing
	unknownUndone
	unknownDone
	unknownLate // reported first, done afterwards
)

// flight is an action that is being executed.
type flight struct {
	n      *node
	gen    int
	act    agent.Action
	fate   fate
	ended  bool
	next   func()
	torn   func() // what a crash of the agent leaves
	cancel bool
}

// execute does what the shell does with an action.
func (n *node) execute(a agent.Action) {
	w := n.w
	if m, ok := a.Do.(agent.SendBeat); ok {
		w.checkBeat(n, m.Message)
		for l := range w.lines {
			if w.lines[l].name == m.Path {
				w.datagram(l, n.id, m.Message)
			}
		}
		return
	}
	w.logAction(n, a)
	switch do := a.Do.(type) {
	case agent.Note, agent.Alarm:
		return
	case agent.Cancel:
		if f := n.flights[do.Target]; f != nil {
			f.cancel = true
			w.after(w.rng.Int64N(50*ms)+ms, func() {
				if !f.ended {
					if f.torn != nil {
						f.torn()
					}
					f.end(agent.Unknown, "cancelled", n.maybeLook(f))
				}
			})
		}
		return
	case agent.Answer:
		n.answer(do.Reply)
		return
	}
	f := &flight{n: n, gen: n.gen, act: a}
	n.flights[a.ID] = f
	if n.flaky > 0 && w.chance(n.flaky) {
		f.fate = fate(1 + w.rng.IntN(4))
	}
	if w.bugs.executing(f) {
		return
	}
	w.after(max(n.when(a.Deadline)-w.now, ms), func() {
		if f.ended || f.gen != n.gen {
			return
		}
		f.cancel = true
		if f.torn != nil {
			f.torn()
		}
		f.end(agent.Unknown, "deadline", n.maybeLook(f))
	})
	switch f.fate {
	case failing:
		f.then(w.rng.Int64N(20*ms)+ms, func() { f.end(agent.Failed, "injected", n.maybeLook(f)) })
		return
	case unknownUndone:
		f.then(w.rng.Int64N(sec)+ms, func() { f.end(agent.Unknown, "injected", n.maybeLook(f)) })
		return
	}
	n.run(f)
}

// then continues f after a while, if it still runs by then.
func (f *flight) then(d int64, do func()) {
	f.next = do
	f.n.w.q.push(item{at: f.n.w.now + d, kind: doStep, node: uint8(f.n.id), p: f})
}

func (f *flight) resume() {
	if f.ended || f.cancel || f.gen != f.n.gen {
		return
	}
	f.next()
}

// end reports the result.
func (f *flight) end(o agent.Outcome, code string, value any) {
	if f.ended || f.gen != f.n.gen {
		return
	}
	f.ended = true
	delete(f.n.flights, f.act.ID)
	if o == agent.OK && f.fate == unknownDone {
		o, code = agent.Unknown, "injected"
		if f.n.w.chance(0.5) {
			value = nil
		}
	}
	d := agent.Done{ID: f.act.ID, Outcome: o, Code: code, Value: value}
	f.n.w.bugs.done(f, &d)
	f.n.step(d)
}

func (f *flight) ok(value any) { f.end(agent.OK, "", value) }

// maybeLook is the observation that comes with a result that isn't OK.
func (n *node) maybeLook(f *flight) any {
	if s, ok := f.act.Do.(agent.Server); ok && n.w.chance(0.7) {
		return agent.Observed{Observation: n.observe(n.w.server(n.id, s.Database))}
	}
	return nil
}

func (n *node) run(f *flight) {
	w := n.w
	switch do := f.act.Do.(type) {
	case agent.SaveGroup:
		n.save(f, func() { n.groups[do.Record.Group] = do.Record })
	case agent.SaveDatabase:
		n.save(f, func() { n.databases[do.Record.Database] = do.Record })
	case agent.Steer:
		f.then(w.rng.Int64N(3*ms)+300*us, func() {
			n.table = do.Table
			w.steered()
			f.ok(nil)
		})
	case agent.Retire:
		f.then(w.rng.Int64N(10*ms)+ms, func() {
			w.retire(do)
			f.then(w.rng.Int64N(50*ms)+ms, func() { f.ok(agent.Retired{}) })
		})
	case agent.Prove:
		f.then(w.rng.Int64N(20*ms)+ms, func() { f.ok(nil) })
	case agent.SetNetwork:
		f.then(w.rng.Int64N(30*ms)+ms, func() { f.ok(agent.Applied{}) })
	case agent.SetAddresses:
		f.then(ms, func() { f.ok(nil) })
	case agent.SetRoutes:
		f.then(w.rng.Int64N(2*ms)+300*us, func() {
			n.carries = [3]int{-1, -1, -1}
			for _, r := range do.Routes {
				for to := range n.w.nodes {
					if r.To.Contains(address(to)) {
						n.carries[to] = w.lineOf(r.Link)
					}
				}
			}
			if n.id == hall { // the database host is behind the edge
				n.carries[dcdb] = n.carries[edge]
			}
			f.ok(nil)
		})
	case agent.SetGate:
		n.setGate(f, do)
	case agent.Server:
		n.operate(f, do)
	case agent.SendOrder:
		n.send(f, do)
	}
}

// save makes a record durable. A crash on the way leaves either.
func (n *node) save(f *flight, write func()) {
	w := n.w
	if n.badDisk > 0 && w.chance(n.badDisk) {
		f.then(w.rng.Int64N(100*ms)+ms, func() { f.end(agent.Failed, "disk-full", nil) })
		return
	}
	f.torn = func() {
		if w.chance(0.5) {
			write()
			w.saved(n)
		}
	}
	took := w.rng.Int64N(3*ms) + 500*us
	if n.slow > 0 {
		took += w.rng.Int64N(n.slow)
	}
	f.then(took, func() {
		write()
		f.torn = nil
		w.saved(n)
		f.ok(nil)
	})
}

// setGate closes at once; destroying the sockets takes longer.
func (n *node) setGate(f *flight, do agent.SetGate) {
	w := n.w
	f.then(w.rng.Int64N(2*ms)+200*us, func() {
		g := n.gate(do.Gate.Name)
		if do.Gate.Open && f.act.Term < n.term(w.database(do.Gate.Name)) {
			f.end(agent.Failed, "stale-term", nil)
			return
		}
		g.orders++
		if w.bugs.gate(n, do) {
			f.ok(nil)
			return
		}
		g.set, g.open, g.epoch = true, do.Gate.Open, do.Gate.Epoch
		w.changed()
		if !do.Sever {
			f.ok(nil)
			return
		}
		f.then(w.rng.Int64N(10*ms)+500*us, func() {
			g.gen++
			f.ok(nil)
		})
	})
}

// send carries an order to another box and its reply back.
func (n *node) send(f *flight, do agent.SendOrder) {
	w := n.w
	to := w.nodeOf(do.Peer)
	took, ok := w.stream(n.id, to)
	back, ok2 := w.stream(to, n.id)
	if !ok || !ok2 {
		return // until the deadline
	}
	w.after(took+back+took, func() { // a handshake first
		p := w.nodes[to]
		if p.ag == nil {
			if p.power {
				w.after(back, func() { f.end(agent.Failed, "refused", nil) })
			}
			return
		}
		id := do.Order.ID
		p.asked[id] = append(p.asked[id], func(r machine.Reply) {
			if back, ok := w.stream(to, n.id); ok {
				w.after(back, func() { f.ok(r) })
			}
		})
		w.deliver(p, agent.Ordered{From: nodeNames[n.id], Order: do.Order})
	})
}

func (n *node) answer(r machine.Reply) {
	waiting := n.asked[r.ID]
	delete(n.asked, r.ID)
	for _, f := range waiting {
		f(r)
	}
}

package main

import (
	"komainu/appliance/agent"
	"komainu/failover/machine"
)

// bug is a known mistake that a test plants between the agent and the world,
// to prove that the checkers find it.
type bug uint8

const (
	noBug           bug = iota
	termNotSaved        // a record with a higher term is reported durable and isn't: promote without term
	gateLate            // a gate is reported closed and closes seconds later: swap before gate
	fenceForgotten      // after a power cycle the DC's server runs as a primary behind no gate
	startedTooEarly     // a directory is reported rewound or copied when it is half done, and isn't marked
	unknownIsOK         // every unknown result is reported as success
	unknownIsFailed     // a grant whose result is unknown is taken for failed, and authority taken back
	voucherNotSaved     // the voucher stays in memory
	bugCount
)

var bugNames = [...]string{"none", "promote without term", "swap before gate", "forget the fence on restart",
	"rewound directory started too early", "unknown taken for success", "unknown taken for failed", "voucher not persisted"}

type bugs struct {
	plant     bug
	beforeOwn map[string]machine.Record // unknownIsFailed: the last record under which the town hall held authority
}

func (b *bugs) started(n *node, s *agent.Started) {
	if b.plant != fenceForgotten || n.id != dcdb {
		return
	}
	for _, r := range s.Databases {
		if r.Phase == machine.Serving {
			s.Gates[r.Database] = r.Epoch
		}
	}
}

func (b *bugs) booted(n *node) {
	if b.plant != fenceForgotten || n.id != dcdb {
		return
	}
	for _, db := range n.w.dbs {
		if s := db.sides[1]; s.dir == whole && !s.signal && s.state == stopped {
			s.launch()
		}
	}
}

// executing may change what is executed, or do without.
func (b *bugs) executing(f *flight) (done bool) {
	do, ok := f.act.Do.(agent.SaveGroup)
	if !ok {
		return false
	}
	switch b.plant {
	case termNotSaved:
		if do.Record.Term > f.act.Term {
			f.fate = fair
			f.then(ms, func() { f.ok(nil) })
			return true
		}
	case voucherNotSaved:
		do.Record.Voucher = nil
		f.act.Do = do
	case unknownIsFailed:
		if do.Record.Phase == machine.Handing {
			if b.beforeOwn == nil {
				b.beforeOwn = map[string]machine.Record{}
			}
			b.beforeOwn[do.Record.Group] = do.Record
		}
	}
	return false
}

func (b *bugs) done(f *flight, d *agent.Done) {
	if d.Outcome != agent.Unknown {
		return
	}
	n := f.n
	switch b.plant {
	case unknownIsOK:
		d.Outcome = agent.OK
		if s, ok := f.act.Do.(agent.Server); ok {
			d.Value = agent.Observed{Observation: n.observe(n.w.server(n.id, s.Database))}
		}
	case unknownIsFailed:
		do, ok := f.act.Do.(agent.SendOrder)
		if rec, known := b.beforeOwn[do.Order.Group]; ok && known && n.id == hall && do.Order.Kind == machine.Promote {
			n.groups[do.Order.Group] = rec
			n.crashRestart()
		}
	}
}

// gate says that a gate's change was only reported.
func (b *bugs) gate(n *node, do agent.SetGate) bool {
	if b.plant != gateLate || do.Gate.Open {
		return false
	}
	g := n.gate(do.Gate.Name)
	orders := g.orders
	n.w.after(3*sec, func() {
		if g.orders != orders {
			return
		}
		g.set, g.open = true, false
		g.gen++
		n.w.changed()
	})
	return true
}

// early reports a replaced directory when it is half done.
func (b *bugs) early(s *server) bool {
	if b.plant != startedTooEarly {
		return false
	}
	s.dir = whole
	return true
}

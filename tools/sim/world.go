package main

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"komainu/appliance/agent"
	"komainu/failover/detect"
	"komainu/failover/machine"
)

// Units of the world's time.
const (
	us  int64 = 1000
	ms        = 1000 * us
	sec       = 1000 * ms
)

const wallStart = 1_790_000_000 * sec

// world is one town in one run.
type world struct {
	seed      uint64
	plan      plan
	rng       *rand.Rand
	now       int64
	q         queue
	nodes     [3]*node
	lines     [3]line
	groups    []*group
	dbs       []*database
	servers   []*server
	byAddress map[string]*server
	clients   []client
	writes    []writing
	acked     int
	orders    []*placed
	triggers  []trigger
	lanDown   bool
	// lanSettled is when the town hall's box trusts its LAN again after it came back
	// (detect.JudgeConfig.LANSettle).
	lanSettled int64
	bugs       bugs
	checks     checks
	story      story
	steps      int
	events     int
	failure    string
}

func newWorld(seed uint64) *world {
	w := &world{seed: seed, rng: rand.New(rand.NewPCG(seed, 0x6b6f6d61696e75)), byAddress: map[string]*server{}}
	w.plan = draw(w.rng)
	w.build()
	return w
}

func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

func (w *world) after(d int64, do func()) { w.q.push(item{at: w.now + d, kind: doFunc, p: do}) }

// run plays the plan to its end or the first failure.
func (w *world) run() {
	for _, n := range w.nodes {
		n.after(w.rng.Int64N(500*ms), n.start)
		if n.id != edge {
			for _, db := range w.dbs {
				w.q.push(item{at: w.rng.Int64N(w.plan.look), kind: doLook, node: uint8(n.id), n: int32(db.id)})
			}
		}
	}
	for _, db := range w.dbs {
		w.q.push(item{at: w.rng.Int64N(sec), kind: doProbe, node: hall, n: int32(db.id)})
	}
	for i := range w.clients {
		w.q.push(item{at: sec + w.rng.Int64N(sec), kind: doTurn, n: int32(i)})
	}
	w.arrange()
	for w.failure == "" {
		var due *node
		at := w.plan.end
		if len(w.q.items) > 0 {
			at = min(at, w.q.items[0].at)
		}
		for _, n := range w.nodes {
			if t := max(n.tick, n.stalled); n.ag != nil && t < at {
				due, at = n, t
			}
		}
		w.now = max(w.now, at)
		if at >= w.plan.end {
			break
		}
		w.events++
		if due != nil {
			due.step(agent.Tick{Wall: due.wall(w.now)})
			continue
		}
		w.handle(w.q.pop())
	}
	if w.failure == "" {
		w.judgeEnd()
	}
}

func (n *node) after(d int64, do func()) { n.w.after(d, do) }

func (w *world) handle(it item) {
	switch it.kind {
	case doBeat, doLook, doProbe, doStep:
		if n := w.nodes[it.node]; n.stalledNow() { // waits until the process runs again
			it.at = n.stalled
			w.q.push(it)
			return
		}
	}
	switch it.kind {
	case doFunc:
		it.p.(func())()
	case doBeat:
		n := w.nodes[it.node]
		if n.ag != nil {
			n.step(agent.Beat{Path: w.lines[it.n].name, Message: it.p.(*detect.Message)})
		}
	case doLook:
		w.look(it)
	case doProbe:
		w.probe(it)
	case doTurn:
		w.turn(int(it.n))
	case doCommit:
		w.commit(it.n)
	case doReply:
		w.reply(it.n)
	case doShip:
		w.servers[it.n].arrive()
	case doStep:
		it.p.(*flight).resume()
	}
}

// deliver gives an event to a node's agent, when it runs.
func (w *world) deliver(n *node, ev agent.Event) {
	if n.stalledNow() {
		w.after(n.stalled-w.now, func() { w.deliver(n, ev) })
		return
	}
	n.step(ev)
}

func (w *world) look(it item) {
	n := w.nodes[it.node]
	it.at = w.now + w.plan.look
	w.q.push(it)
	db := w.dbs[it.n]
	if n.ag == nil || n.operating(db.name) {
		return
	}
	s := db.sides[0]
	if n.id == dcdb {
		s = db.sides[1]
	}
	n.step(agent.Looked{Database: db.name, Observation: n.observe(s)})
}

// operating says whether an operation on a server is under way; looks and
// operations never overlap.
func (n *node) operating(db string) bool {
	for _, f := range n.flights {
		if s, ok := f.act.Do.(agent.Server); ok && s.Database == db {
			return true
		}
	}
	return false
}

func (w *world) probe(it item) {
	n := w.nodes[hall]
	it.at = w.now + w.plan.probe
	w.q.push(it)
	if n.ag == nil {
		return
	}
	db := w.dbs[it.n]
	s := db.sides[1]
	e := agent.Probed{Service: db.name}
	switch {
	case !w.joined(hall, dcdb):
		e.Code = "timeout"
	case s.state != writable || s.hung > w.now:
		e.Code = "refused"
	case !w.nodes[dcdb].gate(db.name).lets():
		e.Code = "refused"
	default:
		e.OK = true
	}
	n.step(e)
}

func (w *world) server(node int, db string) *server {
	d := w.database(db)
	if node == hall {
		return d.sides[0]
	}
	return d.sides[1]
}

func (w *world) database(name string) *database {
	for _, d := range w.dbs {
		if d.name == name {
			return d
		}
	}
	return nil
}

func (w *world) at(addr string) *server { return w.byAddress[addr] }

func (w *world) nodeOf(name string) int { return slices.Index(nodeNames[:], name) }

func (w *world) lineOf(name string) int {
	for i := range w.lines {
		if w.lines[i].name == name {
			return i
		}
	}
	return -1
}

func sortStrings(s []string) { slices.Sort(s) }

// placed is an order that was given to a node.
type placed struct {
	at       int64
	node     int
	gen      int // of the agent's process
	order    machine.Order
	answered bool
	reply    machine.Reply
}

// order gives an operator's order to a node's agent.
func (w *world) order(node int, o machine.Order) {
	n := w.nodes[node]
	if n.ag == nil {
		return
	}
	o.ID = fmt.Sprintf("op-%d", len(w.orders)+1)
	o.By = "tanaka"
	p := &placed{at: w.now, node: node, gen: n.gen, order: o}
	w.orders = append(w.orders, p)
	n.asked[o.ID] = append(n.asked[o.ID], func(r machine.Reply) {
		p.answered, p.reply = true, r
	})
	w.say("operator at %s orders %s %s count %d", nodeNames[node], o.Kind, o.Group, o.Count)
	w.deliver(n, agent.Ordered{Order: o})
}

// fail ends the run with a violation of an invariant.
func (w *world) fail(format string, args ...any) {
	if w.failure == "" {
		w.failure = fmt.Sprintf(format, args...)
		w.say("VIOLATION %s", w.failure)
	}
}

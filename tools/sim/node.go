package main

import (
	"maps"

	"komainu/appliance/agent"
	"komainu/failover/machine"
	"komainu/netstack/steer"
	"komainu/ntp/instant"
)

// The nodes, and the lines between them.
const (
	hall = iota
	edge
	dcdb
)

const (
	mainLine = iota
	altLine
	lan
)

var nodeNames = [...]string{"hinata-cho", "dc-edge", "dc-db"}

// node is one box: its agent, its clocks, its disk, its kernel.
type node struct {
	w    *world
	id   int
	spec agent.Spec

	power bool
	ag    *agent.Agent // nil: not running
	gen   int          // grows with every start and end of the agent
	boot  uint64
	tick  int64 // when the agent wants to run; never: it doesn't

	// The boot clock: base at since, and so many ns more per 1e6 ns.
	since, base, ppm int64
	wallOff          int64

	poweredAt int64 // when the box was last switched on
	bootedAt  int64 // when the agent started
	stalled   int64 // until when the process doesn't run
	stalledAt int64 // end of the last stall or slow phase, for the checkers
	slow      int64 // what a save takes more
	flaky     float64
	badDisk   float64
	crashIn   int // crash after so many more actions; 0: no

	groups    map[string]machine.Record // disk
	databases map[string]machine.DCRecord
	told      map[string]uint64 // highest term told to others

	table   steer.Table // kernel
	gates   map[string]*gate
	carries [3]int // to node → line, -1: no route

	flights map[uint64]*flight
	asked   map[string][]func(machine.Reply)
}

// gate is the kernel's for one database; without one everybody gets in.
type gate struct {
	set    bool
	open   bool
	epoch  uint16
	orders int // how often it was told something
	gen    int // grows when the sockets of clients are destroyed
}

func (g *gate) lets() bool { return !g.set || g.open }

const never = int64(1) << 62

func (n *node) instant(at int64) instant.Instant {
	d := at - n.since
	return instant.Instant(n.base + d + d/1000*n.ppm/1000)
}

// when is the first time of the world at which the boot clock shows i.
func (n *node) when(i instant.Instant) int64 {
	d := int64(i) - n.base
	at := n.since + d - d/(1000000+n.ppm)*n.ppm
	for n.instant(at) < i {
		at += max(1000, (int64(i)-int64(n.instant(at)))/2)
	}
	return at
}

func (n *node) wall(at int64) int64 { return wallStart + at + n.wallOff }

// setRate changes how fast the clock runs, without a step.
func (n *node) setRate(ppm int64) {
	n.base, n.since, n.ppm = int64(n.instant(n.w.now)), n.w.now, ppm
	if n.ag != nil {
		n.schedule()
	}
}

// start starts the agent with what is on disk and in the kernel.
func (n *node) start() {
	if !n.power || n.ag != nil {
		return
	}
	n.gen++
	n.bootedAt = n.w.now
	n.boot = n.w.rng.Uint64() | 1
	n.flights, n.asked = map[uint64]*flight{}, map[string][]func(machine.Reply){}
	n.ag = agent.New(n.spec)
	s := agent.Started{Boot: n.boot, Wall: n.wall(n.w.now), Gates: map[string]uint16{}}
	for _, g := range n.w.groups {
		if r, ok := n.groups[g.name]; ok {
			s.Groups = append(s.Groups, r)
		}
	}
	for _, db := range n.w.dbs {
		if r, ok := n.databases[db.name]; ok {
			s.Databases = append(s.Databases, r)
		}
		if g := n.gates[db.name]; g != nil && g.set && g.open {
			s.Gates[db.name] = g.epoch
		}
	}
	n.w.bugs.started(n, &s)
	n.w.say("%s agent starts", nodeNames[n.id])
	n.step(s)
}

// crash ends the agent's process; what runs in the kernel and the servers stay.
func (n *node) crash() {
	if n.ag == nil {
		return
	}
	n.w.say("%s AGENT CRASHES", nodeNames[n.id])
	n.ag, n.tick, n.crashIn = nil, never, 0
	n.gen++
	for _, f := range n.flights {
		if f.torn != nil {
			f.torn()
		}
	}
	n.flights = nil
	n.w.crashed(n)
}

// powerOff ends everything on the box.
func (n *node) powerOff() {
	if !n.power {
		return
	}
	n.w.say("%s LOSES POWER", nodeNames[n.id])
	n.crash()
	n.power = false
	n.table, n.carries = steer.Table{}, [3]int{-1, -1, -1}
	for _, name := range sortedKeys(n.gates) {
		n.gates[name].gen++
		n.gates[name].set, n.gates[name].open = false, false
	}
	for _, s := range n.w.servers {
		if s.node == n.id {
			s.halt(false)
		}
	}
	n.w.changed()
}

// powerOn starts the box; its boot clock begins anew.
func (n *node) powerOn() {
	if n.power {
		return
	}
	n.power, n.poweredAt = true, n.w.now
	n.since, n.base = n.w.now, 3*sec
	n.w.say("%s boots", nodeNames[n.id])
	n.w.bugs.booted(n)
	n.start()
}

func (n *node) step(ev agent.Event) {
	if n.ag == nil {
		return
	}
	w := n.w
	w.steps++
	w.log(n, ev)
	gen := n.gen
	for _, a := range n.ag.Step(n.instant(w.now), ev) {
		if n.crashIn > 0 {
			if n.crashIn--; n.crashIn == 0 {
				n.crashRestart()
				return
			}
		}
		n.execute(a)
		if n.gen != gen {
			return
		}
	}
	n.schedule()
	w.check(n)
}

// schedule has the next tick come when the agent asked for it, a bit late as
// on a real box.
func (n *node) schedule() {
	n.tick = max(n.when(n.ag.Next()), n.w.now+100*us) + n.w.rng.Int64N(500*us)
}

func (n *node) crashRestart() {
	n.crash()
	n.w.after(100*ms+n.w.rng.Int64N(3*sec), n.start)
}

// restart is what a new configuration may ask for: the process ends on purpose,
// which its peers are told, and another follows at once.
func (n *node) restart() {
	if n.ag == nil || n.stalledNow() {
		return
	}
	n.w.say("%s starts its agent anew", nodeNames[n.id])
	n.step(agent.Stopping{})
	n.crash()
	n.w.after(20*ms+n.w.rng.Int64N(sec/2), n.start)
}

// stalledNow says whether the process doesn't run now.
func (n *node) stalledNow() bool { return n.stalled > n.w.now }

func (n *node) gate(db string) *gate {
	g := n.gates[db]
	if g == nil {
		g = &gate{}
		n.gates[db] = g
	}
	return g
}

// term is the durable term under which this box may act on a database.
func (n *node) term(db *database) uint64 {
	if n.id == hall {
		if r, ok := n.groups[db.group.name]; ok {
			return r.Term
		}
		return 1
	}
	if r, ok := n.databases[db.name]; ok {
		return r.Term
	}
	return 1
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range maps.Keys(m) {
		keys = append(keys, k)
	}
	sortStrings(keys)
	return keys
}

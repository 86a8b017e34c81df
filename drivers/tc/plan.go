package tc

import (
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"komainu/netstack/qos"
)

// step is one change: a message to the kernel.
type step struct {
	kind  uint16 // unix.RTM_...
	flags uint16
	body  []byte
	noun  string
	id    uint16 // of the class that it is about; 0: the root
}

// String says what is done, for errors.
func (s step) String() string {
	if s.id == 0 {
		return s.noun
	}
	return fmt.Sprintf("%s %x", s.noun, s.id)
}

// carryOut does steps in order, many at once. The first of a sort goes alone, then
// ever more: what a kernel doesn't know at all it refuses once, not for each peer.
func (c *Conn) carryOut(steps []step) error {
	for size := 1; len(steps) > 0; size = min(max(1, 8*size), batch) {
		n := 1
		for n < min(len(steps), size) && steps[n].noun == steps[0].noun {
			n++
		}
		if err := c.wire.exchange(steps[:n]); err != nil {
			return err
		}
		if n < len(steps) && steps[n].noun != steps[0].noun {
			size = 0
		}
		steps = steps[n:]
	}
	return nil
}

const leafKind = "fq_codel"

// handleRoot is TC_H_ROOT, the parent of a root.
const handleRoot = 0xffffffff

// difference is what leads from s to t, in order. Another kind of queue, or none
// of ours, begins anew; so does a tree whose rest goes elsewhere.
func (s state) difference(index uint32, t qos.Tree) []step {
	if t.Kind == qos.CAKE {
		return s.toCake(index, t)
	}
	var steps []step
	if s.kind != qos.HTB || s.rest != t.Rest {
		steps = append(steps, s.anew(index, "htb", htbOptions(t.Rest))...)
		s.nodes, s.leafs = nil, nil
	}
	wanted := make(map[uint16]uint16, len(t.Nodes)) // parents
	for _, n := range t.Nodes {
		wanted[n.ID] = n.Parent
	}
	// What must go, goes first: a class can't move to another parent. Children have
	// greater numbers than their parents, but for the root.
	for _, id := range slices.Backward(slices.Sorted(maps.Keys(s.nodes))) {
		if parent, ok := wanted[id]; ok && parent == s.nodes[id].parent {
			continue
		}
		steps = append(steps, step{kind: unix.RTM_DELTCLASS, body: head(index, handle(id), handle(s.nodes[id].parent)), noun: "remove class", id: id})
		delete(s.nodes, id)
		delete(s.leafs, id)
	}
	for _, n := range t.Nodes {
		opt := options(n, t.Overhead)
		if have, ok := s.nodes[n.ID]; ok && same(have.opt, opt) {
			continue
		}
		steps = append(steps, step{kind: unix.RTM_NEWTCLASS, flags: unix.NLM_F_CREATE, body: object(index, handle(n.ID), handle(n.Parent), "htb", opt.options()), noun: "class", id: n.ID})
	}
	for _, n := range t.Nodes {
		if !n.Leaf {
			continue
		}
		want := queue(n)
		have, there := s.leafs[n.ID]
		if there && have.same(want) {
			continue
		}
		// A queue that is there is changed, with what waits in it.
		steps = append(steps, step{kind: unix.RTM_NEWQDISC, flags: unix.NLM_F_CREATE | unix.NLM_F_REPLACE, body: object(index, 0, handle(n.ID), leafKind, want.options(there)), noun: "queue of class", id: n.ID})
	}
	return steps
}

// anew puts a root of ours in the place of what stands there.
func (s state) anew(index uint32, kind string, options []byte) []step {
	var steps []step
	if s.kind != "" {
		steps = append(steps, drop(index))
	}
	return append(steps, step{kind: unix.RTM_NEWQDISC, flags: unix.NLM_F_CREATE | unix.NLM_F_REPLACE, body: object(index, handle(0), handleRoot, kind, options), noun: kind})
}

// drop takes our root and all below it.
func drop(index uint32) step {
	return step{kind: unix.RTM_DELQDISC, body: head(index, handle(0), handleRoot), noun: "remove the old queues"}
}

func (s state) toCake(index uint32, t qos.Tree) []step {
	want := cake{rate: t.Rate / 8, overhead: uint32(t.Overhead), diffServ: cakeBestEffort}
	switch {
	case s.kind != qos.CAKE:
		return s.anew(index, "cake", want.options())
	case s.cake == want:
		return nil
	}
	return []step{{kind: unix.RTM_NEWQDISC, body: object(index, handle(0), handleRoot, "cake", want.options()), noun: "cake"}}
}

// cakeBestEffort is CAKE_DIFFSERV_BESTEFFORT: one tin, fair between hosts and
// their flows.
const cakeBestEffort = 3

// ethernet is TC_LINKLAYER_ETHERNET: lengths need no table.
const ethernet = 1

// ticks of the kernel's packet scheduler in a nanosecond (PSCHED_SHIFT).
const tickShift = 6

// options are those of a node. HTB counts bytes per second and wants to know how
// long a burst takes.
func options(n qos.Node, overhead int) htbClass {
	long := func(bits uint64) uint32 {
		return uint32(uint64(n.Burst) * 1e9 / max(bits/8, 1) >> tickShift)
	}
	return htbClass{rate: uint32(n.Rate / 8), ceil: uint32(n.Ceil / 8), overhead: uint16(overhead), buffer: long(n.Rate), cbuffer: long(n.Ceil), quantum: quantum, prio: uint32(n.Prio)}
}

// quantum is how much a class may send before the next of its priority: one
// full packet of Ethernet.
const quantum = 1514

// same compares what was asked for with what the kernel says, which fills in
// cells and levels by itself.
func same(have, want htbClass) bool {
	inner := have.level > 0 // has no priority, no quantum
	return have.rate == want.rate && have.ceil == want.ceil && have.overhead == want.overhead &&
		near(have.buffer, want.buffer) && near(have.cbuffer, want.cbuffer) && (inner || have.prio == want.prio && have.quantum == want.quantum)
}

// near: the kernel keeps times in nanoseconds and rounds.
func near(a, b uint32) bool { return a-b+2 <= 4 }

// queue is fq_codel for a leaf: packets may wait some packet times, on a slow
// line too, and no more memory is taken than a second of the line, within
// bounds (RFC 8290 sections 5.2 and 6).
func queue(n qos.Node) leaf {
	perPacket := uint64(1514*8) * 1e6 / max(n.Ceil, 1) // µs
	target := uint32(min(max(5000, perPacket*3/2), 1e6))
	return leaf{target: target, interval: max(100000, target*4), limit: 1000, flows: 128, memory: uint32(min(max(n.Ceil/8, 64<<10), 4<<20)), quantum: quantum}
}

func (l leaf) same(want leaf) bool {
	return near(l.target, want.target) && near(l.interval, want.interval) && near(l.limit, want.limit) && near(l.flows, want.flows) && near(l.memory, want.memory) && near(l.quantum, want.quantum)
}

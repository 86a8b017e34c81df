// Package qos decides how lines are shared: classes of traffic, what each may
// take at which hour, and the tree of queues that follows (DCB-7: the backup at
// 48 KB/s beside a counter that doesn't feel it). It touches nothing; drivers/tc
// puts trees into the kernel, drivers/nft sorts packets into their leaves. Start
// reading at Plan.
package qos

import (
	"cmp"
	"hash/fnv"
	"net/netip"
	"slices"
)

// Class is one class of traffic, the same on every line.
type Class struct {
	Name  string
	Match []Match // any of them; none: what no other class takes
	// Number is 1 to MaxClasses, in the order of the file: the earlier class wins
	// where two match.
	Number uint8
	// Paths is the class's own order of paths, best first; none: as its peer.
	Paths []string
}

// MaxClasses is the greatest number of classes, the rest's included.
const MaxClasses = 15

// Match is what a packet must be, all that is set. Either end may have the port
// or the address: a class is a conversation, not a direction.
type Match struct {
	Proto   string       // "tcp" or "udp"; empty: any
	Port    uint16       // first
	Last    uint16       // last port of a range; 0: Port alone
	Network netip.Prefix // zero: any
}

// Marks of packets: the number of a class that has its own order of paths.
const (
	MarkShift = 16
	MarkMask  = 0xff << MarkShift
)

// Kind is how a line queues.
type Kind string

// The kinds.
const (
	HTB  Kind = "htb"  // a tree of classes with fq_codel leaves (tc-htb(8))
	CAKE Kind = "cake" // one queue for a line without peers (tc-cake(8))
)

// Line is how one link is shared.
type Line struct {
	Name     string // of its interface, for people
	Link     string // kernel's name
	Kind     Kind
	Rate     uint64 // bit/s that the line carries
	Overhead int    // bytes that the line adds to each packet beyond what the link counts
	Classes  []Rate
	Shares   []Share
}

// Rate is what a class may take of a line, or of each peer's share of it.
type Rate struct {
	Class string
	Min   uint64 // bit/s that it gets whenever it wants; 0: what others leave
	Max   uint64 // bit/s; 0: all
	Prio  uint8  // 0 first, 7 last: who gets what is left
	When  Span   // zero: always; of several that hold the last one counts
}

// Share is what a peer gets of a line.
type Share struct {
	Peer     string
	Networks []netip.Prefix
	Min      uint64 // bit/s
	Max      uint64 // bit/s; 0: all
	Prio     uint8
}

// Tree is what the kernel should have on one link.
type Tree struct {
	Name     string // the line's
	Link     string
	Kind     Kind
	Rate     uint64 // bit/s
	Overhead int
	Rest     uint16 // HTB: minor number of the leaf of what nobody sorted
	Nodes    []Node // parents before children; none: CAKE
}

// Node is one class of HTB.
type Node struct {
	ID     uint16 // minor number
	Parent uint16 // 0: the qdisc
	Rate   uint64 // bit/s, guaranteed
	Ceil   uint64 // bit/s
	Prio   uint8
	Leaf   bool // has a queue
	Peer   string
	Class  string
	Burst  uint32 // bytes that may go at once at Rate, and at Ceil
}

// Minor numbers: a peer's has its slot in the upper twelve bits, a class's its
// Number in the lower four. Slot 0 is traffic to nobody who has a share.
const (
	rootID   = 0xfff0 // the node of the whole line
	peerBits = 4
	slots    = 0xffe // slots 1 to slots
	// Major is the number of our qdisc; the priority of a packet is Major<<16
	// and the leaf's minor number.
	Major = 0x4b0 // unlike what people take: 1
)

// Slots gives each peer a slot that stays when others come and go, but for the
// few whose names collide.
func Slots(peers []string) map[string]uint16 {
	taken := map[uint16]bool{}
	out := map[string]uint16{}
	for _, p := range slices.Sorted(slices.Values(peers)) {
		h := fnv.New32a()
		h.Write([]byte(p))
		n := uint16(h.Sum32()%slots) + 1
		for taken[n] {
			n = n%slots + 1
		}
		taken[n], out[p] = true, n
	}
	return out
}

// Leaf is the minor number of the leaf of a class of a peer; slot 0: of nobody.
func Leaf(slot uint16, class uint8) uint16 { return slot<<peerBits | uint16(class) }

// floor is the least rate of a class that has no guarantee: HTB needs one.
const floor = 8000

// Plan is all that a box is told about the sharing of its lines.
type Plan struct {
	Classes []Class
	Lines   []Line
}

// Trees are the trees of all lines at a moment. A peer that has a share of one
// line has one of every other, if only what is left there.
func (p Plan) Trees(at Moment) []Tree {
	slots := p.slots()
	var all []Tree
	for _, l := range p.Lines {
		has := map[string]bool{}
		for _, s := range l.Shares {
			has[s.Peer] = true
		}
		for _, s := range p.peers() {
			if !has[s.Peer] && l.Kind == HTB {
				l.Shares = append(slices.Clone(l.Shares), Share{Peer: s.Peer, Prio: 7})
			}
		}
		all = append(all, l.tree(p.Classes, slots, at))
	}
	return all
}

// peers are those that have a share somewhere, in the order of the lines.
func (p Plan) peers() []Share {
	var all []Share
	seen := map[string]bool{}
	for _, l := range p.Lines {
		for _, s := range l.Shares {
			if !seen[s.Peer] {
				all, seen[s.Peer] = append(all, s), true
			}
		}
	}
	return all
}

func (p Plan) slots() map[string]uint16 {
	var names []string
	for _, s := range p.peers() {
		names = append(names, s.Peer)
	}
	return Slots(names)
}

// Sorting is how packets find their leaves and paths.
type Sorting struct {
	Classes []Class // in the order in which they are tried; the rest's is the last
	Peers   []Place
	Queues  bool // there are leaves to be found
}

// Place is where a peer's traffic belongs.
type Place struct {
	Slot     uint16
	Networks []netip.Prefix
}

// Sorting of the plan; its zero value says that nothing is to be sorted.
func (p Plan) Sorting() Sorting {
	if len(p.Lines) == 0 && !slices.ContainsFunc(p.Classes, func(c Class) bool { return len(c.Paths) > 0 }) {
		return Sorting{}
	}
	s := Sorting{Classes: slices.Clone(p.Classes), Queues: slices.ContainsFunc(p.Lines, func(l Line) bool { return l.Kind == HTB })}
	slices.SortStableFunc(s.Classes, func(a, b Class) int {
		if (len(a.Match) == 0) != (len(b.Match) == 0) {
			return cmp.Compare(len(b.Match), len(a.Match))
		}
		return cmp.Compare(a.Number, b.Number)
	})
	slots := p.slots()
	for _, x := range p.peers() {
		s.Peers = append(s.Peers, Place{Slot: slots[x.Peer], Networks: x.Networks})
	}
	return s
}

// tree is the tree at a moment. classes are all of the box.
func (l Line) tree(classes []Class, slot map[string]uint16, at Moment) Tree {
	t := Tree{Name: l.Name, Link: l.Link, Kind: l.Kind, Rate: l.Rate, Overhead: l.Overhead}
	if l.Kind == CAKE {
		return t
	}
	t.Nodes = append(t.Nodes, Node{ID: rootID, Rate: l.Rate, Ceil: l.Rate, Burst: burst(l.Rate)})
	rates := l.rates(classes, at)
	t.leaves(rootID, 0, "", l.Rate, rates)
	for _, c := range classes {
		if len(c.Match) == 0 {
			t.Rest = Leaf(0, c.Number)
		}
	}
	for _, s := range l.Shares {
		ceil := min(cmp.Or(s.Max, l.Rate), l.Rate)
		if len(rates) == 1 {
			t.whole(slot[s.Peer], s, ceil, rates[0])
			continue
		}
		id := slot[s.Peer] << peerBits
		t.Nodes = append(t.Nodes, Node{ID: id, Parent: rootID, Rate: min(max(s.Min, floor), ceil), Ceil: ceil, Prio: s.Prio, Peer: s.Peer, Burst: burst(ceil)})
		t.leaves(id, slot[s.Peer], s.Peer, ceil, rates)
	}
	return t
}

// classRate is what holds for a class now.
type classRate struct {
	class Class
	rate  Rate
}

// rates are those of every class of the line now, and of the rest.
func (l Line) rates(classes []Class, at Moment) []classRate {
	var out []classRate
	for _, c := range classes {
		r := Rate{Class: c.Name, Prio: 7}
		known, timed := false, false
		for _, x := range l.Classes { // one with hours goes before one without
			switch {
			case x.Class != c.Name:
			case x.When.Holds(at):
				r, known, timed = x, true, true
			case x.When.Always() && !timed:
				r, known = x, true
			}
		}
		if !known && len(c.Match) > 0 && !slices.ContainsFunc(l.Classes, func(x Rate) bool { return x.Class == c.Name }) {
			continue // this line doesn't tell it from the rest
		}
		out = append(out, classRate{c, r})
	}
	return out
}

// whole is a share that has one class: one node, as the kernel takes longer for
// each class the more there are.
func (t *Tree) whole(slot uint16, s Share, most uint64, r classRate) {
	ceil := min(cmp.Or(r.rate.Max, most), most)
	t.Nodes = append(t.Nodes, Node{ID: Leaf(slot, r.class.Number), Parent: rootID, Rate: min(max(s.Min, r.rate.Min, floor), ceil), Ceil: ceil, Prio: r.rate.Prio, Leaf: true,
		Peer: s.Peer, Class: r.class.Name, Burst: burst(ceil)})
}

func (t *Tree) leaves(parent, slot uint16, peer string, most uint64, rates []classRate) {
	for _, r := range rates {
		ceil := min(cmp.Or(r.rate.Max, most), most)
		t.Nodes = append(t.Nodes, Node{ID: Leaf(slot, r.class.Number), Parent: parent, Rate: min(max(r.rate.Min, floor), ceil), Ceil: ceil, Prio: r.rate.Prio, Leaf: true,
			Peer: peer, Class: r.class.Name, Burst: burst(ceil)})
	}
}

// burst lets one packet of Ethernet pass at once, or a millisecond's worth where
// that is more, so that no second exceeds its rate by more than a packet.
func burst(bits uint64) uint32 { return uint32(max(1600, bits/8/1000)) }

// Package tc puts trees of queues (netstack/qos) onto links and reads back what
// is there. Only qdiscs with our handle are touched: what stands at a link that
// nobody asked to shape is somebody else's. Start reading at Conn.Apply.
package tc

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"golang.org/x/sys/unix"

	"komainu/netstack/qos"
)

// Conn is a connection to the kernel of one network namespace. Not for
// concurrent use.
type Conn struct{ wire *wire }

// Dial opens a connection in the caller's network namespace.
func Dial() (*Conn, error) {
	w, err := openWire()
	if err != nil {
		return nil, fmt.Errorf("traffic control: open a netlink socket: %w", err)
	}
	return &Conn{w}, nil
}

// Close closes it.
func (c *Conn) Close() error { return c.wire.close() }

// ErrNoLink says that the link isn't there (yet).
var ErrNoLink = errors.New("no such link")

// Apply makes the queues of t's link so, by as few changes as lead there: a rate
// changes in place, without a packet lost. It returns the number of changes.
func (c *Conn) Apply(t qos.Tree) (int, error) {
	fail := func(err error) (int, error) {
		return 0, fmt.Errorf("queues of %s: %w", t.Link, err)
	}
	index, err := linkIndex(t.Link)
	if err != nil {
		return fail(err)
	}
	have, err := c.look(index)
	if err != nil {
		return fail(err)
	}
	steps := have.difference(index, t)
	if err := c.carryOut(steps); err != nil {
		return fail(err)
	}
	return len(steps), nil
}

// Clear takes our queues from a link; what else stands there stays. A link that
// is gone has none.
func (c *Conn) Clear(link string) error {
	index, err := linkIndex(link)
	if errors.Is(err, ErrNoLink) {
		return nil
	}
	if err != nil {
		return err
	}
	have, err := c.look(index)
	if err != nil || have.kind == "" {
		return err
	}
	if err := c.carryOut([]step{drop(index)}); err != nil {
		return fmt.Errorf("take the queues from %s: %w", link, err)
	}
	return nil
}

// Count is what went through one node of a tree since it was made.
type Count struct {
	ID      uint16 // minor number; 0: the whole of a CAKE
	Bytes   uint64
	Packets uint32
	Drops   uint32
	Backlog uint32 // bytes that wait now
}

// Counters of our queues on a link, in the order of their numbers; none: there
// are no queues of ours.
func (c *Conn) Counters(link string) ([]Count, error) {
	index, err := linkIndex(link)
	if err != nil {
		return nil, err
	}
	have, err := c.look(index)
	if err != nil {
		return nil, fmt.Errorf("counters of %s: %w", link, err)
	}
	var out []Count
	for id, x := range have.nodes {
		out = append(out, x.stats.count(id))
		// A class doesn't count what its queue drops later than at the entrance.
		last := &out[len(out)-1]
		last.Drops = max(last.Drops, have.queues[id].drops)
	}
	if have.kind == qos.CAKE {
		out = append(out, have.root.count(0))
	}
	slices.SortFunc(out, func(a, b Count) int { return int(a.ID) - int(b.ID) })
	return out, nil
}

func linkIndex(name string) (uint32, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			return 0, fmt.Errorf("%s: %w", name, ErrNoLink)
		}
		return 0, err
	}
	return uint32(i.Index), nil
}

func handle(minor uint16) uint32 { return qos.Major<<16 | uint32(minor) }

// state is what stands on one link.
type state struct {
	kind   qos.Kind // empty: nothing of ours
	root   stats
	cake   cake
	rest   uint16 // HTB: where unsorted packets go
	nodes  map[uint16]node
	leafs  map[uint16]leaf  // by the node that they stand at
	queues map[uint16]stats // of leafs
}

type node struct {
	parent uint16
	opt    htbClass
	stats  stats
}

func (s stats) count(id uint16) Count {
	return Count{ID: id, Bytes: s.bytes, Packets: s.packets, Drops: s.drops, Backlog: s.backlog}
}

// look reads what is there.
func (c *Conn) look(index uint32) (state, error) {
	s := state{nodes: map[uint16]node{}, leafs: map[uint16]leaf{}, queues: map[uint16]stats{}}
	if err := c.wire.dump(unix.RTM_GETQDISC, head(index, 0, 0), func(b []byte) {
		if q, ok := read(b); ok && q.index == index {
			s.qdisc(q)
		}
	}); err != nil {
		return s, fmt.Errorf("read the qdiscs: %w", err)
	}
	if s.kind != qos.HTB {
		return s, nil
	}
	if err := c.wire.dump(unix.RTM_GETTCLASS, head(index, 0, 0), func(b []byte) {
		if x, ok := read(b); ok && x.index == index {
			s.class(x)
		}
	}); err != nil {
		return s, fmt.Errorf("read the classes: %w", err)
	}
	return s, nil
}

func (s *state) qdisc(q heard) {
	switch {
	case q.parent == handleRoot && q.handle == handle(0):
		s.kind, s.root = qos.Kind(q.kind), q.stats
		switch s.kind {
		case qos.HTB:
			s.rest = readRest(q.options)
		case qos.CAKE:
			s.cake = readCake(q.options)
		}
	case q.kind == leafKind && q.parent>>16 == qos.Major:
		s.leafs[uint16(q.parent)], s.queues[uint16(q.parent)] = readLeaf(q.options), q.stats
	}
}

func (s *state) class(x heard) {
	opt, ok := readClass(x.options)
	if !ok || x.handle>>16 != qos.Major {
		return
	}
	n := node{parent: uint16(x.parent), opt: opt, stats: x.stats}
	if x.parent == handleRoot {
		n.parent = 0
	}
	s.nodes[uint16(x.handle)] = n
}

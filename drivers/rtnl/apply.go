package rtnl

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"komainu/netstack/plan"
	"komainu/netstack/spec"
)

// batchSize is how many requests go to the kernel at once. Their answers wait in
// the receive buffer, about 1 KB each of the usual 208 KB.
const batchSize = 64

// answerTime is far longer than it takes to read what is there already.
const answerTime = 5 * time.Second

// Apply makes the changes in their order and stops at the first that fails; the
// error names it and carries the kernel's errno (EBUSY, ENETDOWN...). Then the
// addresses, routes or rules that follow it directly, 63 at most, may have been
// made too: the caller observes again. What is there already, or gone already, is
// no error. A replacement is one message to the kernel: at no moment is the
// prefix without a route.
//
// Links of ours take no IPv6 router advertisements, and keep the other addresses
// of a subnet when the first one goes. A VRF answers "unreachable" for what its
// table doesn't know, instead of looking in the main table
// (kernel: Documentation/networking/vrf.rst).
//
// Changes of links have to be applied in the network namespace of the socket.
func (c *Conn) Apply(changes []plan.Change) error {
	b := batch{conn: c}
	for _, ch := range changes {
		if err := b.add(ch); err != nil {
			return err
		}
	}
	return b.flush()
}

// request is one message that waits to be sent.
type request struct {
	change plan.Change
	msg    netlink.Message
	fine   []error // answers to a request that has nothing to do
}

// batch is one run of Apply.
type batch struct {
	conn    *Conn
	pending []request
	known   map[string]spec.Link // links of the kernel; nil: not asked yet
	foreign map[routeKey]byte    // protocols of other people's routes; nil: not asked yet
}

// add makes a change of a link at once, and queues others.
func (b *batch) add(ch plan.Change) error {
	var err error
	switch ch.Kind {
	case plan.AddLink, plan.SetLink, plan.DeleteLink:
		if err := b.flush(); err != nil {
			return err
		}
		switch ch.Kind {
		case plan.AddLink:
			err = b.addLink(ch)
		case plan.SetLink:
			err = b.setLink(ch)
		default:
			err = b.deleteLink(ch)
		}
	case plan.AddAddress:
		err = b.address(ch, unix.RTM_NEWADDR, netlink.Create|netlink.Excl, unix.EEXIST)
	case plan.DeleteAddress:
		err = gone(b.address(ch, unix.RTM_DELADDR, 0, unix.EADDRNOTAVAIL, unix.ENODEV))
	case plan.ReplaceRoute:
		if err = b.checkForeign(ch.Route); err == nil {
			err = b.route(ch, unix.RTM_NEWROUTE, netlink.Create|netlink.Replace)
		}
	case plan.DeleteRoute:
		err = gone(b.route(ch, unix.RTM_DELROUTE, 0, unix.ESRCH, unix.ENODEV))
	case plan.AddRule:
		err = b.rule(ch, unix.RTM_NEWRULE, netlink.Create|netlink.Excl, unix.EEXIST)
	case plan.DeleteRule:
		err = b.rule(ch, unix.RTM_DELRULE, 0, unix.ENOENT)
	}
	if errors.As(err, new(*applied)) {
		return err
	}
	if err != nil {
		// What was queued before comes before it.
		if e := b.flush(); e != nil {
			return e
		}
		return &applied{ch, err}
	}
	if len(b.pending) >= batchSize {
		return b.flush()
	}
	return nil
}

// applied is the error of one change.
type applied struct {
	change plan.Change
	err    error
}

func (e *applied) Error() string { return fmt.Sprintf("%s: %v", e.change, e.err) }
func (e *applied) Unwrap() error { return e.err }

// gone forgives that a link isn't there: what was on it went with it.
func gone(err error) error {
	if errors.Is(err, unix.ENODEV) && !errors.As(err, new(*applied)) {
		return nil
	}
	return err
}

// flush sends what is queued and reads the answers, which the kernel has put
// into the receive buffer, in order, when the sending returns.
func (b *batch) flush() error {
	c := b.conn
	queue := b.pending
	b.pending = nil
	if len(queue) == 0 {
		return nil
	}
	msgs := make([]netlink.Message, len(queue))
	for i, r := range queue {
		msgs[i] = r.msg
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.conn.SendMessages(msgs); err != nil {
		return &applied{queue[0].change, err}
	}
	// Should the kernel have had no memory for an answer, none is waited for.
	if err := c.conn.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
		return &applied{queue[0].change, err}
	}
	defer c.conn.SetReadDeadline(time.Time{})
	var first error
	for _, r := range queue {
		_, err := c.conn.Receive()
		if err == nil || slices.ContainsFunc(r.fine, func(f error) bool { return errors.Is(err, f) }) {
			continue
		}
		if first == nil {
			first = &applied{r.change, err}
		}
	}
	return first
}

func (b *batch) queue(ch plan.Change, kind netlink.HeaderType, flags netlink.HeaderFlags, data []byte, fine ...error) {
	b.pending = append(b.pending, request{change: ch, fine: fine, msg: netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Acknowledge | flags}, Data: data,
	}})
}

// link finds a link of the kernel. One that isn't known is looked for again,
// since it may have come by a change before.
func (b *batch) link(name string) (spec.Link, error) {
	if l, ok := b.known[name]; ok {
		return l, nil
	}
	links, err := b.conn.links(false)
	if err != nil {
		return spec.Link{}, err
	}
	b.known = map[string]spec.Link{}
	for _, l := range links {
		b.known[l.Name] = l.Link
	}
	if l, ok := b.known[name]; ok {
		return l, nil
	}
	return spec.Link{}, fmt.Errorf("link %s: %w", name, unix.ENODEV)
}

// index is that of a link; 0 for no name.
func (b *batch) index(name string) (uint32, error) {
	if name == "" {
		return 0, nil
	}
	l, err := b.link(name)
	return uint32(l.Index), err //nolint:gosec // an ifindex
}

func (b *batch) address(ch plan.Change, kind netlink.HeaderType, flags netlink.HeaderFlags, fine ...error) error {
	index, err := b.index(ch.Address.Link)
	if err != nil {
		return err
	}
	data, err := encodeAddress(ch.Address, index)
	if err == nil {
		b.queue(ch, kind, flags, data, fine...)
	}
	return err
}

func (b *batch) route(ch plan.Change, kind netlink.HeaderType, flags netlink.HeaderFlags, fine ...error) error {
	index, err := b.index(ch.Route.Link)
	if err != nil {
		return err
	}
	data, err := encodeRoute(ch.Route, index, unix.RTN_UNICAST)
	if err == nil {
		b.queue(ch, kind, flags, data, fine...)
	}
	return err
}

func (b *batch) rule(ch plan.Change, kind netlink.HeaderType, flags netlink.HeaderFlags, fine ...error) error {
	data, err := encodeRule(ch.Rule)
	if err == nil {
		b.queue(ch, kind, flags, data, fine...)
	}
	return err
}

// routeKey is what a replacement finds a route by.
type routeKey struct {
	to            string
	table, metric uint32
}

func keyOf(r spec.Route) routeKey {
	metric := r.Metric
	if metric == defaultMetric6 && r.To.Addr().Is6() {
		metric = 0
	}
	return routeKey{r.To.Masked().String(), table(r.Table), metric}
}

// checkForeign returns ErrForeign if a replacement would hit a route that isn't
// ours. The routes are asked for once in a run.
func (b *batch) checkForeign(r spec.Route) error {
	if b.foreign == nil {
		if err := b.flush(); err != nil { // addresses bring routes of the kernel
			return err
		}
		routes, err := b.conn.routes()
		if err != nil {
			return err
		}
		b.foreign = map[routeKey]byte{}
		for _, have := range routes {
			if have.protocol != Protocol {
				b.foreign[keyOf(have.Route)] = have.protocol
			}
		}
	}
	if protocol, ok := b.foreign[keyOf(r)]; ok {
		return fmt.Errorf("%w (protocol %d)", ErrForeign, protocol)
	}
	return nil
}

// now sends a message and what was queued before it.
func (b *batch) now(ch plan.Change, kind netlink.HeaderType, flags netlink.HeaderFlags, data []byte, fine ...error) error {
	b.queue(ch, kind, flags, data, fine...)
	return b.flush()
}

// Package rtnl reads and changes links, addresses, routes and policy rules of
// the kernel over rtnetlink(7), and watches them. What to change is
// netstack/plan's say. Links are ours by their alias, routes and rules by their
// protocol number; all others are left alone. Addresses are changed only by name.
// Start reading at Observe and Apply.
package rtnl

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"komainu/netstack/spec"
)

// Protocol is the mark of our routes (rtm_protocol) and rules (FRA_PROTOCOL):
// `ip route show proto 250`.
const Protocol = 250

// aliasPrefix is before the label in the alias of a link of ours.
const aliasPrefix = "komainu:"

// ErrForeign is wrapped when a prefix already has a route of somebody else,
// which a replacement would destroy.
var ErrForeign = errors.New("somebody else has a route to this prefix: remove it first")

// Conn is a lasting route socket, in the network namespace in which it was
// opened. Its methods may be called from several goroutines.
type Conn struct {
	mu    sync.Mutex // held over a request and its answers
	conn  *netlink.Conn
	space unix.Stat_t // the namespace
}

// Open connects to rtnetlink. Changes need CAP_NET_ADMIN.
func Open() (*Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("open a route socket: %w", err)
	}
	c := &Conn{conn: conn}
	// Refusals come with the kernel's sentence.
	if err := conn.SetOption(netlink.ExtendedAcknowledge, true); err != nil {
		return nil, errors.Join(fmt.Errorf("open a route socket: %w", err), conn.Close())
	}
	if err := unix.Stat("/proc/thread-self/ns/net", &c.space); err != nil {
		return nil, errors.Join(fmt.Errorf("open a route socket: network namespace: %w", err), conn.Close())
	}
	return c, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return c.conn.Close() }

// dump asks for all of a kind. A list that changed while it was read is read
// again; the last try stands as it is, since whoever changes so fast is heard
// of by Changes too.
func (c *Conn) dump(kind netlink.HeaderType, header []byte) ([]netlink.Message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for try := 0; ; try++ {
		msgs, err := c.conn.Execute(netlink.Message{
			Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Dump}, Data: header,
		})
		if err != nil || try == 4 || !interrupted(msgs) {
			return msgs, err
		}
	}
}

func interrupted(msgs []netlink.Message) bool {
	for _, m := range msgs {
		if m.Header.Flags&netlink.DumpInterrupted != 0 {
			return true
		}
	}
	return false
}

// Observe returns all links, all addresses but the link-local ones that the
// kernel made itself, and the unicast routes (of all tables) and rules that are
// ours. Kinds that we don't make (veth, tun, loopback) are a spec.Port.
// The main table is 0, and so is the kernel's default metric. Options that a
// bond's mode doesn't use are left zero.
func (c *Conn) Observe() (spec.Network, error) {
	var n spec.Network
	links, err := c.links(false)
	if err != nil {
		return spec.Network{}, err
	}
	names := map[uint32]string{}
	for _, l := range links {
		n.Links = append(n.Links, l.Link)
		names[uint32(l.Index)] = l.Name //nolint:gosec // an ifindex
	}
	msgs, err := c.dump(unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg))
	if err != nil {
		return spec.Network{}, fmt.Errorf("list addresses: %w", err)
	}
	for _, m := range msgs {
		a, err := decodeAddress(m.Data)
		if err != nil {
			return spec.Network{}, fmt.Errorf("list addresses: %w", err)
		}
		if !a.own && a.Prefix.IsValid() {
			a.Link = names[a.index]
			n.Addresses = append(n.Addresses, a.Address)
		}
	}
	routes, err := c.routes()
	if err != nil {
		return spec.Network{}, err
	}
	for _, r := range routes {
		if r.protocol == Protocol && r.kind == unix.RTN_UNICAST {
			r.Link = names[r.index]
			n.Routes = append(n.Routes, r.Route)
		}
	}
	if msgs, err = c.dump(unix.RTM_GETRULE, make([]byte, ruleHeader)); err != nil {
		return spec.Network{}, fmt.Errorf("list rules: %w", err)
	}
	for _, m := range msgs {
		r, protocol, err := decodeRule(m.Data)
		if err != nil {
			return spec.Network{}, fmt.Errorf("list rules: %w", err)
		}
		if protocol == Protocol && r.From.IsValid() {
			n.Rules = append(n.Rules, r)
		}
	}
	return n, nil
}

// routes are all of all tables, without the exceptions that the kernel learns.
func (c *Conn) routes() ([]route, error) {
	msgs, err := c.dump(unix.RTM_GETROUTE, make([]byte, unix.SizeofRtMsg))
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var all []route
	for _, m := range msgs {
		r, err := decodeRoute(m.Data)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		if !r.cloned && r.To.IsValid() {
			all = append(all, r)
		}
	}
	return all, nil
}

func addr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a.Unmap()
}

// Package rtnl reads and changes the addresses and routes of the kernel over
// rtnetlink(7), and watches its links. What to change is netstack/plan's say.
// Routes are ours by their protocol number; all others are left alone. Addresses
// are changed only by name.
package rtnl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"

	"komainu/netstack/plan"
	"komainu/netstack/spec"
)

// Protocol is the mark of our routes (rtm_protocol): `ip route show proto 250`.
const Protocol = 250

// ErrForeign is wrapped when a prefix already has a route of somebody else,
// which a replacement would destroy.
var ErrForeign = errors.New("somebody else has a route to this prefix: remove it first")

// metric is the kernel's default: 0 for IPv4, IP6_RT_PRIO_USER for IPv6.
func metric(a netip.Addr) uint32 {
	if a.Is4() {
		return 0
	}
	return 1024
}

// Conn is a lasting route socket, in the network namespace in which it was
// opened. Its methods may be called from several goroutines.
type Conn struct{ conn *rtnetlink.Conn }

// Open connects to rtnetlink. Changes need CAP_NET_ADMIN.
func Open() (*Conn, error) {
	c, err := rtnetlink.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("open a route socket: %w", err)
	}
	return &Conn{c}, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return c.conn.Close() }

// names lists the links, by index.
func (c *Conn) names() (map[uint32]string, error) {
	links, err := c.conn.Link.List()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	names := map[uint32]string{}
	for _, l := range links {
		if l.Attributes != nil {
			names[l.Index] = l.Attributes.Name
		}
	}
	return names, nil
}

func (c *Conn) index(link string) (uint32, error) {
	names, err := c.names()
	if err != nil {
		return 0, err
	}
	for i, n := range names {
		if n == link {
			return i, nil
		}
	}
	return 0, fmt.Errorf("link %s: %w", link, unix.ENODEV)
}

// Observe returns all addresses of all links, and our routes of the main table.
func (c *Conn) Observe() (plan.Net, error) {
	names, err := c.names()
	if err != nil {
		return plan.Net{}, err
	}
	var n plan.Net
	addrs, err := c.conn.Address.List()
	if err != nil {
		return plan.Net{}, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if a.Attributes == nil {
			continue
		}
		ip := a.Attributes.Local // differs from Address on a point-to-point link
		if ip == nil {
			ip = a.Attributes.Address
		}
		if addr, ok := netip.AddrFromSlice(ip); ok {
			n.Addresses = append(n.Addresses, spec.Address{Link: names[a.Index], Prefix: netip.PrefixFrom(addr.Unmap(), int(a.PrefixLength))})
		}
	}
	routes, err := c.conn.Route.List()
	if err != nil {
		return plan.Net{}, fmt.Errorf("list routes: %w", err)
	}
	for _, m := range routes {
		if m.Protocol == Protocol && m.Table == unix.RT_TABLE_MAIN {
			n.Routes = append(n.Routes, spec.Route{
				To: destination(m), Via: addr(m.Attributes.Gateway), Link: names[m.Attributes.OutIface], Source: addr(m.Attributes.Src),
			})
		}
	}
	return n, nil
}

func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func destination(m rtnetlink.RouteMessage) netip.Prefix {
	a := addr(m.Attributes.Dst)
	if !a.IsValid() { // the kernel leaves out the destination of a default route
		a = netip.IPv4Unspecified()
		if m.Family == unix.AF_INET6 {
			a = netip.IPv6Unspecified()
		}
	}
	return netip.PrefixFrom(a, int(m.DstLength))
}

// Apply makes the changes in their order and stops at the first that fails. A
// change that is there already is no error. A replacement is one message to the
// kernel: at no moment is the prefix without a route.
func (c *Conn) Apply(changes []plan.Change) error {
	for _, ch := range changes {
		var err error
		switch ch.Kind {
		case plan.AddAddress:
			err = c.address(ch.Address, c.conn.Address.New, unix.EEXIST)
		case plan.DeleteAddress:
			err = c.address(ch.Address, c.conn.Address.Delete, unix.EADDRNOTAVAIL)
		case plan.ReplaceRoute:
			if err = c.foreign(ch.Route); err == nil {
				err = c.route(ch.Route, c.conn.Route.Replace, 0)
			}
		case plan.DeleteRoute:
			err = c.route(ch.Route, c.conn.Route.Delete, unix.ESRCH)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", ch, err)
		}
	}
	return nil
}

// address sends a request about one address; fine is the error of a request
// that has nothing to do.
func (c *Conn) address(a spec.Address, send func(*rtnetlink.AddressMessage) error, fine unix.Errno) error {
	index, err := c.index(a.Link)
	if err != nil {
		return err
	}
	ip := a.Prefix.Addr()
	m := &rtnetlink.AddressMessage{
		Family: unix.AF_INET, PrefixLength: uint8(a.Prefix.Bits()), Index: index,
		Attributes: &rtnetlink.AddressAttributes{Address: ip.AsSlice(), Local: ip.AsSlice()},
	}
	if ip.Is6() {
		// Duplicate detection would keep it unusable for a second.
		m.Family, m.Attributes.Flags = unix.AF_INET6, unix.IFA_F_NODAD
	}
	if err := send(m); err != nil && !errors.Is(err, fine) {
		return err
	}
	return nil
}

func (c *Conn) route(r spec.Route, send func(*rtnetlink.RouteMessage) error, fine unix.Errno) error {
	index, err := c.index(r.Link)
	if err != nil {
		if fine != 0 && errors.Is(err, unix.ENODEV) {
			return nil // the route went with its link
		}
		return err
	}
	m := &rtnetlink.RouteMessage{
		Family: unix.AF_INET, DstLength: uint8(r.To.Bits()), Table: unix.RT_TABLE_MAIN,
		Protocol: Protocol, Type: unix.RTN_UNICAST, Scope: unix.RT_SCOPE_UNIVERSE,
		Attributes: rtnetlink.RouteAttributes{
			Dst: r.To.Addr().AsSlice(), OutIface: index, Priority: metric(r.To.Addr()),
		},
	}
	if r.To.Addr().Is6() {
		m.Family = unix.AF_INET6
	}
	if r.Via.IsValid() {
		m.Attributes.Gateway = r.Via.AsSlice()
	} else if m.Family == unix.AF_INET {
		m.Scope = unix.RT_SCOPE_LINK
	}
	if r.Source.IsValid() {
		m.Attributes.Src = r.Source.AsSlice()
	}
	if err := send(m); err != nil && (fine == 0 || !errors.Is(err, fine)) {
		return err
	}
	return nil
}

// foreign returns ErrForeign if a replacement would hit a route that isn't ours.
func (c *Conn) foreign(r spec.Route) error {
	routes, err := c.conn.Route.List()
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, m := range routes {
		if m.Table == unix.RT_TABLE_MAIN && m.Protocol != Protocol && destination(m) == r.To &&
			m.Attributes.Priority == metric(r.To.Addr()) {
			return fmt.Errorf("%w (protocol %d)", ErrForeign, m.Protocol)
		}
	}
	return nil
}

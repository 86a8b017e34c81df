// Package icmp asks hosts with ICMP echo requests (RFC 792, RFC 4443): whether
// they answer, over which routers, and how large a packet gets there. It keeps
// nothing and says nothing to people. All needs CAP_NET_RAW and happens in the
// network namespace in which Open was called. Start reading at Conn; Search is
// the pure part of the search for the path MTU.
package icmp

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// Target is whom to ask, and from where.
type Target struct {
	Host      netip.Addr // a link-local IPv6 address needs its zone, or Interface
	Source    netip.Addr // one of this host's addresses; zero: the kernel chooses
	Interface string     // link or VRF that packets leave by; empty: as routes say
}

// Conn is one raw socket that asks one host. It is for one goroutine.
type Conn struct {
	target Target
	conn   *net.IPConn
	v4     *ipv4.PacketConn // one of both
	v6     *ipv6.PacketConn
	id     uint16
	buf    []byte
	mtu    int // of the own link; 0: not known
}

// Errors that a caller decides by.
var (
	ErrFamily  = errors.New("source and host are not of the same address family")
	ErrTooLong = errors.New("longer than the interface's MTU") // by Send
)

// Sizes of whole IP packets, in bytes.
const (
	HeaderV4 = 20 + 8 // IP and ICMP
	HeaderV6 = 40 + 8 //
	SizeMost = 65535  // RFC 791
	payload4 = 8      // least: what tells our packets from those of others
	Least    = HeaderV6 + payload4
)

// Open makes the socket. Close must be called.
func Open(ctx context.Context, t Target) (*Conn, error) {
	t.Host, t.Source = t.Host.Unmap(), t.Source.Unmap()
	what := func(err error) error { return fmt.Errorf("ask %s by ICMP: %w", t.Host, err) }
	if t.Source.IsValid() && t.Source.Is4() != t.Host.Is4() {
		return nil, what(ErrFamily)
	}
	c := &Conn{target: t, buf: make([]byte, SizeMost)}
	var id [2]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, what(err)
	}
	c.id = binary.BigEndian.Uint16(id[:])
	network, local := "ip6:ipv6-icmp", "::"
	if t.Host.Is4() {
		network, local = "ip4:icmp", "0.0.0.0"
	}
	if t.Source.IsValid() {
		local = t.Source.String()
	}
	c.mtu = t.interfaceMTU(ctx)
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error { return t.set(raw) }}
	p, err := lc.ListenPacket(ctx, network, local)
	if err != nil {
		return nil, what(err)
	}
	c.conn = p.(*net.IPConn) // as every "ip" network
	if t.Host.Is4() {
		c.v4 = ipv4.NewPacketConn(c.conn)
		err = c.v4.SetControlMessage(ipv4.FlagTTL, true)
	} else {
		c.v6 = ipv6.NewPacketConn(c.conn)
		err = c.v6.SetControlMessage(ipv6.FlagHopLimit, true)
	}
	if err != nil {
		return nil, errors.Join(what(err), c.conn.Close())
	}
	return c, nil
}

// set prepares the socket: packets are never fragmented here, and what the
// kernel has learnt of the path's MTU doesn't matter (ip(7), IP_PMTUDISC_PROBE).
func (t Target) set(raw syscall.RawConn) error {
	var serr error
	err := raw.Control(func(f uintptr) {
		fd := int(f)
		if t.Interface != "" {
			if serr = unix.BindToDevice(fd, t.Interface); serr != nil {
				serr = fmt.Errorf("bind to %s: %w", t.Interface, serr)
				return
			}
		}
		if t.Host.Is4() {
			serr = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
			return
		}
		serr = errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE),
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1))
	})
	return errors.Join(err, serr)
}

// Close ends the socket.
func (c *Conn) Close() error { return c.conn.Close() }

// Header is how long the headers of IP and ICMP are, in bytes.
func (c *Conn) Header() int {
	if c.v4 != nil {
		return HeaderV4
	}
	return HeaderV6
}

// TTL sets the hop limit of the following packets, 1-255.
func (c *Conn) TTL(n int) error {
	if c.v4 != nil {
		return c.v4.SetTTL(n)
	}
	return c.v6.SetHopLimit(n)
}

// Send asks once. seq comes back with the answer; size is the whole IP packet's,
// in bytes. ErrTooLong is wrapped where it doesn't fit through the interface.
func (c *Conn) Send(seq uint16, size int) error {
	_, err := c.conn.WriteTo(c.request(seq, size), c.address())
	switch {
	case errors.Is(err, unix.EMSGSIZE):
		return fmt.Errorf("send %d bytes to %s: %w", size, c.target.Host, ErrTooLong)
	case err != nil:
		return fmt.Errorf("send to %s: %w", c.target.Host, err)
	}
	return nil
}

func (c *Conn) address() *net.IPAddr {
	return &net.IPAddr{IP: c.target.Host.AsSlice(), Zone: c.target.Host.Zone()}
}

// Receive waits until the moment given for what is said about our packets;
// os.ErrDeadlineExceeded is wrapped when there was nothing, the context's error
// when it ended.
func (c *Conn) Receive(ctx context.Context, until time.Time) (Answer, error) {
	if err := c.conn.SetReadDeadline(until); err != nil {
		return Answer{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) }) // wakes the read
	defer stop()
	for {
		if err := ctx.Err(); err != nil {
			return Answer{}, err
		}
		n, ttl, from, err := c.read()
		at := time.Now()
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
			return Answer{}, ctx.Err()
		}
		if err != nil {
			return Answer{}, fmt.Errorf("hear from %s: %w", c.target.Host, err)
		}
		if a, ok := c.parse(c.buf[:n]); ok {
			a.From, a.TTL, a.At = from, ttl, at
			if a.Kind != EchoReply || from.WithZone("") == c.target.Host.WithZone("") {
				return a, nil
			}
		}
	}
}

func (c *Conn) read() (n, ttl int, from netip.Addr, err error) {
	var src net.Addr
	if c.v4 != nil {
		var cm *ipv4.ControlMessage
		n, cm, src, err = c.v4.ReadFrom(c.buf)
		if cm != nil {
			ttl = cm.TTL
		}
	} else {
		var cm *ipv6.ControlMessage
		n, cm, src, err = c.v6.ReadFrom(c.buf)
		if cm != nil {
			ttl = cm.HopLimit
		}
	}
	if err != nil {
		return 0, 0, from, err
	}
	ip, ok := src.(*net.IPAddr)
	if !ok {
		return 0, 0, from, fmt.Errorf("an address of kind %T", src)
	}
	from, _ = netip.AddrFromSlice(ip.IP) // the kernel's own: 4 or 16 bytes
	return n, ttl, from.Unmap().WithZone(ip.Zone), nil
}

// interfaceMTU is the MTU of the link over which the host is reached, in bytes;
// 0: not known.
func (t Target) interfaceMTU(ctx context.Context) int {
	name := t.Interface
	if name == "" {
		// Sends nothing: the kernel looks up the route.
		d := net.Dialer{}
		if t.Source.IsValid() {
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(t.Source, 0))
		}
		conn, err := d.DialContext(ctx, "udp", netip.AddrPortFrom(t.Host, 9).String())
		if err != nil {
			return 0
		}
		local := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone("")
		_ = conn.Close() // nothing was written
		name = linkOf(local)
	}
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return 0
	}
	return ifi.MTU
}

// linkOf is the link that has an address; empty: none.
func linkOf(a netip.Addr) string {
	all, err := net.Interfaces()
	if err != nil {
		return ""
	}
	for _, ifi := range all {
		addrs, err := ifi.Addrs()
		if err != nil {
			continue
		}
		for _, x := range addrs {
			if p, err := netip.ParsePrefix(x.String()); err == nil && p.Addr().Unmap() == a {
				return ifi.Name
			}
		}
	}
	return ""
}

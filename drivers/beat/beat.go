// Package beat carries heartbeats: one UDP socket per path, tied to the path's
// interface and address, marked so that no other traffic delays it. It decides
// nothing; failover/detect does. Start reading at Open.
package beat

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/clock"
	"komainu/failover/detect"
	"komainu/ntp/instant"
)

const (
	// cs6 is the traffic class of network control (RFC 4594, 3.1): DSCP 48 in
	// the upper six bits.
	cs6 = 48 << 2
	// priority is SO_PRIORITY's value for control traffic, the highest that
	// needs no privilege (socket(7)).
	priority = 6
	// minIPv6 is the packet size that every IPv6 line carries (RFC 8200, 5).
	minIPv6 = 1280
)

// PathConfig is one path.
type PathConfig struct {
	Name      string
	Local     netip.AddrPort // the address may come up later
	Remote    netip.AddrPort // of the same family; the only source that is listened to
	Interface string         // empty: whatever the routes say
	Key       []byte         // shared with the peer, detect.MinKey bytes and more
}

// Stats counts what happened on a socket since it was opened.
type Stats struct {
	Sent        uint64
	Unsent      uint64 // the network was unreachable, down or full
	Received    uint64
	Forged      uint64 // authentication failed
	Malformed   uint64 // too short, of another version, or damaged at the sender
	WrongSource uint64 // from another address or port than Remote
	ReadErrors  uint64 // the network reported an error in place of a message
}

// Socket is one open path. Send and Run may run at the same time.
type Socket struct {
	cfg  PathConfig
	conn *net.UDPConn

	sending sync.Mutex
	buf     []byte // of Send

	sent, unsent, received, forged, malformed, wrongSource, readErrors atomic.Uint64
}

// Open binds the socket of one path. It fails when the interface doesn't exist
// (yet), when another process has the port, or when cfg makes no sense.
func Open(cfg PathConfig) (*Socket, error) {
	fail := func(err error) (*Socket, error) {
		return nil, fmt.Errorf("path %s: heartbeats from %v to %v: %w", cfg.Name, cfg.Local, cfg.Remote, err)
	}
	cfg.Local = netip.AddrPortFrom(cfg.Local.Addr().Unmap(), cfg.Local.Port())
	cfg.Remote = netip.AddrPortFrom(cfg.Remote.Addr().Unmap(), cfg.Remote.Port())
	switch {
	case !cfg.Local.IsValid() || !cfg.Remote.IsValid() || cfg.Local.Addr().Is4() != cfg.Remote.Addr().Is4():
		return fail(errors.New("both addresses must be IPv4 or both IPv6"))
	case len(cfg.Key) < detect.MinKey:
		return fail(fmt.Errorf("a key of %d bytes: at least %d", len(cfg.Key), detect.MinKey))
	}
	network := "udp6"
	if cfg.Local.Addr().Is4() {
		network = "udp4"
	}
	listen := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var set error
		if err := raw.Control(func(fd uintptr) { set = prepare(int(fd), cfg) }); err != nil {
			return err
		}
		return set
	}}
	conn, err := listen.ListenPacket(context.Background(), network, cfg.Local.String())
	if err != nil {
		return fail(err)
	}
	return &Socket{cfg: cfg, conn: conn.(*net.UDPConn)}, nil
}

// prepare sets what must stand before the socket is bound.
func prepare(fd int, cfg PathConfig) error {
	if cfg.Interface != "" {
		if err := unix.BindToDevice(fd, cfg.Interface); err != nil {
			return fmt.Errorf("bind to interface %s: %w", cfg.Interface, err)
		}
	}
	set := func(level, option, value int, what string) error {
		if err := unix.SetsockoptInt(fd, level, option, value); err != nil {
			return fmt.Errorf("set %s to %d: %w", what, value, err)
		}
		return nil
	}
	var err error
	if cfg.Local.Addr().Is4() {
		// A line may carry less than it claims (PRB-5): fragments rather than
		// silence, so the kernel must not set DF.
		err = errors.Join(
			set(unix.IPPROTO_IP, unix.IP_FREEBIND, 1, "IP_FREEBIND"),
			set(unix.IPPROTO_IP, unix.IP_TOS, cs6, "IP_TOS"),
			set(unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT, "IP_MTU_DISCOVER"))
	} else {
		err = errors.Join(
			set(unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1, "IPV6_FREEBIND"),
			set(unix.IPPROTO_IPV6, unix.IPV6_TCLASS, cs6, "IPV6_TCLASS"),
			set(unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT, "IPV6_MTU_DISCOVER"),
			set(unix.IPPROTO_IPV6, unix.IPV6_MTU, minIPv6, "IPV6_MTU"))
	}
	// Last, since setting IP_TOS sets the priority too.
	return errors.Join(err, set(unix.SOL_SOCKET, unix.SO_PRIORITY, priority, "SO_PRIORITY"))
}

// Send sends one heartbeat. What a line that is down answers is counted and no
// error; an error is a message that can't be sent at all (detect.ErrTooLarge),
// a closed socket, or an interface that is gone and has to be opened anew.
func (s *Socket) Send(m *detect.Message) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	b, err := detect.Append(s.buf[:0], m, s.cfg.Key)
	if err != nil {
		return fmt.Errorf("path %s: %w", s.cfg.Name, err)
	}
	s.buf = b
	if _, err := s.conn.WriteToUDPAddrPort(b, s.cfg.Remote); err != nil {
		if !transient(err) {
			return fmt.Errorf("path %s: send a heartbeat to %v: %w", s.cfg.Name, s.cfg.Remote, err)
		}
		s.unsent.Add(1)
		return nil
	}
	s.sent.Add(1)
	return nil
}

// transient errors are those of a line or address that is down for now. EPERM
// is a firewall's, EINVAL that of an IPv4 source address that isn't up,
// EADDRNOTAVAIL of an IPv6 one.
func transient(err error) bool {
	for _, e := range []error{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENETDOWN, unix.EHOSTDOWN, unix.ECONNREFUSED,
		unix.EADDRNOTAVAIL, unix.EINVAL, unix.EPERM, unix.EACCES, unix.ENOBUFS, unix.EAGAIN} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Run hands every genuine heartbeat of the peer to receive, with the instant
// at which it was read, until ctx ends; then it closes the socket and returns
// nil. Everything else is counted and dropped.
func (s *Socket) Run(ctx context.Context, receive func(arrived instant.Instant, m detect.Message)) error {
	defer s.conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, detect.MaxMessage+1) // one more, so that what is too long shows
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		now := clock.Now()
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
		case transient(err):
			s.readErrors.Add(1)
			continue
		default:
			return fmt.Errorf("path %s: receive heartbeats on %v: %w", s.cfg.Name, s.cfg.Local, err)
		}
		if from.Port() != s.cfg.Remote.Port() || from.Addr().Unmap().WithZone("") != s.cfg.Remote.Addr().WithZone("") {
			s.wrongSource.Add(1)
			continue
		}
		m, err := detect.Parse(buf[:n], s.cfg.Key)
		switch {
		case err == nil:
			s.received.Add(1)
			receive(now, m)
		case errors.Is(err, detect.ErrForged):
			s.forged.Add(1)
		default:
			s.malformed.Add(1)
		}
	}
}

// Close closes a socket that isn't running; Run closes its own.
func (s *Socket) Close() error {
	if err := s.conn.Close(); err != nil && !errors.Is(err, os.ErrClosed) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("path %s: close: %w", s.cfg.Name, err)
	}
	return nil
}

// LocalAddr is what the socket is bound to.
func (s *Socket) LocalAddr() netip.AddrPort {
	return s.conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// Stats returns the counters as they stand.
func (s *Socket) Stats() Stats {
	return Stats{Sent: s.sent.Load(), Unsent: s.unsent.Load(), Received: s.received.Load(), Forged: s.forged.Load(),
		Malformed: s.malformed.Load(), WrongSource: s.wrongSource.Load(), ReadErrors: s.readErrors.Load()}
}

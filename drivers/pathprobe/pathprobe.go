// Package pathprobe asks a path what it carries: packets of a given size that
// must not be fragmented, and trains of packets back to back. The other end
// answers each with a small packet, never with more than it got, to nobody but
// the peer. It decides nothing; netstack/pmtu does. Start reading at Open.
package pathprobe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/clock"
)

// Port is the default UDP port of probes, unassigned at IANA.
const Port = 4796

// Config is one path.
type Config struct {
	Name      string
	Local     netip.AddrPort // the address may come up later
	Remote    netip.AddrPort // of the same family; the only source that is listened to
	Interface string         // empty: whatever the routes say
	Key       []byte         // shared with the peer
}

// ErrTooBig says that this box's own kernel refuses a packet of that size.
var ErrTooBig = errors.New("larger than the link")

// Echo says that a probe came through.
type Echo struct {
	ID    uint64
	Size  int // of the whole packet, bytes
	RTT   time.Duration
	Found int // what the other end found for its own direction; 0: nothing yet
}

// Train says how a train of packets arrived at the other end.
type Train struct {
	ID    uint64
	Size  int
	Count int
	Span  time.Duration // from the first to the last; may be 0 where nothing slows it
}

// Socket is one open path.
type Socket struct {
	cfg   Config
	conn  *net.UDPConn
	heads int // bytes of IP and UDP headers
	found atomic.Uint32

	sending sync.Mutex
	buf     []byte

	asked    *asked
	arriving arriving // used by Run alone
}

// maxPacket is the largest IP packet.
const maxPacket = 65535

// Open binds the socket of one path. It fails when the interface doesn't exist
// (yet), when another process has the port, or when cfg makes no sense.
func Open(cfg Config) (*Socket, error) {
	fail := func(err error) (*Socket, error) {
		return nil, fmt.Errorf("path %s: probes from %v to %v: %w", cfg.Name, cfg.Local, cfg.Remote, err)
	}
	cfg.Local = netip.AddrPortFrom(cfg.Local.Addr().Unmap(), cfg.Local.Port())
	cfg.Remote = netip.AddrPortFrom(cfg.Remote.Addr().Unmap(), cfg.Remote.Port())
	switch {
	case !cfg.Local.IsValid() || !cfg.Remote.IsValid() || cfg.Local.Addr().Is4() != cfg.Remote.Addr().Is4():
		return fail(errors.New("both addresses must be IPv4 or both IPv6"))
	case len(cfg.Key) == 0:
		return fail(errors.New("no key"))
	}
	network, heads := "udp6", 40+8
	if cfg.Local.Addr().Is4() {
		network, heads = "udp4", 20+8
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
	return &Socket{cfg: cfg, conn: conn.(*net.UDPConn), heads: heads, buf: make([]byte, maxPacket), asked: newAsked()}, nil
}

// prepare sets what must stand before the socket is bound. IP_PMTUDISC_PROBE
// sets DF and ignores what the kernel believes about the path (ip(7)).
func prepare(fd int, cfg Config) error {
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
	if err := set(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1, "SO_TIMESTAMPNS"); err != nil {
		return err
	}
	if cfg.Local.Addr().Is4() {
		return errors.Join(set(unix.IPPROTO_IP, unix.IP_FREEBIND, 1, "IP_FREEBIND"),
			set(unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE, "IP_MTU_DISCOVER"))
	}
	return errors.Join(set(unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1, "IPV6_FREEBIND"),
		set(unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE, "IPV6_MTU_DISCOVER"))
}

// Least is the smallest size that a probe of this path can have.
func (s *Socket) Least() int { return s.heads + wireLen }

// Tell is the own result that the peer is told with every message from now on.
func (s *Socket) Tell(found int) { s.found.Store(uint32(min(max(found, 0), maxPacket))) }

// Probe sends one packet of size bytes, IP header included; its Echo has the
// same id. ErrTooBig: the own kernel refuses it. What a line that is down answers
// is no error, the answer is missing.
func (s *Socket) Probe(id uint64, size int) error {
	return s.send(message{kind: probe, id: s.asked.add(id, size), size: uint16(size)}, size) //nolint:gosec // send looks at it
}

// SendTrain sends count packets of size bytes back to back, 255 at most; its
// Train has the same id.
func (s *Socket) SendTrain(id uint64, size, count int) error {
	wire := s.asked.add(id, size)
	for i := range min(count, 255) {
		m := message{kind: train, id: wire, size: uint16(size), count: uint8(count), index: uint8(i)} //nolint:gosec // send looks at size, 255 at most
		if err := s.send(m, size); err != nil {
			return err
		}
	}
	return nil
}

func (s *Socket) send(m message, size int) error {
	if size < s.Least() || size > maxPacket {
		return fmt.Errorf("path %s: a probe of %d bytes: %d to %d", s.cfg.Name, size, s.Least(), maxPacket)
	}
	s.sending.Lock()
	defer s.sending.Unlock()
	m.found = uint16(s.found.Load())
	m.put(s.buf, s.cfg.Key)
	_, err := s.conn.WriteToUDPAddrPort(s.buf[:size-s.heads], s.cfg.Remote)
	switch {
	case errors.Is(err, unix.EMSGSIZE):
		return fmt.Errorf("path %s: %d bytes: %w", s.cfg.Name, size, ErrTooBig)
	case errors.Is(err, net.ErrClosed) || errors.Is(err, unix.ENODEV):
		return fmt.Errorf("path %s: send a probe to %v: %w", s.cfg.Name, s.cfg.Remote, err)
	}
	return nil
}

// Run answers the peer and hands over what comes back, *Echo or *Train, until
// ctx ends; then it closes the socket and returns nil.
func (s *Socket) Run(ctx context.Context, heard func(any)) error {
	defer s.conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf, oob := make([]byte, maxPacket), make([]byte, 128)
	for {
		n, control, _, from, err := s.conn.ReadMsgUDPAddrPort(buf, oob)
		now := clock.Now()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed) || errors.Is(err, unix.ENODEV):
			return fmt.Errorf("path %s: receive probes on %v: %w", s.cfg.Name, s.cfg.Local, err)
		case err != nil:
			continue // what the network said about a packet before
		}
		if from.Port() != s.cfg.Remote.Port() || from.Addr().Unmap().WithZone("") != s.cfg.Remote.Addr().WithZone("") {
			continue
		}
		m, err := parse(buf[:n], s.cfg.Key)
		if err != nil {
			continue
		}
		switch m.kind {
		case probe:
			// Only as large as it says: a fragment or a padding proves nothing.
			if int(m.size) == n+s.heads {
				s.answer(message{kind: echo, id: m.id, size: m.size})
			}
		case train:
			if span, ok := s.arriving.take(m, stamped(oob[:control])); ok {
				s.answer(message{kind: arrived, id: m.id, size: m.size, count: m.count, span: uint64(span)})
			}
		case echo:
			if q, ok := s.asked.take(m.id, int(m.size)); ok {
				heard(&Echo{ID: q.id, Size: q.size, RTT: now.Sub(q.at), Found: int(m.found)})
			}
		case arrived:
			if q, ok := s.asked.take(m.id, int(m.size)); ok {
				heard(&Train{ID: q.id, Size: q.size, Count: int(m.count), Span: time.Duration(min(m.span, math.MaxInt64))})
			}
		}
	}
}

// answer sends the smallest packet. That it can't be sent, shows as silence.
func (s *Socket) answer(m message) { _ = s.send(m, s.Least()) }

// Close closes a socket that isn't running; Run closes its own.
func (s *Socket) Close() { s.conn.Close() }

package ntske

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"komainu/ntp/nts"
)

// Bounds on what strangers can occupy.
const (
	maxConns   = 64              // at the same time; each costs some 50 KB
	maxPerPeer = 4               // of one IPv4 address or one IPv6 /64
	wholeTime  = 5 * time.Second // of a connection, from its first packet
	lastTime   = time.Second     // of it, after the response, for the client to hang up
	maxOctets  = 16 << 10        // that a client sends, TLS and all

	again = time.Second // pause when files or memory ran out
)

// Server gives clients of the time server their keys and first cookies.
type Server struct {
	Certificates *Certificates
	Ring         func() *nts.Keyring // the one in use; called for each client
	Offer        nts.Offer
	Counters     Counters

	mu    sync.Mutex
	peers map[netip.Prefix]int
	conns int
}

// Counters count connections by their end. Each is counted once, in Accepted and
// in one of the others; Exhausted counts those that couldn't be accepted yet.
type Counters struct {
	Exhausted    atomic.Uint64 // out of files or memory
	Accepted     atomic.Uint64
	Agreed       atomic.Uint64 // cookies were given
	NoProtocol   atomic.Uint64 // the client doesn't ask for NTPv4
	NoAEAD       atomic.Uint64 // it has no algorithm of ours
	Unrecognised atomic.Uint64 // it sent a critical record unknown to us
	BadRequest   atomic.Uint64
	Busy         atomic.Uint64 // hung up on: too many connections
	BusyPeer     atomic.Uint64 // hung up on: too many of one address
	TLS          atomic.Uint64 // the handshake failed, or had no ALPN
	Slow         atomic.Uint64 // its time was up
	Broken       atomic.Uint64 // it ended early or sent too much
}

// Serve answers on ln until ctx ends, then closes it, hangs up and waits for its
// goroutines. An error is that of accepting.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() {
		<-ctx.Done()
		_ = ln.Close() // ends Accept, which reports what matters
	})
	cfg := &tls.Config{
		MinVersion:             tls.VersionTLS13, // RFC 8915 section 3
		NextProtos:             []string{nts.ALPN},
		GetCertificate:         s.Certificates.get,
		SessionTicketsDisabled: true, // a client comes back after days, for new keys
	}
	for {
		c, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = c.Close()
			}
			return nil
		}
		if exhausted(err) { // by others of this box: the time server must not end for it
			s.Counters.Exhausted.Add(1)
			select {
			case <-ctx.Done():
			case <-time.After(again):
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("NTS key exchange: accept on %s: %w", ln.Addr(), err)
		}
		s.Counters.Accepted.Add(1)
		peer := peerOf(c.RemoteAddr())
		if busy := s.enter(peer); busy != nil {
			busy.Add(1)
			_ = c.Close()
			continue
		}
		running.Go(func() {
			defer s.leave(peer)
			s.serveOne(ctx, c, cfg).Add(1)
		})
	}
}

// exhausted says that files or memory ran out, which passes.
func exhausted(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}

// peerOf is what counts as one peer: a household of IPv6 has a /64.
func peerOf(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // an address without bits counts as one peer, too
	return p
}

// enter counts a connection, or returns the counter of what keeps it out.
func (s *Server) enter(peer netip.Prefix) *atomic.Uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.conns >= maxConns:
		return &s.Counters.Busy
	case s.peers[peer] >= maxPerPeer:
		return &s.Counters.BusyPeer
	}
	if s.peers == nil {
		s.peers = make(map[netip.Prefix]int)
	}
	s.conns++
	s.peers[peer]++
	return nil
}

func (s *Server) leave(peer netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns--
	if s.peers[peer]--; s.peers[peer] == 0 {
		delete(s.peers, peer)
	}
}

// serveOne serves a connection to its end, whatever that is, and returns the
// counter of it. The client sees a fault and tries again; nobody else has to know.
func (s *Server) serveOne(ctx context.Context, plain net.Conn, cfg *tls.Config) *atomic.Uint64 {
	stop := context.AfterFunc(ctx, func() { _ = plain.Close() })
	defer stop()
	defer plain.Close()
	until := time.Now().Add(wholeTime)
	if plain.SetDeadline(until) != nil {
		return &s.Counters.Broken
	}
	c := tls.Server(&bounded{plain, maxOctets}, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		return s.fault(err, &s.Counters.TLS)
	}
	cs := c.ConnectionState()
	if cs.NegotiatedProtocol != nts.ALPN {
		return &s.Counters.TLS
	}
	keys, err := exported(&cs)
	if err != nil {
		return &s.Counters.TLS
	}
	req, err := readMessage(c, nts.MaxRequest)
	if err != nil && !errors.Is(err, errTooLong) {
		return s.fault(err, &s.Counters.Broken)
	}
	resp, outcome := s.Offer.Answer(req, s.Ring(), keys, random) // too long: req is empty, a bad request
	if _, err := c.Write(resp); err != nil {
		return s.fault(err, &s.Counters.Broken)
	}
	_ = c.CloseWrite() // the client may have what it wants, and be gone
	// Closing with something unread would reset the connection, and might take
	// the response from the client.
	if last := time.Now().Add(lastTime); last.Before(until) {
		_ = plain.SetDeadline(last)
	}
	_, _ = io.Copy(io.Discard, c)
	return s.counterOf(outcome)
}

func (s *Server) counterOf(o nts.Outcome) *atomic.Uint64 {
	switch o {
	case nts.Agreed:
		return &s.Counters.Agreed
	case nts.NoProtocol:
		return &s.Counters.NoProtocol
	case nts.NoAEAD:
		return &s.Counters.NoAEAD
	case nts.Unrecognised:
		return &s.Counters.Unrecognised
	default:
		return &s.Counters.BadRequest
	}
}

// fault tells what ended a connection early; other is for what it can't name.
func (s *Server) fault(err error, other *atomic.Uint64) *atomic.Uint64 {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &s.Counters.Slow
	case errors.Is(err, errBytes):
		return &s.Counters.Broken
	default:
		return other
	}
}

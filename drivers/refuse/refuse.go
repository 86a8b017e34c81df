// Package refuse is the locked endpoint: a listener that speaks just enough of
// PostgreSQL's protocol to give whoever reaches it a sentence and SQLSTATE
// 57P03 (AT-4), through TLS where the client wants that. It knows no state and
// no policy; the sentence is asked for at every refusal. Start reading at
// Endpoint.Run and Endpoint.answer.
package refuse

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// SQLState is cannot_connect_now, what a PostgreSQL that is starting answers.
const SQLState = "57P03"

// Codes in place of a protocol version (PostgreSQL's protocol, "Message Formats").
const (
	cancelRequest = 80877102
	sslRequest    = 80877103
	gssRequest    = 80877104
)

// maxStartup is MAX_STARTUP_PACKET_LENGTH of PostgreSQL, bytes.
const maxStartup = 10000

// maxDrain is how many bytes of a refused client are read before it is left.
const maxDrain = 64 << 10

// Config is what an endpoint needs.
type Config struct {
	// Sentence is why remote is refused: for people, English first, then
	// Japanese, UTF-8. Called from several goroutines.
	Sentence func(remote netip.AddrPort) string
	// Certificate is asked at every TLS handshake, so that it can be replaced
	// while running; nil: TLS is not offered.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Connections that are served at once; more wait in the kernel's queue. 0: 256.
	Connections int
	// Timeout of a connection from accept to the end of our answer; 0: 5 s.
	Timeout time.Duration
	// Linger is how long the client may then take to read it and leave; 0: 2 s.
	Linger time.Duration
}

// Stats counts how connections ended.
type Stats struct {
	Refused   uint64 // got the sentence
	Encrypted uint64 // of these: through TLS
	Cancelled uint64 // cancel requests, closed quietly as PostgreSQL does
	Left      uint64 // went away before asking for anything (port scans, TCP probes)
	Malformed uint64 // spoke something else, or broke the TLS handshake
	Slow      uint64 // took longer than Timeout
}

// Endpoint refuses clients. Its zero value is no use; call New.
type Endpoint struct {
	cfg Config
	tls *tls.Config

	refused, encrypted, cancelled, left, malformed, slow atomic.Uint64
}

// New returns an endpoint, whose Run may be called for several listeners.
func New(cfg Config) *Endpoint {
	if cfg.Connections == 0 {
		cfg.Connections = 256
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.Linger == 0 {
		cfg.Linger = 2 * time.Second
	}
	e := &Endpoint{cfg: cfg}
	if cfg.Certificate != nil {
		e.tls = &tls.Config{
			GetCertificate: cfg.Certificate,
			MinVersion:     tls.VersionTLS12,
			NextProtos:     []string{"postgresql"}, // libpq 17 demands it with sslnegotiation=direct
		}
	}
	return e
}

// Run refuses whoever connects to l until ctx ends, closes l, waits for the
// connections, which are cut, and returns nil.
func (e *Endpoint) Run(ctx context.Context, l net.Listener) error {
	var served sync.WaitGroup
	defer served.Wait()
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer l.Close()
	slots := make(chan struct{}, e.cfg.Connections)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM):
			// Nothing tells when there will be room again.
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			<-slots
			continue
		case errors.Is(err, unix.ECONNABORTED):
			<-slots
			continue
		case err != nil:
			return fmt.Errorf("locked endpoint %v: accept: %w", l.Addr(), err)
		}
		served.Go(func() {
			defer func() { <-slots }()
			e.serve(ctx, conn)
		})
	}
}

// serve refuses one client and counts how that went.
func (e *Endpoint) serve(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(e.cfg.Timeout)) // fails only on a closed connection, as does what follows
	err := e.answer(ctx, conn)
	var timeout net.Error
	switch {
	case err == nil:
	case errors.As(err, &timeout) && timeout.Timeout():
		e.slow.Add(1)
	case errors.Is(err, errLeft):
		e.left.Add(1)
	case ctx.Err() == nil:
		e.malformed.Add(1)
	}
}

var (
	errLeft    = errors.New("left without a word")
	errGarbage = errors.New("not PostgreSQL's protocol")
)

// answer leads the client to its startup message and refuses that. A bare
// error to an SSLRequest would hide the sentence, so TLS is completed first.
func (e *Endpoint) answer(ctx context.Context, raw net.Conn) error {
	conn := raw
	encrypted := false
	encrypt := func(c net.Conn) error {
		t := tls.Server(c, e.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			return err
		}
		conn, encrypted = t, true
		return nil
	}
	var first [1]byte
	if _, err := io.ReadFull(raw, first[:]); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
			return errLeft
		}
		return err
	}
	pushed := pushedBack{Conn: raw, first: first[:]}
	conn = &pushed
	if first[0] == 0x16 && e.tls != nil { // a TLS handshake at once: sslnegotiation=direct
		if err := encrypt(&pushed); err != nil {
			return err
		}
	}
	// At most one request for TLS and one for GSS come before the startup
	// message. Nothing is read ahead, so bytes stuffed behind a plain request
	// can't pass for encrypted ones (CVE-2021-23222).
	for range 3 {
		code, err := readRequest(conn)
		if err != nil {
			return err
		}
		switch {
		case code == cancelRequest:
			e.cancelled.Add(1)
			return nil
		case code == gssRequest, code == sslRequest && (encrypted || e.tls == nil):
			if _, err := conn.Write([]byte{'N'}); err != nil {
				return err
			}
		case code == sslRequest:
			if _, err := conn.Write([]byte{'S'}); err != nil {
				return err
			}
			if err := encrypt(raw); err != nil {
				return err
			}
		case code>>16 == 3:
			return e.refuse(raw, conn, encrypted)
		default:
			return errGarbage
		}
	}
	return errGarbage
}

// refuse sends the sentence and waits a moment until the client has left: to
// close at once while it still sends would reset the connection, and the
// sentence would be lost with it.
func (e *Endpoint) refuse(raw, conn net.Conn, encrypted bool) error {
	var remote netip.AddrPort
	if a, ok := raw.RemoteAddr().(*net.TCPAddr); ok {
		remote = a.AddrPort()
		remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	}
	if _, err := conn.Write(errorResponse(e.cfg.Sentence(remote))); err != nil {
		return err
	}
	e.refused.Add(1)
	if encrypted {
		e.encrypted.Add(1)
	}
	if t, ok := conn.(*tls.Conn); ok {
		_ = t.CloseWrite() // the sentence is out; what fails from here on is the client's leaving
	}
	if t, ok := raw.(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
	_ = raw.SetDeadline(time.Now().Add(e.cfg.Linger))
	_, _ = io.CopyN(io.Discard, raw, maxDrain)
	return nil
}

// readRequest reads one message of the opening and returns its code.
func readRequest(r io.Reader) (uint32, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, err
	}
	size, code := binary.BigEndian.Uint32(head[:]), binary.BigEndian.Uint32(head[4:])
	if size < 8 || size > maxStartup {
		return 0, errGarbage
	}
	_, err := io.CopyN(io.Discard, r, int64(size)-8)
	return code, err
}

// errorResponse is PostgreSQL's ErrorResponse of a server that won't let
// anybody in.
func errorResponse(sentence string) []byte {
	b := []byte{'E', 0, 0, 0, 0}
	for _, f := range []struct {
		kind byte
		text string
	}{{'S', "FATAL"}, {'V', "FATAL"}, {'C', SQLState}, {'M', sentence}} {
		b = append(b, f.kind)
		b = append(b, f.text...)
		b = append(b, 0)
	}
	b = append(b, 0)
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-1))
	return b
}

// pushedBack is a connection of which some bytes were looked at.
type pushedBack struct {
	net.Conn
	first []byte
}

func (p *pushedBack) Read(b []byte) (int, error) {
	if len(p.first) > 0 {
		n := copy(b, p.first)
		p.first = p.first[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// Stats returns the counters as they stand.
func (e *Endpoint) Stats() Stats {
	return Stats{Refused: e.refused.Load(), Encrypted: e.encrypted.Load(), Cancelled: e.cancelled.Load(),
		Left: e.left.Load(), Malformed: e.malformed.Load(), Slow: e.slow.Load()}
}

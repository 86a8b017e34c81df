package ntske

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"komainu/ntp/nts"
)

// pipes is a listener whose connections are made by dial, all from one address.
type pipes struct {
	conns chan net.Conn
	gone  chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.gone:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { close(p.gone); return nil }

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	p.conns <- there
	return here, nil
}

// TestSlowClients: whoever is slow is hung up on when its time is up, at
// whatever stage, and what it held is free again.
func TestSlowClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t)
		s, _ := newServer(t, a.issue(t, "ntp.example.jp", -time.Hour, time.Hour))
		p := newPipes()
		stop := start(t, s, p)
		began := time.Now()
		ended := make(chan struct{})
		for _, slow := range []func(net.Conn){
			func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, // says nothing
			func(c net.Conn) { // an octet a second
				for _, err := c.Write([]byte{22}); err == nil; _, err = c.Write([]byte{3}) {
					time.Sleep(time.Second)
				}
			},
			func(c net.Conn) { // stops after the handshake
				tc := tls.Client(c, &tls.Config{RootCAs: a.pool(), ServerName: "ntp.example.jp", NextProtos: []string{nts.ALPN}})
				_, _ = io.Copy(io.Discard, tc)
			},
			func(c net.Conn) { // an octet of the request a second
				tc := tls.Client(c, &tls.Config{RootCAs: a.pool(), ServerName: "ntp.example.jp", NextProtos: []string{nts.ALPN}})
				for _, err := tc.Write([]byte{0}); err == nil; _, err = tc.Write([]byte{0}) {
					time.Sleep(time.Second)
				}
			},
		} {
			c, _ := p.dial(context.Background(), "", "")
			go func() {
				slow(c)
				c.Close()
				ended <- struct{}{}
			}()
		}
		for range 4 {
			<-ended
		}
		synctest.Wait()
		if d := time.Since(began); d < wholeTime || d > wholeTime+time.Second {
			t.Errorf("hung up after %v", d)
		}
		if n := s.Counters.Slow.Load(); n != 4 || s.conns != 0 || len(s.peers) != 0 {
			t.Errorf("%d slow, %d connections and %d peers left", n, s.conns, len(s.peers))
		}
		stop()
	})
}

// TestFlood: connections beyond the bounds are hung up on at once, and the next
// client is served when the flood is over.
func TestFlood(t *testing.T) {
	a := newAuthority(t)
	s, _ := newServer(t, a.issue(t, "ntp.example.jp", -time.Hour, time.Hour))
	ln := open(t)
	stop := start(t, s, ln)
	var open []net.Conn
	for i := range 50 {
		c, err := net.Dial("tcp", ln.Addr().String())
		must(t, err)
		open = append(open, c)
		if i < maxPerPeer {
			continue
		}
		must(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("connection %d is held: %v", i, err)
		}
	}
	if n := s.Counters.BusyPeer.Load(); n != 50-maxPerPeer {
		t.Errorf("%d turned away", n)
	}
	for _, c := range open {
		c.Close()
	}
	await(t, "the first ones' end", func() bool { return s.Counters.TLS.Load() == maxPerPeer })
	if _, err := (&Client{Roots: a.pool()}).Handshake(context.Background(), ln.Addr().String(), "ntp.example.jp"); err != nil {
		t.Error(err)
	}
	stop()
}

func TestBounds(t *testing.T) {
	var s Server
	peer := func(i int) netip.Prefix {
		return peerOf(&net.TCPAddr{IP: net.IPv4(10, 0, byte(i>>8), byte(i))})
	}
	for i := range maxConns {
		if s.enter(peer(i)) != nil {
			t.Fatalf("connection %d refused", i)
		}
	}
	if s.enter(peer(1000)) != &s.Counters.Busy {
		t.Error("more than the bound")
	}
	s.leave(peer(0))
	if s.enter(peer(1)) != nil {
		t.Error("a free place is refused")
	}
	for i := range maxConns {
		if i > 0 {
			s.leave(peer(i))
		}
	}
	s.leave(peer(1))
	if s.conns != 0 || len(s.peers) != 0 {
		t.Errorf("%d connections, %d peers left", s.conns, len(s.peers))
	}
	one, two := &net.TCPAddr{IP: net.ParseIP("2001:db8:1:2::1")}, &net.TCPAddr{IP: net.ParseIP("2001:db8:1:2:ffff::2")}
	if peerOf(one) != peerOf(two) || peerOf(one) == peerOf(&net.TCPAddr{IP: net.ParseIP("2001:db8:1:3::1")}) {
		t.Error("IPv6 peers aren't told apart by /64")
	}
	if peerOf(&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "lan"}) != peerOf(&net.TCPAddr{IP: net.ParseIP("fe80::2"), Zone: "wan"}) {
		t.Error("link-local addresses")
	}
}

// TestBadClients: each ends in its own counter, and the server goes on.
func TestBadClients(t *testing.T) {
	a := newAuthority(t)
	s, _ := newServer(t, a.issue(t, "ntp.example.jp", -time.Hour, time.Hour))
	n := &s.Counters
	ln := open(t)
	start(t, s, ln)
	speak := func(protos []string, req []byte) func(net.Conn) {
		return func(c net.Conn) {
			tc := tls.Client(c, &tls.Config{RootCAs: a.pool(), ServerName: "ntp.example.jp", NextProtos: protos})
			_, _ = tc.Write(req)
			_ = tc.CloseWrite()
			_, _ = io.Copy(io.Discard, tc)
		}
	}
	ke := []string{nts.ALPN}
	for name, c := range map[string]struct {
		counter interface{ Load() uint64 }
		client  func(net.Conn)
	}{
		"garbage": {&n.TLS, func(c net.Conn) {
			_, _ = c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
			_, _ = io.Copy(io.Discard, c)
		}},
		"hangs up":   {&n.TLS, func(net.Conn) {}},
		"other ALPN": {&n.TLS, speak([]string{"h2"}, nil)},
		"no ALPN":    {&n.TLS, speak(nil, nil)},
		"TLS 1.2": {&n.TLS, func(c net.Conn) {
			_ = tls.Client(c, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, NextProtos: ke}).Handshake()
		}}, //nolint:gosec // it is the bad client
		"no end":        {&n.Broken, speak(ke, []byte{0x80, 1, 0, 2, 0, 0})},
		"nothing":       {&n.Broken, speak(ke, nil)},
		"too long":      {&n.BadRequest, speak(ke, bytes.Repeat([]byte{0, 99, 0, 0}, 600))},
		"far too long":  {&n.BadRequest, speak(ke, bytes.Repeat([]byte{0, 99, 0, 0}, 100_000))},
		"bad request":   {&n.BadRequest, speak(ke, []byte{0x80, 0, 0, 0})},
		"critical":      {&n.Unrecognised, speak(ke, []byte{0x80, 1, 0, 2, 0, 0, 0x80, 99, 0, 0, 0x80, 0, 0, 0})},
		"NTPv5 perhaps": {&n.NoProtocol, speak(ke, []byte{0x80, 1, 0, 2, 0, 1, 0x80, 0, 0, 0})},
		"other AEAD":    {&n.NoAEAD, speak(ke, []byte{0x80, 1, 0, 2, 0, 0, 0x80, 4, 0, 2, 0, 30, 0x80, 0, 0, 0})},
	} {
		t.Run(name, func(t *testing.T) {
			before := c.counter.Load()
			conn, err := net.Dial("tcp", ln.Addr().String())
			must(t, err)
			must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
			c.client(conn)
			conn.Close()
			await(t, "the counter", func() bool { return c.counter.Load() == before+1 })
		})
	}
	_, err := (&Client{Roots: a.pool()}).Handshake(context.Background(), ln.Addr().String(), "ntp.example.jp")
	must(t, err)
}

// TestStopHangsUp: an idle client doesn't delay the end.
func TestStopHangsUp(t *testing.T) {
	a := newAuthority(t)
	s, _ := newServer(t, a.issue(t, "ntp.example.jp", -time.Hour, time.Hour))
	ln := open(t)
	stop := start(t, s, ln)
	c, err := net.Dial("tcp", ln.Addr().String())
	must(t, err)
	defer c.Close()
	await(t, "accepted", func() bool { return s.Counters.Accepted.Load() == 1 })
	began := time.Now()
	stop()
	if d := time.Since(began); d > wholeTime/2 {
		t.Errorf("stopping took %v", d)
	}
}

// scarce is a listener that can't accept at first.
type scarce struct {
	*pipes
	left int
}

func (s *scarce) Accept() (net.Conn, error) {
	if s.left > 0 {
		s.left--
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", unix.EMFILE)}
	}
	return s.pipes.Accept()
}

// TestOutOfFiles: the server waits and goes on.
func TestOutOfFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t)
		s, _ := newServer(t, a.issue(t, "ntp.example.jp", -time.Hour, time.Hour))
		p := newPipes()
		stop := start(t, s, &scarce{p, 3})
		c := Client{Roots: a.pool(), Dial: p.dial}
		began := time.Now()
		conn, err := p.dial(context.Background(), "", "")
		must(t, err)
		conn.Close()
		if d := time.Since(began); d != 3*again || s.Counters.Exhausted.Load() != 3 {
			t.Errorf("after %v, %d times out of files", d, s.Counters.Exhausted.Load())
		}
		_, err = c.Handshake(context.Background(), "a:4460", "ntp.example.jp")
		if err == nil || !strings.Contains(err.Error(), "pipe") { // a pipe has no address to ask for time
			t.Error(err)
		}
		stop()
	})
}

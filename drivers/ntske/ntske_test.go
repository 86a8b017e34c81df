package ntske

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"komainu/ntp/nts"
	"komainu/ntp/packet"
	"komainu/ntp/wall"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authority signs certificates of time servers.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	c := a.issue(t, "authority", -time.Hour, time.Hour)
	a.cert, a.key = c.Leaf, c.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

// issue makes a certificate for a name or address, valid from and until so long
// after now.
func (a *authority) issue(t testing.TB, name string, from, until time.Duration) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	now := time.Now()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(from),
		NotAfter:     now.Add(until),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if ip := net.ParseIP(name); ip != nil {
		c.IPAddresses = []net.IP{ip}
	} else {
		c.DNSNames = []string{name}
	}
	parent, parentKey := a.cert, a.key
	if parent == nil {
		c.IsCA, c.BasicConstraintsValid = true, true
		parent, parentKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, parentKey)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// write puts a certificate into PEM files, as operators do.
func write(t testing.TB, dir string, c tls.Certificate) (certFile, keyFile string) {
	t.Helper()
	pkcs8, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	must(t, err)
	certFile, keyFile = filepath.Join(dir, "nts.crt"), filepath.Join(dir, "nts.key")
	must(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}), 0o644))
	_ = os.Remove(keyFile) // with whatever mode it has
	must(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
	return certFile, keyFile
}

// newServer has a certificate and a ring with one key.
func newServer(t testing.TB, c tls.Certificate) (*Server, *nts.Keyring) {
	t.Helper()
	ring, err := nts.NewKeyring(wall.Time(time.Now().UnixNano()), random)
	must(t, err)
	certs := NewCertificates(func() (tls.Certificate, error) { return c, nil }, time.Now)
	must(t, certs.Reload())
	return &Server{Certificates: certs, Ring: func() *nts.Keyring { return ring }}, ring
}

// start serves on ln; stop ends it and waits.
func start(t testing.TB, s *Server, ln net.Listener) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	return ln
}

// ask makes one protected request from r and hears the answer of ring.
func ask(t *testing.T, r *Result, ring *nts.Keyring) {
	t.Helper()
	c, err := nts.NewClient(&r.Keys, r.Cookies, random)
	must(t, err)
	h := packet.Header{Version: 4, Mode: packet.ModeClient}
	b := make([]byte, packet.HeaderSize)
	h.Put(b)
	req, err := c.Request(b)
	must(t, err)
	s := nts.NewSession(random)
	if v := ring.Open(req, s); v != nts.OK {
		t.Fatalf("request: %v", v)
	}
	h.Mode, h.Stratum = packet.ModeServer, 1
	b = make([]byte, packet.HeaderSize)
	h.Put(b)
	resp, ok := ring.Seal(s, b)
	if !ok {
		t.Fatal("no reply")
	}
	must(t, c.Response(resp))
}

func TestHandshake(t *testing.T) {
	a := newAuthority(t)
	s, ring := newServer(t, a.issue(t, "ntp.example.jp", -time.Hour, time.Hour))
	ln := listen(t)
	stop := start(t, s, ln)
	c := Client{Roots: a.pool()}
	r, err := c.Handshake(context.Background(), ln.Addr().String(), "ntp.example.jp")
	must(t, err)
	if r.Server != "127.0.0.1" || r.Port != 123 || len(r.Cookies) != 8 || !r.Ends.Equal(s.Certificates.NotAfter()) {
		t.Errorf("%s port %d, %d cookies, until %v", r.Server, r.Port, len(r.Cookies), r.Ends)
	}
	ask(t, r, ring)
	stop()
	if n := &s.Counters; n.Accepted.Load() != 1 || n.Agreed.Load() != 1 {
		t.Errorf("%d accepted, %d agreed", n.Accepted.Load(), n.Agreed.Load())
	}
}

func TestHandshakeByAddressAndOffer(t *testing.T) {
	a := newAuthority(t)
	s, _ := newServer(t, a.issue(t, "127.0.0.1", -time.Hour, time.Hour))
	s.Offer = nts.Offer{Server: "192.0.2.7", Port: 1123}
	ln := listen(t)
	start(t, s, ln)
	c := Client{Roots: a.pool()}
	r, err := c.Handshake(context.Background(), ln.Addr().String(), "127.0.0.1")
	must(t, err)
	if r.Server != "192.0.2.7" || r.Port != 1123 {
		t.Errorf("%s port %d", r.Server, r.Port)
	}
}

func TestDistrust(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	s, _ := newServer(t, a.issue(t, "ntp.example.jp", -time.Hour, time.Hour))
	ln := listen(t)
	start(t, s, ln)
	try := func(c Client, name string) error {
		_, err := c.Handshake(context.Background(), ln.Addr().String(), name)
		if err == nil {
			t.Fatalf("%s: trusted", name)
		}
		return err
	}
	var unknown x509.UnknownAuthorityError
	if err := try(Client{Roots: other.pool()}, "ntp.example.jp"); !errors.As(err, &unknown) || !strings.Contains(err.Error(), "authority") {
		t.Error(err)
	}
	var name x509.HostnameError
	if err := try(Client{Roots: a.pool()}, "evil.example.jp"); !errors.As(err, &name) || !strings.Contains(err.Error(), "another name") {
		t.Error(err)
	}
	at := func(t time.Time) func() time.Time { return func() time.Time { return t } }
	later := Client{Roots: a.pool(), Now: at(time.Now().AddDate(1, 0, 0))}
	if err := try(later, "ntp.example.jp"); !errors.Is(err, ErrDates) || !strings.Contains(err.Error(), "has expired") {
		t.Error(err)
	}
	if err := try(Client{Roots: a.pool(), Now: at(time.Unix(0, 0))}, "ntp.example.jp"); !errors.Is(err, ErrDates) || !strings.Contains(err.Error(), "isn't valid yet") {
		t.Error(err)
	}
}

// TestClockOf1970: an expired certificate of the server is judged by the time
// that the caller gives.
func TestClockOf1970(t *testing.T) {
	a := newAuthority(t)
	s, ring := newServer(t, a.issue(t, "ntp.example.jp", -time.Hour, time.Hour))
	ln := listen(t)
	start(t, s, ln)
	built := time.Now().Add(-30 * time.Minute)
	c := Client{Roots: a.pool(), Now: func() time.Time { return built }}
	r, err := c.Handshake(context.Background(), ln.Addr().String(), "ntp.example.jp")
	must(t, err)
	ask(t, r, ring)
}

func TestNoKEBehindThePort(t *testing.T) {
	a := newAuthority(t)
	cert := a.issue(t, "ntp.example.jp", -time.Hour, time.Hour)
	for name, c := range map[string]struct {
		serve func(net.Conn)
		want  error
	}{
		"TLS without ALPN": {func(c net.Conn) {
			srv := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
			_, _ = io.Copy(io.Discard, srv)
		}, ErrALPN},
		"hangs up": {func(net.Conn) {}, io.EOF},
		"TLS 1.2": {func(c net.Conn) {
			_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12}).Handshake()
		}, nil},
		"other name": {func(c net.Conn) {
			_, _ = c.Write([]byte("220 mail.example.jp ESMTP\r\n"))
			_, _ = io.Copy(io.Discard, c)
		}, nil},
		"garbage inside": {func(c net.Conn) {
			srv := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{nts.ALPN}})
			_, _ = srv.Write([]byte{0x80, 0, 0, 0})
			_, _ = io.Copy(io.Discard, srv)
		}, nts.ErrRecords},
		"half a response": {func(c net.Conn) {
			srv := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{nts.ALPN}})
			_, _ = srv.Write([]byte{0x80, 1, 0, 2, 0})
			_ = srv.Close()
		}, io.ErrUnexpectedEOF},
		"endless response": {func(c net.Conn) {
			srv := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{nts.ALPN}})
			for _, err := srv.Write([]byte{0, 99, 0, 0}); err == nil; _, err = srv.Write(bytes.Repeat([]byte{0, 99, 0, 0}, 1000)) {
			}
		}, errTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			ln := listen(t)
			done := make(chan struct{})
			go func() {
				defer close(done)
				if conn, err := ln.Accept(); err == nil {
					c.serve(conn)
					conn.Close()
				}
			}()
			_, err := (&Client{Roots: a.pool()}).Handshake(context.Background(), ln.Addr().String(), "ntp.example.jp")
			ln.Close()
			<-done
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

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
func (p *pipes) Close() error   { close(p.gone); return nil }
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

// TestClientIsPatientOnce: a server that never answers costs 10 s, a cancelled
// context nothing.
func TestClientIsPatientOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, there) }()
			return here, nil
		}
		c := Client{Roots: x509.NewCertPool(), Dial: silent}
		began := time.Now()
		_, err := c.Handshake(context.Background(), "a:4460", "a")
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != patience {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := c.Handshake(ctx, "a:4460", "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// TestFlood: connections beyond the bounds are hung up on at once, and the next
// client is served when the flood is over.
func TestFlood(t *testing.T) {
	a := newAuthority(t)
	s, _ := newServer(t, a.issue(t, "ntp.example.jp", -time.Hour, time.Hour))
	ln := listen(t)
	stop := start(t, s, ln)
	var open []net.Conn
	for i := range 50 {
		c, err := net.Dial("tcp", ln.Addr().String())
		must(t, err)
		open = append(open, c)
		if i < maxPerPeer {
			continue
		}
		must(t, c.SetReadDeadline(time.Now().Add(4*time.Second)))
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
	ln := listen(t)
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
			must(t, conn.SetDeadline(time.Now().Add(4*time.Second)))
			c.client(conn)
			conn.Close()
			await(t, "the counter", func() bool { return c.counter.Load() == before+1 })
		})
	}
	_, err := (&Client{Roots: a.pool()}).Handshake(context.Background(), ln.Addr().String(), "ntp.example.jp")
	must(t, err)
}

// await looks again and again until what is awaited came about.
func await(t testing.TB, what string, came func() bool) {
	t.Helper()
	limit, tick := time.NewTimer(10*time.Second), time.NewTicker(5*time.Millisecond)
	defer limit.Stop()
	defer tick.Stop()
	for !came() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// TestReload: a new certificate is shown without a restart; a bad one isn't.
func TestReload(t *testing.T) {
	a := newAuthority(t)
	dir := t.TempDir()
	first := a.issue(t, "ntp.example.jp", -time.Hour, time.Hour)
	certFile, keyFile := write(t, dir, first)
	certs := NewCertificates(LoadPair(certFile, keyFile), time.Now)
	must(t, certs.Reload())
	s, _ := newServer(t, first)
	s.Certificates = certs
	ln := listen(t)
	start(t, s, ln)
	shown := func() time.Time {
		t.Helper()
		r, err := (&Client{Roots: a.pool()}).Handshake(context.Background(), ln.Addr().String(), "ntp.example.jp")
		must(t, err)
		return r.Ends
	}
	if !shown().Equal(first.Leaf.NotAfter) {
		t.Error("the first isn't shown")
	}
	second := a.issue(t, "ntp.example.jp", -time.Hour, 2*time.Hour)
	write(t, dir, second)
	must(t, certs.Reload())
	if !shown().Equal(second.Leaf.NotAfter) {
		t.Error("the second isn't shown")
	}
	for name, spoil := range map[string]func(){
		"expired": func() { write(t, dir, a.issue(t, "ntp.example.jp", -2*time.Hour, -time.Hour)) },
		"not yet": func() { write(t, dir, a.issue(t, "ntp.example.jp", time.Hour, 2*time.Hour)) },
		"gone":    func() { must(t, os.Remove(certFile)) },
		"no key":  func() { must(t, os.Remove(keyFile)) },
		"other key": func() {
			write(t, dir, second)
			must(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: first.Certificate[0]}), 0o644))
		},
		"nonsense": func() { must(t, os.WriteFile(certFile, []byte("nonsense"), 0o644)) },
		"half":     func() { must(t, os.Truncate(certFile, 100)) },
		"open key": func() { must(t, os.Chmod(keyFile, 0o644)) },
	} {
		write(t, dir, second)
		spoil()
		err := certs.Reload()
		if err == nil {
			t.Errorf("%s: taken", name)
		} else if dated := name == "expired" || name == "not yet"; errors.Is(err, ErrDates) != dated {
			t.Errorf("%s: %v", name, err)
		}
		if !certs.NotAfter().Equal(second.Leaf.NotAfter) {
			t.Errorf("%s: the old one is gone", name)
		}
	}
	if !shown().Equal(second.Leaf.NotAfter) {
		t.Error("the second isn't shown any more")
	}
}

func TestFirstCertificate(t *testing.T) {
	a := newAuthority(t)
	old := a.issue(t, "ntp.example.jp", -2*time.Hour, -time.Hour)
	certs := NewCertificates(func() (tls.Certificate, error) { return old, nil }, time.Now)
	if _, err := certs.get(nil); err == nil || !certs.NotAfter().IsZero() {
		t.Error("a certificate from nowhere")
	}
	if err := certs.Reload(); !errors.Is(err, ErrDates) {
		t.Error(err)
	}
	if _, err := certs.get(nil); err != nil {
		t.Errorf("the only certificate isn't shown: %v", err)
	}
	none := NewCertificates(func() (tls.Certificate, error) { return tls.Certificate{}, nil }, time.Now)
	if none.Reload() == nil {
		t.Error("nothing was taken for a certificate")
	}
}

// TestStopHangsUp: an idle client doesn't delay the end.
func TestStopHangsUp(t *testing.T) {
	a := newAuthority(t)
	s, _ := newServer(t, a.issue(t, "ntp.example.jp", -time.Hour, time.Hour))
	ln := listen(t)
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

package ntske

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
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

func open(t testing.TB) net.Listener {
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
	ln := open(t)
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
	ln := open(t)
	start(t, s, ln)
	c := Client{Roots: a.pool()}
	r, err := c.Handshake(context.Background(), ln.Addr().String(), "127.0.0.1")
	must(t, err)
	if r.Server != "192.0.2.7" || r.Port != 1123 {
		t.Errorf("%s port %d", r.Server, r.Port)
	}
}

// await looks again and again until what is awaited came about.
func await(t testing.TB, what string, came func() bool) {
	t.Helper()
	limit, tick := time.NewTimer(time.Minute), time.NewTicker(5*time.Millisecond)
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

package orders

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authority makes certificates in files, as the boxes get them.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", nil)
	return a
}

func (a *authority) issue(cn string, names []string) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	must := func(err error) {
		if err != nil {
			a.t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: cn},
		DNSNames:     names,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	parent, parentKey := a.cert, a.key
	if parent == nil {
		c.IsCA, c.BasicConstraintsValid = true, true
		parent, parentKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, parentKey)
	must(err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	name := filepath.Join(a.dir, "f-"+cn)
	must(os.WriteFile(name+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(os.WriteFile(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
	c, err = x509.ParseCertificate(der)
	must(err)
	return c, key
}

func (a *authority) config(cn string) *tls.Config {
	a.t.Helper()
	a.issue(cn, []string{cn})
	name := filepath.Join(a.dir, "f-"+cn)
	cfg, err := Load(name+".crt", name+".key", filepath.Join(a.dir, "f-ca.crt"))
	if err != nil {
		a.t.Fatal(err)
	}
	return cfg
}

// counting counts the connections accepted.
type counting struct {
	net.Listener
	n atomic.Int32
}

func (c *counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.n.Add(1)
	}
	return conn, err
}

func serve(t *testing.T, addr string, cfg *tls.Config, h Handler) (ln *counting, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ln = &counting{Listener: l}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, cfg, h) }()
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
	return ln, stop
}

func newClient(t *testing.T, cfg *tls.Config) *Client {
	c := &Client{TLS: cfg}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

type order struct{ ID, Order string }

func echo(_ context.Context, peer string, body json.RawMessage) (any, error) {
	var o order
	if err := json.Unmarshal(body, &o); err != nil {
		return nil, err
	}
	switch o.Order {
	case "refuse":
		return nil, &Refusal{Code: "term-old", Where: "resident", Args: []string{"7"}}
	case "fail":
		return nil, errors.New("disk on fire")
	}
	return order{o.ID, peer + " " + o.Order}, nil
}

func TestOrders(t *testing.T) {
	ca := newAuthority(t)
	ln, stop := serve(t, "127.0.0.1:0", ca.config("dc-db"), echo)
	c := newClient(t, ca.config("hinata-cho"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	do := func(what string) (order, error) {
		var out order
		err := c.Do(ctx, ln.Addr().String(), "dc-db", order{"1", what}, &out)
		return out, err
	}
	for range 3 {
		if got, err := do("fence"); err != nil || got != (order{"1", "hinata-cho fence"}) {
			t.Fatalf("got %v, %v", got, err)
		}
	}
	if n := ln.n.Load(); n != 1 {
		t.Errorf("%d connections for three orders", n)
	}
	var r *Refusal
	if _, err := do("refuse"); !errors.As(err, &r) || r.Code != "term-old" || r.Args[0] != "7" {
		t.Errorf("got %v", err)
	}
	if _, err := do("fail"); !errors.As(err, &r) || r.Code != "internal" {
		t.Errorf("got %v", err)
	}
	// A restarted box is reached without an error: the kept connection is renewed.
	addr := ln.Addr().String()
	stop()
	serve(t, addr, ca.config("dc-db"), echo)
	if _, err := do("fence"); err != nil {
		t.Errorf("after the other box restarted: %v", err)
	}
}

func TestDeadline(t *testing.T) {
	ca := newAuthority(t)
	entered, left := make(chan struct{}), make(chan struct{})
	ln, _ := serve(t, "127.0.0.1:0", ca.config("dc-db"), func(ctx context.Context, _ string, b json.RawMessage) (any, error) {
		if !strings.Contains(string(b), "hang") {
			return "quick", nil
		}
		close(entered)
		<-ctx.Done()
		close(left)
		return "late", nil
	})
	c := newClient(t, ca.config("hall"))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	if err := c.Do(ctx, ln.Addr().String(), "dc-db", "hang", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-left // the handler heard that nobody waits any more
	var got string
	if err := c.Do(t.Context(), ln.Addr().String(), "dc-db", "next", &got); err != nil || got != "quick" {
		t.Errorf("after a cancelled order: %q, %v", got, err)
	}
}

func TestStrangers(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	reached := func(_ context.Context, peer string, _ json.RawMessage) (any, error) {
		t.Errorf("a stranger got through as %q", peer)
		return nil, nil
	}
	ln, _ := serve(t, "127.0.0.1:0", ca.config("dc-db"), reached)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	foreign := other.config("hall") // trusts the server's authority, but isn't of it
	foreign.RootCAs = ca.config("x").RootCAs
	bare := ca.config("y")
	bare.Certificates = nil
	old := ca.config("z")
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for name, cfg := range map[string]*tls.Config{"other authority": foreign, "no certificate": bare, "TLS 1.2": old} {
		if err := newClient(t, cfg).Do(ctx, ln.Addr().String(), "dc-db", "x", nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := newClient(t, ca.config("hall")).Do(ctx, ln.Addr().String(), "dc-edge", "x", nil); err == nil {
		t.Error("wrong server name: no error")
	}
	nameless, _ := ca.issue("", nil)
	if nameless.Subject.CommonName != "" {
		t.Fatal("test certificate has a name")
	}
	cfg, err := Load(filepath.Join(ca.dir, "f-.crt"), filepath.Join(ca.dir, "f-.key"), filepath.Join(ca.dir, "f-ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if err := newClient(t, cfg).Do(ctx, ln.Addr().String(), "dc-db", "x", nil); err == nil {
		t.Error("no common name: no error")
	}
}

func TestTooLong(t *testing.T) {
	ca := newAuthority(t)
	ln, _ := serve(t, "127.0.0.1:0", ca.config("dc-db"), echo)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := newClient(t, ca.config("hall")).Do(ctx, ln.Addr().String(), "dc-db", strings.Repeat("x", maxLine), nil); err == nil {
		t.Error("no error")
	}
}

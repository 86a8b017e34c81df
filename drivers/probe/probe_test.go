package probe

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listener gives a TCP listener that is closed with the test.
func listener(t *testing.T) (net.Listener, netip.AddrPort) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, l.Addr().(*net.TCPAddr).AddrPort()
}

// nobody is an address where no one listens.
func nobody(t *testing.T) netip.AddrPort {
	t.Helper()
	l, addr := listener(t)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return addr
}

func ask(t *testing.T, p Prober, wantCode string) Result {
	t.Helper()
	r := p.Probe(context.Background())
	if r.Code != wantCode || r.OK != (wantCode == "") || (r.Err == nil) != r.OK || r.Latency <= 0 {
		t.Errorf("%+v, want code %q", r, wantCode)
	}
	return r
}

func TestTCP(t *testing.T) {
	_, addr := listener(t)
	ask(t, TCP(Target{Address: addr}), "")
	ask(t, TCP(Target{Address: addr, Source: netip.MustParseAddr("127.0.0.9")}), "")
	ask(t, TCP(Target{Address: nobody(t)}), "refused")
	ask(t, TCP(Target{Address: addr, Source: netip.MustParseAddr("192.0.2.7")}), "unreachable") // no address of ours
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if r := TCP(Target{Address: addr}).Probe(ctx); r.OK || r.Code != "cancelled" {
		t.Errorf("%+v", r)
	}
}

func TestHTTP(t *testing.T) {
	slow := make(chan struct{})
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			_, _ = fmt.Fprint(w, r.Host)
		case "/moved":
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		case "/forbidden":
			w.WriteHeader(http.StatusForbidden)
		case "/broken":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/slow":
			<-slow
		}
	})
	plain, secure := httptest.NewServer(answer), httptest.NewUnstartedServer(answer)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer plain.Close()
	defer secure.Close()
	defer close(slow)
	at := func(s *httptest.Server) Target {
		return Target{Address: s.Listener.Addr().(*net.TCPAddr).AddrPort(), Timeout: 3 * time.Second}
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(secure.Certificate())
	for _, c := range []struct {
		name, code string
		cfg        HTTPConfig
	}{
		{"answer", "", HTTPConfig{Target: at(plain)}},
		{"redirect", "", HTTPConfig{Target: at(plain), Path: "/moved"}},
		{"client's fault", "", HTTPConfig{Target: at(plain), Path: "/forbidden"}},
		{"server's fault", "503", HTTPConfig{Target: at(plain), Path: "/broken"}},
		{"no answer in time", "timeout", HTTPConfig{Target: at(plain), Path: "/slow"}},
		{"nobody there", "refused", HTTPConfig{Target: Target{Address: nobody(t)}}},
		{"TLS, any certificate", "", HTTPConfig{Target: at(secure), TLS: true}},
		{"TLS, trusted", "", HTTPConfig{Target: at(secure), TLS: true, CA: trusted, Host: "example.com"}},
		{"TLS, not trusted", "tls", HTTPConfig{Target: at(secure), TLS: true, CA: x509.NewCertPool()}},
		{"TLS, another name", "tls", HTTPConfig{Target: at(secure), TLS: true, CA: trusted, Host: "resident.example.jp"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := HTTP(c.cfg)
			defer p.Close()
			ask(t, p, c.code)
		})
	}
}

// A listener that accepts and says nothing is what a stopped server looks like.
func TestPostgresSilentServer(t *testing.T) {
	l, addr := listener(t)
	accepted := make(chan net.Conn, 8)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	p, err := Postgres(PostgresConfig{Target: Target{Address: addr, Timeout: 100 * time.Millisecond}, User: "komainu", Database: "resident"})
	if err != nil {
		t.Fatal(err)
	}
	r := ask(t, p, "timeout")
	if r.Latency > 20*time.Second || !strings.Contains(r.Err.Error(), addr.String()) {
		t.Errorf("%v, %v", r.Latency, r.Err)
	}
	p.Close()
	_ = l.Close()
	for c := range accepted {
		_ = c.Close()
	}
}

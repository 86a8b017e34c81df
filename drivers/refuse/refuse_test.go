package refuse

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const sentence = "The town-hall copy is locked: the data centre is in service. 役場側の複製は閉鎖中です。"

// certificate makes a self-signed certificate for localhost and its PEM file.
func certificate(t *testing.T) (*tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "localhost"},
		DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "root.crt")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// start runs an endpoint on loopback and ends it with the test.
func start(t *testing.T, cfg Config) (*Endpoint, *net.TCPAddr) {
	t.Helper()
	if cfg.Sentence == nil {
		cfg.Sentence = func(netip.AddrPort) string { return sentence }
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return e, l.Addr().(*net.TCPAddr)
}

func fixed(c *tls.Certificate) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c, nil }
}

// AT-4: in normal time the standby refuses a client with a clear error.
func TestPsqlSeesTheSentence(t *testing.T) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("psql is not installed")
	}
	cert, root := certificate(t)
	for _, c := range []struct {
		mode          string
		tls           bool
		wantEncrypted bool
	}{
		{"disable", true, false}, {"prefer", true, true}, {"require", true, true}, {"verify-full", true, true},
		{"disable", false, false}, {"prefer", false, false},
	} {
		t.Run(fmt.Sprintf("%s, certificate %v", c.mode, c.tls), func(t *testing.T) {
			cfg := Config{}
			if c.tls {
				cfg.Certificate = fixed(cert)
			}
			e, addr := start(t, cfg)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, psql, "-X", "-v", "VERBOSITY=verbose", "-c", "select 1",
				fmt.Sprintf("host=localhost hostaddr=127.0.0.1 port=%d user=clerk dbname=resident sslmode=%s sslrootcert=%s", addr.Port, c.mode, root))
			cmd.Env = []string{"LC_ALL=C.UTF-8", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 2 {
				t.Errorf("psql ended with %v", err)
			}
			if !strings.Contains(string(out), "FATAL:") || !strings.Contains(string(out), sentence) || strings.Contains(string(out), "exchange") {
				t.Errorf("psql printed:\n%s", out)
			}
			waitFor(t, func() bool { s := e.Stats(); return s.Refused > 0 && (s.Encrypted > 0) == c.wantEncrypted },
				func() string { return fmt.Sprintf("%+v", e.Stats()) })
			if s := e.Stats(); s.Malformed+s.Slow > 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestPgxSeesTheSentence(t *testing.T) {
	cert, root := certificate(t)
	var remotes sync.Map
	e, addr := start(t, Config{Certificate: fixed(cert), Sentence: func(r netip.AddrPort) string {
		remotes.Store(r.Addr(), true)
		return sentence
	}})
	for _, c := range []string{"sslmode=disable", "sslmode=prefer", "sslmode=require", "sslmode=verify-full", "sslmode=verify-full sslnegotiation=direct"} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		_, err := pgx.Connect(ctx, fmt.Sprintf("host=localhost port=%d user=clerk dbname=resident sslrootcert=%s %s", addr.Port, root, c))
		cancel()
		var answer *pgconn.PgError
		if !errors.As(err, &answer) || answer.Code != SQLState || answer.Message != sentence || answer.SeverityUnlocalized != "FATAL" {
			t.Errorf("%s: %v", c, err)
		}
	}
	if _, ok := remotes.Load(netip.MustParseAddr("127.0.0.1")); !ok {
		t.Error("the sentence was not asked for with the client's address")
	}
	waitFor(t, func() bool { return e.Stats().Encrypted == 4 }, func() string { return fmt.Sprintf("%+v", e.Stats()) })
}

func TestCertificateIsReplacedWhileRunning(t *testing.T) {
	old, _ := certificate(t)
	next, root := certificate(t)
	var present atomic.Pointer[tls.Certificate]
	present.Store(old)
	_, addr := start(t, Config{Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return present.Load(), nil }})
	connect := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := pgx.Connect(ctx, fmt.Sprintf("host=localhost port=%d user=clerk sslrootcert=%s sslmode=verify-full", addr.Port, root))
		return err
	}
	var answer *pgconn.PgError
	if err := connect(); errors.As(err, &answer) {
		t.Errorf("verified with the old certificate: %v", err)
	}
	present.Store(next)
	if err := connect(); !errors.As(err, &answer) {
		t.Error(err)
	}
}

// request is one opening message.
func request(code uint32, rest string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(rest)))
	return append(binary.BigEndian.AppendUint32(b, code), rest...)
}

// talk sends b and returns all that comes back until the endpoint closes.
func talk(t *testing.T, addr *net.TCPAddr, b []byte) string {
	t.Helper()
	conn, err := net.DialTCP("tcp", nil, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
	_ = conn.CloseWrite()
	got, _ := io.ReadAll(conn) // a reset ends it as well
	return string(got)
}

const startup = 3 << 16

func TestOpenings(t *testing.T) {
	cert, _ := certificate(t)
	refusal := string(errorResponse(sentence))
	for _, c := range []struct {
		name  string
		bytes []byte
		tls   bool
		want  string
		stats Stats
	}{
		{"startup", request(startup, "user\x00clerk\x00\x00"), true, refusal, Stats{Refused: 1}},
		{"GSS, then startup", append(request(gssRequest, ""), request(startup, "\x00")...), true, "N" + refusal, Stats{Refused: 1}},
		{"TLS without a certificate, GSS, startup",
			append(append(request(sslRequest, ""), request(gssRequest, "")...), request(startup, "\x00")...), false, "NN" + refusal, Stats{Refused: 1}},
		{"protocol 3.2", request(startup|2, "\x00"), true, refusal, Stats{Refused: 1}},
		{"cancel", request(cancelRequest, "12345678"), true, "", Stats{Cancelled: 1}},
		{"a startup message stuffed behind the TLS request", append(request(sslRequest, ""), request(startup, "\x00")...), true, "S", Stats{Malformed: 1}},
		{"nothing", nil, true, "", Stats{Left: 1}},
		{"half a length", []byte{0, 0}, true, "", Stats{Malformed: 1}},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: resident\r\n\r\n"), true, "", Stats{Malformed: 1}},
		{"too long", request(startup, strings.Repeat("x", maxStartup)), true, "", Stats{Malformed: 1}},
		{"protocol 2", request(2<<16, "\x00"), true, "", Stats{Malformed: 1}},
		{"requests without end", []byte(strings.Repeat(string(request(gssRequest, "")), 10)), true, "NNN", Stats{Malformed: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{Linger: 50 * time.Millisecond}
			if c.tls {
				cfg.Certificate = fixed(cert)
			}
			e, addr := start(t, cfg)
			got := talk(t, addr, c.bytes)
			if i := strings.IndexByte(got, 0x15); c.want == "S" && i > 0 {
				got = got[:i] // then comes a TLS alert
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			waitFor(t, func() bool { return e.Stats() == c.stats }, func() string { return fmt.Sprintf("%+v, want %+v", e.Stats(), c.stats) })
		})
	}
}

func waitFor(t *testing.T, done func() bool, what func() string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what())
		}
	}
}

// Clients that send nothing hold their place for the timeout and no longer,
// and somebody who waits behind them gets the sentence all the same.
func TestSlowClientsAreBounded(t *testing.T) {
	e, addr := start(t, Config{Connections: 4, Timeout: 2 * time.Second})
	for range 8 {
		conn, err := net.DialTCP("tcp", nil, addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
	}
	if got := talk(t, addr, request(startup, "\x00")); got != string(errorResponse(sentence)) {
		t.Errorf("got %q", got)
	}
	waitFor(t, func() bool { return e.Stats() == Stats{Refused: 1, Slow: 8} }, func() string { return fmt.Sprintf("%+v", e.Stats()) })
}

func TestAThousandClients(t *testing.T) {
	var now, most atomic.Int64
	e, addr := start(t, Config{Connections: 32, Sentence: func(netip.AddrPort) string {
		defer now.Add(-1)
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		return sentence
	}})
	var clients errgroup.Group
	clients.SetLimit(100)
	for range 1000 {
		clients.Go(func() error {
			if got := talk(t, addr, request(startup, "\x00")); got != string(errorResponse(sentence)) {
				return fmt.Errorf("got %q", got)
			}
			return nil
		})
	}
	if err := clients.Wait(); err != nil {
		t.Error(err)
	}
	waitFor(t, func() bool { return e.Stats() == Stats{Refused: 1000} }, func() string { return fmt.Sprintf("%+v", e.Stats()) })
	if most.Load() > 32 {
		t.Errorf("%d at once", most.Load())
	}
}

// The end of the endpoint cuts who is still there.
func TestRunEndsWithClientsThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	asked := make(chan struct{})
	e := New(Config{Timeout: time.Hour, Linger: time.Hour, Sentence: func(netip.AddrPort) string { close(asked); return sentence }})
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx, l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(request(startup, "\x00")); err != nil {
		t.Fatal(err)
	}
	<-asked
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

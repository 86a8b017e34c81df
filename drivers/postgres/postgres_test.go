package postgres

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"komainu/drivers/units"
	"komainu/failover/standby"
)

// children is a Launcher whose daemons are the test's own children.
type children struct {
	mu   sync.Mutex
	runs map[string]*child
}

type child struct {
	cmd  *exec.Cmd
	gone chan struct{}
}

func (l *children) Start(_ context.Context, u units.Unit) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.runs[u.Name]; r != nil && r.running() {
		return nil
	}
	who, err := user.Lookup(u.User)
	if err != nil {
		return err
	}
	uid, _ := strconv.Atoi(who.Uid)
	gid, _ := strconv.Atoi(who.Gid)
	log, err := os.OpenFile(filepath.Join(u.Dir, "..", u.Name+".log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(u.Argv[0], u.Argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = u.Dir, u.Env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT // nothing outlives a test that crashed
	r := &child{cmd, make(chan struct{})}
	l.runs[u.Name] = r
	started := make(chan error)
	go func() {
		defer close(r.gone)
		runtime.LockOSThread() // the death signal follows the thread
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	return <-started
}

func (r *child) running() bool {
	select {
	case <-r.gone:
		return false
	default:
		return true
	}
}

func (l *children) get(name string) *child {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.runs[name]
}

func (l *children) Signal(_ context.Context, name string, sig syscall.Signal) error {
	if r := l.get(name); r != nil {
		return r.cmd.Process.Signal(sig)
	}
	return os.ErrProcessDone
}

func (l *children) Wait(ctx context.Context, name string) error {
	r := l.get(name)
	if r == nil {
		return nil
	}
	select {
	case <-r.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *children) Status(_ context.Context, name string) (units.Status, error) {
	r := l.get(name)
	return units.Status{Name: name, Running: r != nil && r.running()}, nil
}

// stopAll ends what still runs, hard.
func (l *children) stopAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.runs {
		if r.running() {
			_ = r.cmd.Process.Signal(syscall.SIGQUIT)
			_ = r.cmd.Process.Signal(syscall.SIGCONT)
			<-r.gone
		}
	}
}

// bed is a data centre's and a town hall's cluster on loopback.
type bed struct {
	t        *testing.T
	ctx      context.Context
	dc, hall *Cluster
}

const (
	replPassword  = "repl ' secret"
	clerkPassword = "clerk"
)

func newBed(t *testing.T) *bed {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the servers run as the user postgres")
	}
	if _, err := os.Stat("/usr/lib/postgresql/15/bin/postgres"); err != nil {
		t.Skip("needs PostgreSQL 15: apt-get install postgresql-15")
	}
	dir, err := os.MkdirTemp("/tmp", "komainu-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	b := &bed{t: t, ctx: ctx}
	b.dc, b.hall = b.cluster(dir, "dc"), b.cluster(dir, "hall")
	return b
}

func (b *bed) cluster(dir, side string) *Cluster {
	t := b.t
	t.Helper()
	base := filepath.Join(dir, side)
	must(t, os.MkdirAll(base, 0o755))
	must(t, os.Chmod(dir, 0o755))
	pass := filepath.Join(base, "passfile")
	must(t, os.WriteFile(pass, []byte("*:*:*:"+ReplicationRole+":"+replPassword+"\n"), 0o600))
	cert, key := certificate(t, base)
	l := &children{runs: map[string]*child{}}
	loop := netip.MustParsePrefix("127.0.0.0/8")
	c := New(Config{
		Name: "resident", Tenant: "hinata-cho/resident", Base: base,
		Listen: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Port: freePort(t),
		Clients: []netip.Prefix{loop}, Peers: []netip.Prefix{loop},
		Cert: cert, Key: key, CA: cert,
		PassFile: pass, PeerSlot: "komainu_peer", MaxSlotWAL: 1 << 30,
		Settings: map[string]string{"shared_buffers": "16MB", "max_connections": "30", "min_wal_size": "32MB"},
	}, l)
	o, err := c.owner()
	must(t, err)
	must(t, os.Chown(pass, o.uid, o.gid))
	must(t, os.Chown(key, o.uid, o.gid))
	t.Cleanup(func() {
		c.Close()
		l.stopAll()
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(base, "*.log"))
			for _, f := range logs {
				text, _ := os.ReadFile(f)
				t.Logf("%s:\n%s", f, text[max(0, len(text)-4000):])
			}
		}
	})
	return c
}

func (b *bed) up(c *Cluster) Upstream {
	return Upstream{Host: "127.0.0.1", Port: c.cfg.Port, Slot: "komainu_peer"}
}

// await looks until the observation satisfies ok.
func (b *bed) await(c *Cluster, what string, ok func(standby.Observation) bool) standby.Observation {
	b.t.Helper()
	var o standby.Observation
	var look error
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	err := until(ctx, 5*time.Millisecond, func() (bool, error) {
		o, look = c.Observe(ctx)
		return ok(o), nil
	})
	if err != nil {
		b.t.Fatalf("%s: waiting for %s: %v; last %+v (%v)", c.cfg.Base, what, err, o, look)
	}
	return o
}

func is(r standby.Role) func(standby.Observation) bool {
	return func(o standby.Observation) bool { return o.Role == r }
}

func streaming(o standby.Observation) bool { return o.Role == standby.Standby && o.Upstream }

// caughtUp waits until `to` has replayed everything that `from` has flushed.
func (b *bed) caughtUp(from, to *Cluster) {
	b.t.Helper()
	goal := b.await(from, "primary", is(standby.Primary)).Flush
	b.await(to, "replay to "+goal.String(), func(o standby.Observation) bool { return streaming(o) && o.Replay >= goal })
}

func (b *bed) sql(c *Cluster, stmt string) {
	b.t.Helper()
	must(b.t, c.ord.exec(b.ctx, stmt))
}

func (b *bed) number(c *Cluster, query string) int {
	b.t.Helper()
	var n int
	must(b.t, c.ord.row(b.ctx, query, nil, &n))
	return n
}

// clerk logs in over TCP as a client does.
func (b *bed) clerk(c *Cluster) *pgx.Conn {
	b.t.Helper()
	conn, err := pgx.Connect(b.ctx, fmt.Sprintf("host=127.0.0.1 port=%d user=clerk password=%s dbname=postgres sslmode=disable", c.cfg.Port, clerkPassword))
	must(b.t, err)
	b.t.Cleanup(func() { closeNow(conn) })
	return conn
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

// certificate makes the certificate of the service, which is its own authority;
// both sides hold the same one, as the first that is made lies beside them.
func certificate(t *testing.T, base string) (certFile, keyFile string) {
	t.Helper()
	shared := filepath.Join(base, "..", "service.pem")
	certFile, keyFile = filepath.Join(base, "cert.pem"), filepath.Join(base, "key.pem")
	both, err := os.ReadFile(shared)
	if err != nil {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "resident-db"},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
		must(t, err)
		secret, err := x509.MarshalPKCS8PrivateKey(key)
		must(t, err)
		both = append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
			pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
		must(t, os.WriteFile(shared, both, 0o600))
	}
	_, secret := pem.Decode(both)
	must(t, os.WriteFile(certFile, both[:len(both)-len(secret)], 0o644))
	must(t, os.WriteFile(keyFile, secret, 0o600))
	return certFile, keyFile
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

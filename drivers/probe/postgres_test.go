package probe

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const bin = "/usr/lib/postgresql/15/bin/"

// cluster is a real PostgreSQL, run as the user postgres.
type cluster struct {
	t       *testing.T
	dir     string
	addr    netip.AddrPort
	root    *x509.CertPool
	as      *syscall.SysProcAttr
	running *exec.Cmd
}

func newCluster(t *testing.T) *cluster {
	if _, err := os.Stat(bin + "initdb"); err != nil {
		t.Skip("PostgreSQL 15 is not installed")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to run PostgreSQL as its own user")
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Skip("no user postgres")
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	dir, err := os.MkdirTemp("", "probe")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, dir: dir, addr: nobody(t), as: &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, Pdeathsig: syscall.SIGQUIT}}
	t.Cleanup(func() { c.stop(); _ = os.RemoveAll(dir) })
	c.must(os.Chown(dir, uid, gid))
	initdb := exec.Command(bin+"initdb", "-D", filepath.Join(dir, "data"), "-U", "komainu", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
	initdb.SysProcAttr, initdb.Dir = c.as, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	c.must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "resident.example.jp"},
		DNSNames: []string{"resident.example.jp"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	c.must(err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	c.must(err)
	for name, block := range map[string]*pem.Block{"server.crt": {Type: "CERTIFICATE", Bytes: der}, "server.key": {Type: "PRIVATE KEY", Bytes: secret}} {
		file := filepath.Join(dir, "data", name)
		c.must(os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
		c.must(os.Chown(file, uid, gid))
	}
	c.root = x509.NewCertPool()
	c.root.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return c
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// start runs the server until it says that it accepts connections.
func (c *cluster) start(ssl string) {
	c.t.Helper()
	ready, w, err := os.Pipe()
	c.must(err)
	c.running = exec.Command(bin+"postgres", "-D", filepath.Join(c.dir, "data"), "-p", fmt.Sprint(c.addr.Port()), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "log_connections=on", "-c", "ssl="+ssl)
	c.running.SysProcAttr, c.running.Dir, c.running.Stderr = c.as, c.dir, w
	c.must(c.running.Start())
	c.must(w.Close())
	var log []byte
	c.must(ready.SetReadDeadline(time.Now().Add(20 * time.Second)))
	for buf := make([]byte, 4096); !bytes.Contains(log, []byte("ready to accept")); {
		n, err := ready.Read(buf)
		log = append(log, buf[:n]...)
		if err != nil {
			c.t.Fatalf("PostgreSQL doesn't start: %v\n%s", err, log)
		}
	}
	drained := make(chan struct{})
	c.must(ready.SetReadDeadline(time.Time{}))
	go func() { // its log must not fill the pipe
		defer close(drained)
		defer ready.Close()
		for buf := make([]byte, 4096); ; {
			if _, err := ready.Read(buf); err != nil {
				return
			}
		}
	}()
	c.t.Cleanup(func() { c.stop(); <-drained })
}

func (c *cluster) stop() {
	if c.running != nil {
		_ = c.running.Process.Signal(syscall.SIGQUIT)
		_ = c.running.Wait()
		c.running = nil
	}
}

func TestPostgres(t *testing.T) {
	c := newCluster(t)
	config := PostgresConfig{Target: Target{Address: c.addr, Timeout: 2 * time.Second}, User: "komainu", Database: "postgres"}
	prober := func(change func(*PostgresConfig)) *postgres {
		cfg := config
		if change != nil {
			change(&cfg)
		}
		p, err := Postgres(cfg)
		c.must(err)
		t.Cleanup(p.Close)
		return p.(*postgres)
	}
	p := prober(nil)
	ask(t, p, "refused") // not started yet

	c.start("off")
	if r := ask(t, p, ""); r.InRecovery {
		t.Error("a primary in recovery")
	}
	ask(t, prober(func(c *PostgresConfig) { c.Database = "nowhere" }), "3D000")
	verified := func(name string) func(*PostgresConfig) {
		return func(cfg *PostgresConfig) { cfg.CA, cfg.ServerName = c.root, name }
	}
	if r := prober(verified("resident.example.jp")).Probe(context.Background()); r.OK {
		t.Error("a server without TLS passed for verified")
	}

	// One backend serves until a fresh one is due.
	backend, changes := p.conn.PID(), 0
	for range 2 * freshEvery {
		ask(t, p, "")
		if p.conn.PID() != backend {
			backend = p.conn.PID()
			changes++
		}
	}
	if changes != 2 {
		t.Errorf("%d fresh connections in %d probes", changes, 2*freshEvery)
	}

	// A connection that was ended says nothing about the service.
	admin, err := pgconn.Connect(context.Background(), fmt.Sprintf("host=127.0.0.1 port=%d user=komainu dbname=postgres", c.addr.Port()))
	c.must(err)
	results, err := admin.Exec(context.Background(), fmt.Sprintf("select pg_terminate_backend(%d, 5000)", backend)).ReadAll()
	c.must(err)
	if string(results[0].Rows[0][0]) != "t" {
		t.Error("the backend didn't end")
	}
	c.must(admin.Close(context.Background()))
	ask(t, p, "")
	if p.conn.PID() == backend {
		t.Error("the same backend")
	}

	// A backend that hangs is a failure, at the deadline and not later.
	hung := prober(func(c *PostgresConfig) { c.Timeout = 2 * time.Second })
	ask(t, hung, "")
	pid := int(hung.conn.PID())
	c.must(syscall.Kill(pid, syscall.SIGSTOP))
	r := ask(t, hung, "timeout")
	c.must(syscall.Kill(pid, syscall.SIGCONT))
	if r.Latency > 20*time.Second {
		t.Errorf("took %v", r.Latency)
	}
	ask(t, hung, "")

	// As a standby, with TLS.
	c.stop()
	ask(t, p, "refused")
	c.must(os.WriteFile(filepath.Join(c.dir, "data", "standby.signal"), nil, 0o644))
	c.start("on")
	if r := ask(t, p, ""); !r.InRecovery {
		t.Error("a standby not in recovery")
	}
	ask(t, prober(verified("resident.example.jp")), "")
	ask(t, prober(verified("another.example.jp")), "tls")
}

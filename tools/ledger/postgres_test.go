package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"komainu/tools/ledger"
)

const bin = "/usr/lib/postgresql/15/bin"

// server is a throw-away PostgreSQL on the loopback.
type server struct {
	t        *testing.T
	dir      string
	port     int
	cred     *syscall.Credential
	instance *exec.Cmd
}

func newServer(t *testing.T) *server {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a throw-away PostgreSQL needs root, to become its user")
	}
	if _, err := os.Stat(filepath.Join(bin, "postgres")); err != nil {
		t.Skip("PostgreSQL 15 is not installed: apt-get install postgresql-15")
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Skip("there is no user postgres")
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	dir, err := os.MkdirTemp("", "komainu-ledger-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, dir: dir, port: l.Addr().(*net.TCPAddr).Port, cred: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	l.Close()
	if out, err := s.command("initdb", "-D", "data", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	s.start()
	t.Cleanup(func() { s.end(syscall.SIGQUIT) })
	return s
}

func (s *server) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(bin, name), args...)
	c.Dir, c.SysProcAttr = s.dir, &syscall.SysProcAttr{Credential: s.cred}
	return c
}

func (s *server) start() {
	s.t.Helper()
	s.instance = s.command("postgres", "-D", "data", "-p", strconv.Itoa(s.port), "-h", "127.0.0.1", "-k", s.dir)
	if err := s.instance.Start(); err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; {
		c, err := pgx.Connect(s.t.Context(), s.dsn())
		if err == nil {
			c.Close(s.t.Context())
			return
		}
		if time.Now().After(end) {
			s.t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// end stops the postmaster; SIGQUIT is its immediate shutdown.
func (s *server) end(sig syscall.Signal) {
	if s.instance != nil {
		_ = s.instance.Process.Signal(sig) // gone is fine
		_ = s.instance.Wait()
		s.instance = nil
	}
}

func (s *server) dsn() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable", s.port)
}

func (s *server) connect() *pgx.Conn {
	s.t.Helper()
	c, err := pgx.Connect(s.t.Context(), s.dsn())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func count(t *testing.T, c *pgx.Conn, query string) (n int) {
	t.Helper()
	if err := c.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func TestSizesAreThoseOfTheTrial(t *testing.T) {
	f := ledger.Full()
	if f.People != 55093 || f.Rows != 423167 || f.TaxRows() != 325953 {
		t.Errorf("full is %d people, %d rows, %d tax rows", f.People, f.Rows, f.TaxRows())
	}
	tables, rows, kb := ledger.AnnexH1(), 0, 0
	for _, a := range tables {
		rows, kb = rows+a.Rows, kb+a.KB
	}
	if len(tables) != 49 || rows != 384570 || kb < 1315900 || kb > 1315960 {
		t.Errorf("annex H1: %d tables, %d rows, %d KB", len(tables), rows, kb)
	}
}

func TestDataDependOnTheSeedAlone(t *testing.T) {
	a, b, c := ledger.Digest(ledger.Small(), 1), ledger.Digest(ledger.Small(), 1), ledger.Digest(ledger.Small(), 2)
	if a != b || a == c {
		t.Errorf("digests %s, %s, other seed %s", a, b, c)
	}
	// A change of the generator is a change of every figure measured with it.
	if want := "05315f753cc077d7028df27ab4c37b5fb9bb642767f5149e392d018cb3fa6323"; a != want {
		t.Errorf("digest of seed 1 is %s, was %s", a, want)
	}
}

func TestGenerateAndWork(t *testing.T) {
	s := newServer(t)
	c := s.connect()
	size := ledger.Small()
	if err := ledger.Generate(t.Context(), c, size, 1); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]int{
		"select count(*) from resident":              size.People,
		"select count(*) from register_row":          size.Rows,
		"select count(*) from tax":                   size.TaxRows(),
		"select count(*) from tax where year = 2009": 51489 / 50,
		"select count(*) from household h where exists (select from resident r where r.household = h.id)":   size.Households(),
		"select count(*) from resident r where exists (select from register_row g where g.resident = r.id)": size.People,
		"select count(*) from certificate join issue_log using (number)":                                    size.Certificates(),
		"select last_value from certificate_number":                                                         size.Certificates(),
	} {
		if got := count(t, c, query); got != want {
			t.Errorf("%s: %d, want %d", query, got, want)
		}
	}
	if err := ledger.GenerateAnnexH1(t.Context(), c, 0.001, 1); err != nil {
		t.Fatal(err)
	}
	if got := count(t, c, "select count(*) from m11"); got != 121 {
		t.Errorf("m11 has %d rows, want 121", got)
	}
	// 528,659 KB in 5,320 rows.
	if got := count(t, c, "select avg(24 + length(body))::int from t2"); got < 100_000 || got > 103_000 {
		t.Errorf("a row of t2 has %d bytes, want about 101,756", got)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Run("work", func(t *testing.T) { work(t, s, size) })
}

// work lets clerks work while their server crashes and comes back.
func work(t *testing.T, s *server, size ledger.Size) {
	leaks := goleak.IgnoreCurrent()
	var rec ledger.Recorder
	var led ledger.Ledger
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for i, mix := range []ledger.Mix{ledger.Counter(), {Certificate: 1, MoveIn: 1}, ledger.Reader(), ledger.Writer()} {
		clerk := ledger.Clerk{Name: fmt.Sprintf("c%d", i+1), Conn: s.dsn(), Mix: mix, Size: size, Seed: 1}
		wg.Go(func() {
			if err := clerk.Run(ctx, &rec, &led); err != nil {
				t.Error(err)
			}
		})
	}
	defer wg.Wait()
	defer stop()
	wait := func(what string, keep func(ledger.Op) bool) ledger.Op {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		op, err := rec.Wait(ctx, keep)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return op
	}
	for _, k := range []ledger.Kind{ledger.Search, ledger.Household, ledger.Certificate, ledger.MoveIn, ledger.Entry} {
		op := wait(k.String(), func(op ledger.Op) bool { return op.Kind == k && op.OK })
		if op.Server != "127.0.0.1" || op.Recovery {
			t.Errorf("%v was answered by %q, recovery %v", k, op.Server, op.Recovery)
		}
	}
	crash := time.Now()
	s.end(syscall.SIGQUIT)
	wait("a failed connect", func(op ledger.Op) bool { return op.Kind == ledger.Connect && !op.OK })
	s.start()
	wait("a read after the crash", ledger.GoodRead)
	wait("a write after the crash", ledger.GoodWrite)
	back := time.Now()

	// A refused write keeps its connection.
	c := s.connect()
	if _, err := c.Exec(t.Context(), "alter table ledger add constraint closed check (false) not valid"); err != nil {
		t.Fatal(err)
	}
	wait("a refusal", func(op ledger.Op) bool { return op.SQLState == "23514" })
	mark := time.Now()
	wait("a second refusal", func(op ledger.Op) bool { return op.SQLState == "23514" && op.Start.After(mark) })
	if _, err := c.Exec(t.Context(), "alter table ledger drop constraint closed"); err != nil {
		t.Fatal(err)
	}
	wait("a write after the refusals", ledger.GoodWrite)
	stop()
	wg.Wait()

	ops := rec.Ops()
	if g := ledger.LongestGap(ops, crash, back, ledger.GoodRead); g.Length() <= 0 || g.From.After(back) {
		t.Errorf("the crash made a gap of %v", g.Length())
	}
	for _, op := range ops {
		if op.Start.After(mark) && op.Kind == ledger.Connect {
			t.Errorf("connected anew after a refusal: %+v", op)
		}
		if op.SQLState == "" && op.Err != "" && op.Kind.Reads() && op.Start.Before(crash.Add(-time.Second)) {
			t.Errorf("failed before the crash: %+v", op)
		}
	}
	present, err := ledger.Present(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	tally := ledger.Reconcile(led.Fates(), led.Printed(), present, nil)
	if len(tally.Lost)+len(tally.Undead)+len(tally.Unknown)+len(tally.DuplicateCertificates) > 0 ||
		tally.Refused == 0 || tally.Acknowledged == 0 || tally.Acknowledged+tally.InDoubt != tally.Present+tally.Absent {
		t.Errorf("tally: %+v", tally)
	}
	if n := count(t, c, "select count(*) from certificate"); n < size.Certificates()+len(led.Printed()) {
		t.Errorf("%d certificates, %d of them printed here", n, len(led.Printed()))
	}
	c.Close(t.Context())
	goleak.VerifyNone(t, leaks)
}

// A clerk whose line is dead gives up in time and leaves no goroutine behind.
func TestClerkGivesUpOnASilentServer(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // accepts in the kernel, never answers
	var rec ledger.Recorder
	var led ledger.Ledger
	ctx, stop := context.WithCancel(t.Context())
	clerk := ledger.Clerk{
		Name: "c1", Mix: ledger.Reader(), Size: ledger.Small(), ConnectTimeout: 30 * time.Millisecond,
		Conn: fmt.Sprintf("host=127.0.0.1 port=%d user=u dbname=d sslmode=disable", l.Addr().(*net.TCPAddr).Port),
	}
	done := make(chan error, 1)
	go func() { done <- clerk.Run(ctx, &rec, &led) }()
	for range 3 {
		op, err := rec.Wait(t.Context(), func(op ledger.Op) bool { return op.Kind == ledger.Connect })
		if err != nil || op.OK {
			t.Errorf("connect: %+v, %v", op, err)
		}
		if took := op.End.Sub(op.Start); took < 25*time.Millisecond || took > 20*time.Second {
			t.Errorf("gave up after %v, want 30 ms", took)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	clerk.Conn = "host=127.0.0.1 port=none"
	if err := clerk.Run(t.Context(), &rec, &led); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("a bad connection string gave %v", err)
	}
	l.Close()
	goleak.VerifyNone(t, leaks)
}

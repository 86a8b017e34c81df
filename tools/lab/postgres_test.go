package lab_test

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"komainu/tools/lab"
	"komainu/tools/ledger"
)

// A real PostgreSQL in the DC, a clerk in the office, the line in between.
func TestClerkOverTheLine(t *testing.T) {
	const bin = "/usr/lib/postgresql/15/bin/"
	if _, err := os.Stat(bin + "postgres"); err != nil {
		t.Skip("PostgreSQL 15 is not installed: apt-get install postgresql-15")
	}
	w := town(t)
	ctx := t.Context()
	data := filepath.Join(w.DB.StateDir(), "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	own(t, data)
	if _, err := w.DB.Run(ctx, lab.Daemon{User: "postgres", Argv: []string{bin + "initdb", "-D", data, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"}}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte("host all all all trust\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// The lab calls it otherwise, so that it must be found by its program.
	d := lab.Daemon{Name: "primary", User: "postgres", Argv: []string{bin + "postgres", "-D", data, "-h", "*", "-k", ""}}
	w.DB.OnBoot(func(ctx context.Context) error { return w.DB.Start(ctx, d) })
	if err := w.DB.Start(ctx, d); err != nil {
		t.Fatal(err)
	}
	client := w.Clients[0]
	dsn := fmt.Sprintf("host=%s user=postgres dbname=postgres sslmode=disable", lab.DB4)
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.DialFunc = client.Dial
	var conn *pgx.Conn
	eventually(t, "PostgreSQL", func() (err error) {
		if conn, err = pgx.ConnectConfig(ctx, config); err != nil {
			time.Sleep(10 * time.Millisecond)
		}
		return err
	})
	size := ledger.Size{People: 100, Rows: 200, Tax: map[int]int{2010: 50}}
	if err := ledger.Generate(ctx, conn, size, 1); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(ctx); err != nil {
		t.Fatal(err)
	}

	var rec ledger.Recorder
	var led ledger.Ledger
	work, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	clerk := ledger.Clerk{Name: "c1", Conn: dsn, Dial: client.Dial, Timeout: 500 * time.Millisecond, Mix: ledger.Counter(), Size: size, Seed: 1}
	go func() { done <- clerk.Run(work, &rec, &led) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	wait := func(what string, keep func(ledger.Op) bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if _, err := rec.Wait(ctx, keep); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	failed := func(op ledger.Op) bool { return !op.OK }
	play := func(src string) {
		t.Helper()
		sc, err := lab.ParseScenario("t.txt", src, w.Verbs())
		if err == nil {
			err = sc.Play(ctx, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	wait("a write", ledger.GoodWrite)
	for _, c := range []struct{ fault, repair string }{
		{"cut main", "heal main"},
		{"cut main dc-to-hall", "heal main"},
		{"stop postgres on db", "cont postgres on db"},
		{"kill postgres on db", "restart primary on db"},
		{"power-off db", "power-on db"},
	} {
		play(c.fault)
		wait(c.fault+": a failure", failed)
		play(c.repair)
		wait(c.repair+": a write", ledger.GoodWrite)
	}
	pids, err := lab.Inside(w.DB.Namespace)
	if err != nil || len(pids) < 5 {
		t.Errorf("PostgreSQL's processes: %v, %v", pids, err)
	}
	if err := w.DB.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); err == nil && !zombie(pid) {
			t.Errorf("process %d lives on", pid)
		}
	}
}

func own(t *testing.T, dir string) {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Skip("there is no user postgres")
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
}

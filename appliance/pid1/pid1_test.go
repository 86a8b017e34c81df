package pid1

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"komainu/appliance/control"
	"komainu/drivers/units"
)

// TestMain also is the supervisor: it reaps every child of its process, so it
// needs one of its own.
func TestMain(m *testing.M) {
	if dir := os.Getenv("FIRST"); dir != "" {
		os.Exit(runFirst(dir))
	}
	if dir := os.Getenv("SUPERVISE"); dir != "" {
		os.Exit(supervise(dir))
	}
	goleak.VerifyTestMain(m)
}

func supervise(dir string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	o := Options{Run: dir + "/run", State: dir + "/state", Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if err := json.Unmarshal([]byte(os.Getenv("UNITS")), &o.Units); err != nil {
		panic(err)
	}
	if os.Getenv("IMAGE") == "true" {
		end, err := SuperviseImage(ctx, o)
		if err != nil {
			os.Stderr.WriteString("FAILED: " + err.Error() + "\n")
		}
		return end
	}
	if err := Supervise(ctx, o); err != nil {
		os.Stderr.WriteString("FAILED: " + err.Error() + "\n")
		return 1
	}
	return 0
}

// box is a supervisor under test.
type box struct {
	*testing.T
	units.Client
	dir string
	cmd *exec.Cmd
}

func newBox(t *testing.T, u ...units.Unit) *box {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the socket is root's alone")
	}
	b := &box{T: t, dir: t.TempDir()}
	b.Socket = b.dir + "/run/pid1.sock"
	t.Cleanup(b.clear)
	b.boot(u...)
	return b
}

// boot starts a supervisor and returns when it answers.
func (b *box) boot(u ...units.Unit) {
	b.Helper()
	list, err := json.Marshal(u)
	if err != nil {
		b.Fatal(err)
	}

	b.cmd = exec.Command(os.Args[0])
	b.cmd.Env = append(os.Environ(), "SUPERVISE="+b.dir, "UNITS="+string(list))
	ready, err := b.cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	go func() { // ends with the supervisor, which clear waits for
		buf := make([]byte, 4096)
		for {
			n, err := ready.Read(buf)
			if err != nil {
				return
			}
			os.Stderr.Write(buf[:n])
		}
	}()
	for start := time.Now(); ; {
		_, err := b.Status(b.Context(), "none")
		if errors.Is(err, units.ErrUnknown) {
			return
		}
		if time.Since(start) > 30*time.Second {
			b.Fatal("no answer: ", err)
		}
		time.Sleep(5 * time.Millisecond) // nothing to wait on before the socket is there
	}
}

// down sends sig to the supervisor and waits for its end.
func (b *box) down(sig syscall.Signal) error {
	b.Helper()
	if err := b.cmd.Process.Signal(sig); err != nil {
		b.Fatal(err)
	}
	err := b.cmd.Wait()
	b.cmd = nil
	return err
}

// clear ends what is left: through a supervisor, or one by one.
func (b *box) clear() {
	if b.cmd != nil {
		if err := b.down(syscall.SIGTERM); err != nil {
			b.Errorf("supervisor: %v", err)
		}
	}
	left, _ := filepath.Glob(b.dir + "/run/units/*.json")
	for _, name := range left {
		b.Errorf("record left: %s", name)
		raw, _ := os.ReadFile(name)
		var r struct{ Data record }
		if json.Unmarshal(raw, &r) == nil && r.Data.Ticks == startTicks(r.Data.PID) {
			_ = syscall.Kill(-r.Data.PID, syscall.SIGKILL)
		}
	}
}

func (b *box) start(u units.Unit) units.Status {
	b.Helper()
	st, err := b.Start(b.Context(), u)
	if err != nil || !st.Running {
		b.Fatalf("start %s: %+v, %v", u.Name, st, err)
	}
	return st
}

// until watches the units until one status satisfies f.
func (b *box) until(f func(units.Status) bool) units.Status {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	defer cancel()
	var found *units.Status
	err := b.Watch(ctx, func(st units.Status) {
		if found == nil && f(st) {
			found = &st
			cancel()
		}
	})
	if found == nil {
		b.Fatalf("waited in vain (%v)", err)
	}
	return *found
}

func (b *box) log(name string) string {
	raw, err := os.ReadFile(b.dir + "/state/log/" + name + ".log")
	if err != nil {
		b.Error(err)
	}
	return string(raw)
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func sleeper(name string) units.Unit {
	return units.Unit{Name: name, Argv: []string{"/bin/sleep", "1000"}}
}

func shell(name, script string) units.Unit {
	return units.Unit{Name: name, Argv: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}}
}

func TestRestart(t *testing.T) {
	agent := sleeper("agent")
	agent.Restart = true
	b := newBox(t, agent)
	ctx := t.Context()
	pg := b.start(sleeper("postgres"))
	first := b.until(func(st units.Status) bool { return st.Name == "agent" && st.Running })
	if err := b.Signal(ctx, "agent", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	again := b.until(func(st units.Status) bool { return st.Name == "agent" && st.Running && st.Starts == 2 })
	if again.PID == first.PID {
		t.Error("same pid")
	}
	if !alive(pg.PID) {
		t.Error("the agent's death took postgres along")
	}
	// What isn't a Restart unit stays down, and says how it ended.
	if err := b.Signal(ctx, "postgres", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if st, err := b.Wait(ctx, "postgres"); err != nil || st.Exit != "signal killed" || st.Starts != 1 {
		t.Errorf("got %+v, %v", st, err)
	}
	if st, err := b.Stop(ctx, "agent"); err != nil || st.Running {
		t.Errorf("stop: %+v, %v", st, err)
	}
}

func TestRefusals(t *testing.T) {
	b := newBox(t)
	ctx := t.Context()
	b.start(sleeper("a"))
	b.start(sleeper("a")) // the same again is no error
	other := sleeper("a")
	other.Argv = []string{"/bin/sleep", "1001"}
	for _, c := range []struct {
		code string
		ask  func() error
	}{
		{"unit-differs", func() error { _, err := b.Start(ctx, other); return err }},
		{"unit-bad", func() error { _, err := b.Start(ctx, units.Unit{Name: "a b", Argv: []string{"/bin/true"}}); return err }},
		{"unit-bad", func() error { _, err := b.Start(ctx, units.Unit{Name: "x", Argv: []string{"true"}}); return err }},
		{"unit-failed", func() error {
			_, err := b.Start(ctx, units.Unit{Name: "x", Argv: []string{"/nonexistent"}})
			return err
		}},
		{"unit-failed", func() error { u := sleeper("y"); u.User = "no-such-user"; _, err := b.Start(ctx, u); return err }},
		{"unit-unknown", func() error { return b.Signal(ctx, "none", syscall.SIGTERM) }},
		{"unit-stopped", func() error { return b.Signal(ctx, "x", syscall.SIGTERM) }},
	} {
		var e *units.Error
		if err := c.ask(); !errors.As(err, &e) || e.Code != c.code {
			t.Errorf("want %s, got %v", c.code, err)
		}
	}
	err := Supervise(ctx, Options{Run: b.dir + "/run", State: b.dir + "/state"})
	var held *control.Error
	if !errors.As(err, &held) || held.Code != "supervisor-held" || held.Args[0] != strconv.Itoa(b.cmd.Process.Pid) {
		t.Errorf("second supervisor: %v", err)
	}
}

func TestNothingEscapes(t *testing.T) {
	b := newBox(t)
	// A grandchild in a session of its own, as a PostgreSQL backend is.
	b.start(shell("pg", `setsid sh -c 'echo $$; exec sleep 1000' & wait`))
	var stray int
	for start := time.Now(); stray == 0; {
		stray, _ = strconv.Atoi(strings.TrimSpace(b.log("pg")))
		if time.Since(start) > 30*time.Second {
			t.Fatal("no grandchild")
		}
	}
	if err := b.Signal(t.Context(), "pg", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Wait(t.Context(), "pg"); err != nil {
		t.Fatal(err)
	}
	if alive(stray) {
		t.Error("a grandchild outlived its unit")
	}
}

func TestUserAndLimit(t *testing.T) {
	b := newBox(t)
	u := shell("who", "id -un; ulimit -n; pwd; echo $A")
	u.User, u.Files, u.Dir, u.Env = "nobody", 777, "/usr", append(u.Env, "A=b")
	b.start(u)
	if st, err := b.Wait(t.Context(), "who"); err != nil || st.Exit != "exit 0" {
		t.Errorf("%+v, %v", st, err)
	}
	if got := b.log("who"); got != "nobody\n777\n/usr\nb\n" {
		t.Errorf("got %q", got)
	}
	b.start(shell("root", "ulimit -n"))
	if _, err := b.Wait(t.Context(), "root"); err != nil || b.log("root") == "777\n" {
		t.Errorf("the limit stayed: %v", err)
	}
}

func TestTakeOver(t *testing.T) {
	agent := sleeper("agent")
	agent.Restart = true
	b := newBox(t, agent)
	ctx := t.Context()
	pg := b.start(sleeper("postgres"))
	gone := b.start(sleeper("gone"))
	old := b.until(func(st units.Status) bool { return st.Name == "agent" && st.Running })
	if err := b.down(syscall.SIGKILL); err == nil {
		t.Fatal("survived SIGKILL")
	}
	fd, err := openPidfd(gone.PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(fd.signal(syscall.SIGKILL), fd.wait(), fd.close()); err != nil {
		t.Fatal(err)
	}
	if !alive(pg.PID) || !alive(old.PID) {
		t.Fatal("the supervisor's death took its units along")
	}
	b.boot(agent)
	for _, was := range []units.Status{pg, old} {
		if st, err := b.Status(ctx, was.Name); err != nil || st.PID != was.PID || st.Starts != was.Starts {
			t.Errorf("%s: got %+v, %v, want pid %d", was.Name, st, err, was.PID)
		}
	}
	if st, err := b.Status(ctx, "gone"); err != nil || st.Running || st.Exit != "unknown" {
		t.Errorf("gone: %+v, %v", st, err)
	}
	if err := b.Signal(ctx, "agent", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.until(func(st units.Status) bool { return st.Name == "agent" && st.Running && st.PID != old.PID })
	if st, err := b.Stop(ctx, "postgres"); err != nil || st.Running {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestStopOrder(t *testing.T) {
	trap := func(name, sig string) units.Unit {
		u := shell(name, `trap 'echo `+name+` $(cat order | wc -l) >> order; exit 0' `+sig+`; touch ready.`+name+`; while :; do sleep 0.01; done`)
		return u
	}
	agent := trap("agent", "TERM")
	agent.Restart = true
	dir := t.TempDir()
	agent.Dir = dir
	if err := os.WriteFile(dir+"/order", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBox(t, agent)
	pg := trap("postgres", "INT")
	pg.Dir, pg.StopSignal = dir, syscall.SIGINT
	b.start(pg)
	deaf := shell("deaf", `trap '' TERM; touch ready.deaf; while :; do sleep 0.01; done`)
	deaf.Dir, deaf.StopTimeout = dir, 50*time.Millisecond
	st := b.start(deaf)
	for start := time.Now(); ; {
		ready, err := filepath.Glob(dir + "/ready.*")
		if err == nil && len(ready) == 3 {
			break
		}
		if time.Since(start) > 30*time.Second {
			t.Fatal("units don't come up")
		}
		time.Sleep(5 * time.Millisecond) // the trap is set inside the shell: no event
	}
	if err := b.down(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	got, err := os.ReadFile(dir + "/order")
	if err != nil || string(got) != "agent 0\npostgres 1\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if alive(st.PID) {
		t.Error("the deaf unit lives on")
	}
}

func TestBoundLog(t *testing.T) {
	p := filepath.Join(t.TempDir(), "a.log")
	w, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, s := range []string{"0123456789", "abc", "d"} {
		if _, err := w.WriteString(s); err != nil {
			t.Fatal(err)
		}
		if err := boundLog(p, 4); err != nil {
			t.Fatal(err)
		}
	}
	now, err1 := os.ReadFile(p)
	old, err2 := os.ReadFile(p + ".1")
	if err := errors.Join(err1, err2); err != nil || string(now) != "abcd" || string(old) != "6789" {
		t.Errorf("got %q and %q, %v", now, old, err)
	}
}

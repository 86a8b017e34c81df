package pid1

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"komainu/appliance/control"
	"komainu/drivers/cgroup"
	"komainu/drivers/units"
)

// runFirst is the process of TestHostFirst: PID 1 of its namespace.
func runFirst(dir string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := os.Unsetenv("FIRST"); err != nil {
		panic(err)
	}
	env := append(os.Environ(), "SUPERVISE="+dir)
	end := First(ctx, FirstOptions{Argv: []string{os.Args[0]}, Env: env, Out: "/dev/stderr", Log: log,
		Guard: Guard{Run: dir + "/run", State: dir + "/state", Log: log}})
	if end == "" {
		return 0
	}
	os.Stderr.WriteString("END " + end + "\n")
	return 20
}

// newFirst boots a PID 1 in a namespace of its own; the supervisor is its child.
func newFirst(t *testing.T, image bool) *box {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a PID namespace")
	}
	b := &box{T: t, dir: t.TempDir()}
	b.Socket = b.dir + "/run/pid1.sock"
	b.cmd = exec.Command("/usr/bin/unshare", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child", os.Args[0])
	b.cmd.Env = append(os.Environ(), "FIRST="+b.dir, "UNITS=[]", "IMAGE="+strconv.FormatBool(image))
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	b.cmd.Stderr = os.Stderr
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if b.cmd != nil {
			_ = b.cmd.Process.Kill() // --kill-child ends the namespace
			_ = b.cmd.Wait()
		}
	})
	b.answers()
	return b
}

func (b *box) answers() {
	b.Helper()
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

// holder is the supervisor's pid, in the host's numbers: who listens.
func (b *box) holder() int {
	b.Helper()
	names, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, name := range names {
		env, err := os.ReadFile(name)
		if err == nil && bytes.Contains(env, []byte("SUPERVISE="+b.dir+"\x00")) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			return pid
		}
	}
	b.Fatal("no supervisor")
	return 0
}

func TestHostFirst(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSEGV} {
		t.Run(sig.String(), func(t *testing.T) {
			b := newFirst(t, false)
			was := b.start(sleeper("postgres"))
			old := b.holder()
			fd, err := openPidfd(old)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(fd.signal(sig), fd.wait(), fd.close()); err != nil {
				t.Fatal(err)
			}
			b.answers()
			if st, err := b.Status(t.Context(), "postgres"); err != nil || st.PID != was.PID || !st.Running {
				t.Errorf("not taken over: %+v, %v", st, err)
			}
			// Its end is seen although it is PID 1's child now.
			if err := b.Signal(t.Context(), "postgres", syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Wait(t.Context(), "postgres"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestHostPower(t *testing.T) {
	b := newFirst(t, true)
	deaf := shell("deaf", `trap '' TERM; while :; do sleep 0.01; done`)
	deaf.StopTimeout = 50 * time.Millisecond
	b.start(deaf)
	var r control.Reply
	c := control.Client{Socket: b.Socket}
	if err := c.Post(t.Context(), control.PowerPath, control.PowerOrder{Action: "explode"}, &r); err == nil {
		t.Error("accepted")
	}
	if _, err := b.Start(t.Context(), shell("other", "echo hello; exit 3")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Wait(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	if err := c.Post(t.Context(), control.PowerPath, control.PowerOrder{Action: "restart", By: "sato", Reason: "drill"}, &r); err != nil || !r.OK {
		t.Fatalf("%+v, %v", r, err)
	}
	err := b.cmd.Wait()
	b.cmd = nil
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 20 {
		t.Errorf("ended with %v", err)
	}
	if got := b.log("other"); got != "hello\n" {
		t.Errorf("log %q", got)
	}
	last, err := LastReset(b.dir+"/state", false, "", time.Now())
	if err != nil || last.Kind != "order" || last.Reason.Args[1] != "sato" {
		t.Errorf("got %+v, %v", last, err)
	}
}

// TestHostBomb: a unit that forks for ever is bounded, and one stop ends it all.
func TestHostBomb(t *testing.T) {
	if os.Getenv("KOMAINU_VM") == "" {
		t.Skip("needs the guest of tools/vmtest: it mounts cgroup2")
	}
	if err := syscall.Mount("cgroup2", cgroup.Root, "cgroup2", 0, ""); err != nil && !errors.Is(err, syscall.EBUSY) {
		t.Fatal(err)
	}
	b := newFirst(t, true)
	bomb := shell("bomb", `trap '' TERM; while :; do setsid sh -c 'trap "" TERM; while :; do sleep 100 & done' & sleep 0.01; done`)
	bomb.Tasks, bomb.Memory, bomb.StopTimeout = 30, 64<<20, 200*time.Millisecond
	b.start(bomb)
	g, ok := cgroup.Find(cgroup.Root, groupParent, "bomb")
	if !ok {
		t.Fatal("no group")
	}
	if empty, err := g.Empty(); err != nil || empty {
		t.Errorf("not in its group: %v, %v", empty, err)
	}
	user := shell("user", "grep CapEff /proc/self/status")
	user.User, user.Caps = "nobody", []string{"CAP_NET_ADMIN"}
	b.start(user)
	if _, err := b.Wait(t.Context(), "user"); err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); !strings.Contains(b.log("user"), "0000000000001000") && time.Since(start) < 30*time.Second; {
		time.Sleep(20 * time.Millisecond) // a file of another process
	}
	if got := b.log("user"); !strings.Contains(got, "0000000000001000") {
		t.Errorf("got %q", got)
	}
	if st, err := b.Stop(t.Context(), "bomb"); err != nil || st.Running {
		t.Errorf("%+v, %v", st, err)
	}
	if empty, err := g.Empty(); err != nil || !empty {
		t.Errorf("something is left: %v, %v", empty, err)
	}
}

// TestHostFlood: what a unit prints at full speed stays within bounds on disk,
// what was lost is counted, and another one goes on.
func TestHostFlood(t *testing.T) {
	b := newFirst(t, true)
	b.start(shell("flood", `timeout 2 yes 0123456789012345678901234567890123456789`))
	b.start(shell("calm", "echo still here"))
	if _, err := b.Wait(t.Context(), "flood"); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for !strings.Contains(b.log("flood"), "lines lost here") {
		if time.Now().After(deadline) {
			t.Fatal("the loss isn't counted")
		}
		time.Sleep(50 * time.Millisecond) // a file of another process
	}
	var size int64
	names, _ := filepath.Glob(b.dir + "/state/log/flood.log*")
	for _, name := range names {
		if st, err := os.Stat(name); err == nil {
			size += st.Size()
		}
	}
	if size > 2*logLimit+4096 {
		t.Errorf("%d bytes on disk", size)
	}
	if got := b.log("calm"); got != "still here\n" {
		t.Errorf("got %q", got)
	}
}

func TestLastReset(t *testing.T) {
	state, now := t.TempDir(), time.Now()
	for _, c := range []struct {
		before func() error
		card   bool
		dump   string
		kind   string
		code   string
	}{
		{kind: "first"},
		{kind: "power"},
		{card: true, kind: "watchdog", code: "reset-unsaid"},
		{dump: "a\nKernel panic\n", kind: "panic"},
		{before: func() error { return recordReset(state, "reset-agent-hung", now) }, card: true, kind: "watchdog", code: "reset-agent-hung"},
		{before: func() error {
			return errors.Join(RecordEnd(state, control.Reset{Kind: "trial"}), RecordEnd(state, control.Reset{Kind: "order"}))
		}, kind: "trial"},
		{kind: "power"},
	} {
		if c.before != nil {
			if err := c.before(); err != nil {
				t.Fatal(err)
			}
		}
		got, err := LastReset(state, c.card, c.dump, now)
		if err != nil || got.Kind != c.kind || got.Reason.Code != c.code || strings.Contains(c.dump, "panic") && !strings.Contains(got.Detail, "Kernel panic") {
			t.Errorf("want %s %s, got %+v, %v", c.kind, c.code, got, err)
		}
	}
	if ages := resetAges(state, now.Add(time.Minute)); len(ages) != 1 || ages[0] != time.Minute {
		t.Errorf("got %v", ages)
	}
}

// dog counts.
type dog struct{ fed, stopped atomic.Int32 }

func (d *dog) Feed() error { d.fed.Add(1); return nil }
func (d *dog) Stop() error { d.stopped.Add(1); return nil }

// TestGuard: fed while the supervisor answers, never without it.
func TestGuard(t *testing.T) {
	dir := t.TempDir()
	var d dog
	ctx, cancel := context.WithCancel(t.Context())
	looked := make(chan struct{}, 100)
	srv := &control.Server{Socket: filepath.Join(dir, "pid1.sock"), Routes: []control.Route{{Pattern: "GET /v1/units/{name}", Role: control.Admin,
		Handle: func(context.Context, *control.Request) (any, error) {
			looked <- struct{}{}
			return nil, &control.Error{Code: "unit-unknown", Where: "agent", Status: http.StatusNotFound}
		}}}}
	if os.Geteuid() != 0 {
		t.Skip("needs root: the socket is root's alone")
	}
	served, life := make(chan error, 1), cancel
	go func() { served <- srv.Run(ctx) }()
	watched, stop := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		Guard{Run: dir, State: dir, Dog: &d, Log: slog.New(slog.DiscardHandler), Every: 20 * time.Millisecond}.Watch(watched)
	}()
	for range 3 {
		<-looked
	}
	life()
	if err := <-served; err != nil {
		t.Error(err)
	}
	n := d.fed.Load()
	if n < 2 {
		t.Errorf("fed %d times", n)
	}
	time.Sleep(100 * time.Millisecond) // five looks that must do nothing
	if d.fed.Load() > n+1 {
		t.Error("fed without a supervisor")
	}
	stop()
	<-over
}

func TestCapabilities(t *testing.T) {
	if got, err := capabilities([]string{"CAP_CHOWN", "CAP_NET_ADMIN", "CAP_SYS_TIME", "CAP_CHECKPOINT_RESTORE"}); err != nil || got[1] != 12 || got[2] != 25 || got[3] != 40 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := capabilities([]string{"CAP_FLY"}); err == nil {
		t.Error("accepted")
	}
}

// TestHostEndWithoutSupervisor: PID 1 is told to end right after the supervisor died.
// Whether another one stops the unit or PID 1 itself does: it ends in order.
func TestHostEndWithoutSupervisor(t *testing.T) {
	b := newFirst(t, true)
	u := shell("postgres", `trap 'touch ended; exit 0' TERM; touch ready; while :; do sleep 0.01; done`)
	u.Dir = b.dir
	b.start(u)
	exists := func(name string) bool { _, err := os.Stat(filepath.Join(b.dir, name)); return err == nil }
	for start := time.Now(); !exists("ready"); time.Sleep(5 * time.Millisecond) { // the trap is set inside the shell: no event
		if time.Since(start) > 30*time.Second {
			t.Fatal("the unit doesn't come up")
		}
	}
	kids, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", b.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	first, err := strconv.Atoi(strings.TrimSpace(string(kids)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(b.holder(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(first, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err = b.cmd.Wait()
	b.cmd = nil
	if err != nil || !exists("ended") {
		t.Errorf("%v; the unit was told: %v", err, exists("ended"))
	}
}

// TestOneOrder: the first power order stands, whatever comes after it, and what goes before it
// has happened when it is carried out.
func TestOneOrder(t *testing.T) {
	dir := t.TempDir()
	var before []string
	s := newSupervisor(Options{State: dir, Before: func(_ context.Context, o control.PowerOrder) { before = append(before, o.Action) }})
	if !s.takeOrder() || s.takeOrder() {
		t.Error("not just the first")
	}
	s.prepare(t.Context(), control.PowerOrder{Action: "off"}, []string{"power-off", "power-button", ""})
	last, err := LastReset(dir, false, "", time.Now())
	if err != nil || last.Kind != "order" || last.Reason.Args[1] != "power-button" || len(before) != 1 {
		t.Errorf("%+v, %v, %q", last, err, before)
	}
}

// TestOrderOfStop: the agent first however late it came, then the latest first.
func TestOrderOfStop(t *testing.T) {
	s := newSupervisor(Options{})
	for _, name := range []string{"serial-ttys0", "charon", "agent", "timed", "postgres-resident"} {
		s.units[name] = &unit{}
		s.order = append(s.order, name)
	}
	if got := s.beginStop(); strings.Join(got, " ") != "agent postgres-resident timed charon serial-ttys0" {
		t.Error(got)
	}
}

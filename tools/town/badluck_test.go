package town

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"komainu/appliance/control"
	"komainu/failover/machine"
	"komainu/tools/lab"
	"komainu/tools/ledger"
)

// part is a test on a town that is shared: it finds it whole and leaves it so.
type part struct {
	name string
	play func(t *testing.T, ctx context.Context, w *World)
}

// onOneTown plays parts in sequence, up to the first that fails.
func onOneTown(t *testing.T, name string, parts []part) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for network namespaces")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	w, err := Build(ctx, Options{Name: name, Seed: 1, Keep: os.Getenv("KEEP") != ""})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Errorf("tear the town down: %v", err)
		}
	}()
	atDC(t, ctx, w)
	for _, p := range parts {
		if !t.Run(p.name, func(t *testing.T) { p.play(t, ctx, w) }) {
			t.Log(w.Dir + "\n" + timeline(w))
			return
		}
	}
}

func TestHostBadLuck(t *testing.T) {
	onOneTown(t, "badluck", []part{
		{"second agent", secondAgent},
		{"bad heartbeats", badHeartbeats},
		{"terminated in every mode", terminated},
		{"PostgreSQL that can't run", noPostgres},
	})
}

// eventually waits for a condition that nobody announces.
func eventually(t *testing.T, ctx context.Context, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return
		}
		if pause(ctx, pollEvery) != nil {
			t.Fatal(err)
		}
	}
}

// hall waits until the town hall's status is as wanted.
func hall(t *testing.T, ctx context.Context, w *World, want func(control.Status) error) (st control.Status) {
	t.Helper()
	eventually(t, ctx, func() (err error) {
		if st, err = w.Status(ctx, w.Hall); err == nil {
			err = want(st)
		}
		return err
	})
	return st
}

func inMode(mode string) func(control.Status) error {
	return func(st control.Status) error {
		if g := st.Groups[0]; g.Mode != mode {
			return fmt.Errorf("mode %s (%s %v %v), verdict %s", g.Mode, g.Reason, g.Args, g.Blocks, st.Verdict.Reason)
		}
		return nil
	}
}

// atDC waits until clients are at the data centre and the standby is ready.
func atDC(t *testing.T, ctx context.Context, w *World) {
	t.Helper()
	hall(t, ctx, w, func(st control.Status) error {
		if d := st.Databases[0]; !d.Ready || !st.Verdict.Usable || !d.Remote.Open || d.Role != "standby" {
			return fmt.Errorf("standby %s %v, DC open %v, verdict %s", d.Role, d.ReadyReasons, d.Remote.Open, st.Verdict.Reason)
		}
		return inMode("dc")(st)
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// order gives an order that must be carried out.
func order(t *testing.T, ctx context.Context, w *World, kind machine.OrderKind, count int32) {
	t.Helper()
	if r, err := w.Order(ctx, kind, Group, "test", count); err != nil || !r.OK {
		t.Fatalf("order %s: %+v, %v", kind, r, err)
	}
}

func cutAll(w *World, do func(*lab.Line, lab.Direction)) {
	for _, l := range w.Lines("both") {
		do(l, lab.HallToDC)
		do(l, lab.DCToHall)
	}
}

// console is the program on the town-hall box; failed says that it must exit 1.
func (w *World) console(t *testing.T, ctx context.Context, failed bool, words ...string) string {
	t.Helper()
	b, err := w.Hall.Run(ctx, lab.Daemon{Argv: append([]string{w.Program}, words...)})
	if (err != nil) != failed {
		t.Fatalf("%v: %v", words, err)
	}
	return string(b)
}

// secondAgent: one more on the same state folder, then one on the same sockets.
func secondAgent(t *testing.T, ctx context.Context, w *World) {
	first, err := w.Hall.Processes("agent")
	must(t, err)
	before, err := w.Status(ctx, w.Hall)
	must(t, err)
	other := filepath.Join(w.Hall.Dir, "other")
	must(t, os.MkdirAll(other, 0o700))
	must(t, copyTree(ctx, filepath.Join(w.Hall.StateDir(), "secrets"), filepath.Join(other, "secrets")))
	for _, x := range []struct{ name, state, run string }{
		{"the same state", w.Hall.StateDir(), other},
		{"the same sockets", other, w.Hall.RunDir()},
	} {
		bounded, cancel := context.WithTimeout(ctx, time.Minute)
		out, err := w.Hall.Run(bounded, lab.Daemon{Argv: []string{w.Program, "agent", "--config", config(w.Hall), "--state", x.state, "--run", x.run}})
		late := bounded.Err()
		cancel()
		if err == nil || late != nil {
			t.Fatalf("%s: it ran beside the first one: %v", x.name, err)
		}
		t.Logf("%s: %s", x.name, out)
		if !strings.Contains(string(out), strconv.Itoa(first[0])) {
			t.Errorf("%s: the refusal doesn't name the holder %d: %s", x.name, first[0], out)
		}
	}
	after, err := w.Status(ctx, w.Hall)
	must(t, err)
	now, err := w.Hall.Processes("agent")
	must(t, err)
	if !slices.Equal(first, now) || after.UptimeS < before.UptimeS || after.Groups[0].Mode != "dc" || after.Groups[0].Switches != before.Groups[0].Switches {
		t.Fatalf("the first agent was harmed: %v then %v, %+v", first, now, after)
	}
	works(t, ctx, w, AtDC)
}

// works waits for one read through the stable address at the right side.
func works(t *testing.T, ctx context.Context, w *World, side func(ledger.Op) bool) {
	t.Helper()
	from := time.Now()
	w.StartCrew("works", []ledger.Clerk{{Name: "works", Conn: StableDSN, Dial: dialer(w.Clients[0]), Mix: ledger.Reader()}})
	defer w.StopClerks("works")
	eventually(t, ctx, func() error {
		return w.seen(from, "a read", func(op ledger.Op) bool { return op.Clerk == "works" && ledger.GoodRead(op) && side(op) })
	})
}

// terminated: SIGTERM to the town hall's agent in dc, local-read, local-write
// and returning. Clerks notice nothing, and it comes back in the same mode.
// On the way: status with everything down, and two operators at once.
func terminated(t *testing.T, ctx context.Context, w *World) {
	w.StartClerks("at-dc")
	restarted(t, ctx, w, "dc", AtDC)

	cutAll(w, (*lab.Line).Cut)
	hall(t, ctx, w, inMode("local-read"))
	restarted(t, ctx, w, "local-read", Local)
	w.StopClerks("at-dc")
	everythingDown(t, ctx, w)

	order(t, ctx, w, machine.Write, 0)
	hall(t, ctx, w, inMode("local-write"))
	restarted(t, ctx, w, "local-write", Local)

	cutAll(w, (*lab.Line).Heal)
	hall(t, ctx, w, func(st control.Status) error {
		if r := st.Databases[0].Remote; r.Phase != "fenced" || r.Role != "stopped" || r.AgeS > 1 {
			return fmt.Errorf("the DC is %+v", r)
		}
		return nil
	})
	twoOperators(t, ctx, w)
	restarted(t, ctx, w, "returning", Local)
	st := hall(t, ctx, w, func(st control.Status) error {
		if r := st.Databases[0].Remote; r.Phase != "awaiting" || st.Databases[0].Orphans <= 0 {
			return fmt.Errorf("the DC is %+v", r)
		}
		return nil
	})
	order(t, ctx, w, machine.AcceptOrphans, int32(st.Databases[0].Orphans))
	atDC(t, ctx, w)
	tally, err := w.Tally(ctx)
	must(t, err)
	if len(tally.Lost)+len(tally.Undead)+len(tally.Unknown) > 0 || tally.OrphanRecall < 1 || tally.OrphanPrecision < 1 {
		t.Errorf("the account doesn't balance: %+v", tally)
	}
}

// restarted ends the agent politely, under a reading clerk.
func restarted(t *testing.T, ctx context.Context, w *World, mode string, side func(ledger.Op) bool) {
	t.Helper()
	before := hall(t, ctx, w, inMode(mode))
	agent, err := w.Hall.Processes("agent")
	must(t, err)
	server, err := w.Hall.Processes("postgres")
	must(t, err)
	from := time.Now()
	w.StartCrew("reader", []ledger.Clerk{{Name: "watching", Conn: StableDSN, Dial: dialer(w.Clients[1]), Mix: ledger.Reader(), ConnectTimeout: 3 * time.Second, Timeout: 3 * time.Second}})
	read := func() error {
		return w.seen(from, "a read in "+mode, func(op ledger.Op) bool { return op.Clerk == "watching" && ledger.GoodRead(op) && side(op) })
	}
	eventually(t, ctx, read)
	killed := time.Now()
	must(t, w.Hall.Kill("agent", syscall.SIGTERM))
	eventually(t, ctx, func() error {
		now, err := w.Hall.Processes("agent")
		if err == nil && (len(now) != 1 || now[0] == agent[0]) {
			err = fmt.Errorf("agent %v, before %v", now, agent)
		}
		return err
	})
	after := hall(t, ctx, w, func(st control.Status) error {
		if st.UptimeS < 1.5 { // long enough for a wrong move
			return errors.New("just started")
		}
		return inMode(mode)(st)
	})
	from = time.Now()
	eventually(t, ctx, read)
	w.StopClerks("reader")
	for _, op := range w.Recorder.Ops() {
		if op.Clerk == "watching" && !op.OK && op.Start.After(killed) {
			t.Errorf("in %s: %s failed: %s %s", mode, op.Kind, op.SQLState, op.Err)
		}
	}
	if now, err := w.Hall.Processes("postgres"); err != nil || !slices.Equal(now, server) {
		t.Errorf("in %s: server %v, before %v, %v", mode, now, server, err)
	}
	if b, a := before.Groups[0], after.Groups[0]; a.Term != b.Term || a.Owner != b.Owner {
		t.Errorf("in %s: term %d of %s, before %d of %s", mode, a.Term, a.Owner, b.Term, b.Owner)
	}
}

// everythingDown: no line, no DC, and the local server paused; then no agent.
func everythingDown(t *testing.T, ctx context.Context, w *World) {
	must(t, w.Edge.PowerOff(ctx))
	must(t, w.Hall.Kill("postgres", syscall.SIGSTOP))
	st := hall(t, ctx, w, func(st control.Status) error {
		if d := st.Databases[0]; d.Role != "hung" || d.Ready || st.Verdict.Usable || st.Verdict.Place != "line" {
			return fmt.Errorf("database %+v, verdict %+v", d, st.Verdict)
		}
		for _, want := range []string{"dc-unusable", "standby-not-ready", "path-down"} {
			if !slices.ContainsFunc(st.Alarms, func(a control.Alarm) bool { return a.ID == want }) {
				return fmt.Errorf("no alarm %s: %v", want, st.Alarms)
			}
		}
		return nil
	})
	t.Logf("%+v", st.Alarms)
	for _, lang := range []string{"en", "ja"} {
		for _, what := range []string{"status", "service", "database", "path"} {
			if text := w.console(t, ctx, false, "show", what, "--lang", lang, "--run", w.Hall.RunDir()); strings.TrimSpace(text) == "" {
				t.Errorf("show %s --lang %s says nothing", what, lang)
			}
		}
	}
	code, text := healthz(t, ctx, w)
	if code != http.StatusServiceUnavailable || !strings.Contains(text, Group) {
		t.Errorf("/healthz: %d %s", code, text)
	}
	if text := w.console(t, ctx, true, "show", "status", "--lang", "en", "--run", t.TempDir()); !strings.Contains(text, "is it running") {
		t.Errorf("without an agent: %s", text)
	}
	must(t, w.Hall.Kill("postgres", syscall.SIGCONT))
	must(t, w.Edge.PowerOn(ctx))
	hall(t, ctx, w, func(st control.Status) error {
		if !st.Databases[0].Ready {
			return fmt.Errorf("database %+v", st.Databases[0])
		}
		return nil
	})
}

func healthz(t *testing.T, ctx context.Context, w *World) (int, string) {
	t.Helper()
	tr := &http.Transport{DialContext: w.Hall.Dial, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d/healthz", lab.Hall4, healthPort), nil)
	must(t, err)
	resp, err := tr.RoundTrip(req)
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(b)
}

// twoOperators order the return at once: one is taken, the other is told who
// was first. The return then waits for the orphans.
func twoOperators(t *testing.T, ctx context.Context, w *World) {
	replies := make(chan machine.Reply, 2)
	for i := range 2 {
		go func() { // ends with the order: refused at once, or when the agent stops
			var r machine.Reply
			o := machine.Order{ID: fmt.Sprint("operator-", i), Kind: machine.SwitchDC, Group: Group, Reason: "test"}
			if err := w.Agent(w.Hall).Post(ctx, control.OrdersPath, o, &r); err == nil {
				replies <- r
			}
		}()
	}
	select {
	case r := <-replies:
		if r.OK || r.Code != "refused-busy" {
			t.Fatalf("the second operator was told %+v", r)
		}
		text := (&control.Error{Code: r.Code, Where: Group, Args: r.Args}).Text("en")
		if !strings.Contains(text, " ") || strings.Contains(text, r.Code) {
			t.Errorf("the refusal is no sentence: %s", text)
		}
		t.Log(text)
	case <-ctx.Done():
		t.Fatal("no operator was refused")
	}
	hall(t, ctx, w, inMode("returning"))
}

package linelab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"komainu/appliance/agent"
	"komainu/appliance/control"
	"komainu/tools/lab"
)

// stockOnly skips where the kernel has no XFRM interfaces.
func stockOnly(t *testing.T) {
	t.Helper()
	if os.Getenv("KOMAINU_VM") != "1" {
		t.Skip("XFRM interfaces and the kernel's ESP need the stock kernel: make vm")
	}
}

// rounds is how often a figure is measured; none is asked for in a test run.
func rounds(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv(Rounds))
	if err != nil || n < 1 {
		t.Skip("measures; run it through make bench")
	}
	stockOnly(t)
	return n
}

func figure(name string, value float64) { fmt.Printf("%s\t%s\t%.3f\n", Figure, name, value) }

func result(id string, ok bool, done, ours string) {
	word := map[bool]string{true: "ok", false: "bad"}[ok]
	fmt.Printf("%s\t%s\t%s\t%s\t%s\n", Result, id, word, done, ours)
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// build is Build for a test, which shows what the boxes wrote when it failed.
func build(t *testing.T, o Options) *World {
	t.Helper()
	o.Name = t.Name()
	w, err := Build(t.Context(), o)
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			w.show(t)
		}
		if err := w.Close(); err != nil {
			t.Errorf("tear the lab down: %v", err)
		}
	})
	return w
}

// shown bounds what of a log is shown.
const shown = 6000

func (w *World) show(t *testing.T) {
	for _, b := range w.Boxes() {
		var n control.Network
		if err := w.Agent(b).Get(context.Background(), control.NetworkPath, &n); err != nil || !n.Settled {
			t.Logf("%s, network: %+v, %v", b.Name, n, err)
		}
		logs, _ := filepath.Glob(filepath.Join(b.StateDir(), "log", "*.log"))
		more, _ := filepath.Glob(filepath.Join(b.LogDir(), "*"))
		for _, name := range append(append(logs, more...), filepath.Join(b.StateDir(), "journal.ndjson")) {
			if text, err := os.ReadFile(name); err == nil && len(text) > 0 {
				t.Logf("%s %s:\n%s", b.Name, filepath.Base(name), text[max(0, len(text)-shown):])
			}
		}
	}
}

// notes are the journal of a box from a moment on.
func notes(b *lab.Host, from time.Time) ([]agent.Note, error) {
	f, err := os.Open(filepath.Join(b.StateDir(), "journal.ndjson"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []agent.Note
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var n agent.Note
		if json.Unmarshal(lines.Bytes(), &n) == nil && n.Wall >= from.UnixNano() {
			all = append(all, n)
		}
	}
	return all, nil
}

// noted waits for a note about subject since a moment and returns its time.
func noted(ctx context.Context, t *testing.T, b *lab.Host, from time.Time, within time.Duration, code, subject string) time.Time {
	t.Helper()
	var at time.Time
	must(t, Until(ctx, within, "note "+code+" about "+subject+" on "+b.Name, func() error {
		all, err := notes(b, from)
		if err != nil {
			return err
		}
		for _, n := range all {
			if n.Code == code && n.Subject == subject {
				at = time.Unix(0, n.Wall)
				return nil
			}
		}
		return fmt.Errorf("not among %d notes", len(all))
	}))
	return at
}

// count is how many notes there are with a code since a moment.
func count(t *testing.T, b *lab.Host, from time.Time, code string) int {
	t.Helper()
	all, err := notes(b, from)
	must(t, err)
	n := 0
	for _, x := range all {
		if x.Code == code {
			n++
		}
	}
	return n
}

// app is where the echo stands behind the edge.
const app = lab.App4 + ":7"

func echo(t *testing.T, w *World) {
	t.Helper()
	for _, addr := range []string{app, "[" + lab.App6 + "]:7"} {
		e, err := NewEcho(t.Context(), w.App, addr)
		must(t, err)
		t.Cleanup(e.Close)
	}
}

// start builds a world and waits until all its paths are up and the first hall
// uses its main line.
func start(t *testing.T, o Options) *World {
	t.Helper()
	w := build(t, o)
	echo(t, w)
	must(t, w.Ready(t.Context(), 2*time.Minute))
	must(t, Until(t.Context(), time.Minute, "main carries", func() error { return w.Carries(t.Context(), w.Hall, "main") }))
	must(t, Until(t.Context(), time.Minute, "main carries back", func() error { return w.Carries(t.Context(), w.Edge, w.Halls[0].hall.Lines[0].Tunnel) }))
	return w
}

// TestHostFiguresUp: from the agent's start to a tunnel, and after a cut.
func TestHostFiguresUp(t *testing.T) {
	n := rounds(t)
	for range n {
		t.Run("", func(t *testing.T) {
			w := build(t, Options{Idle: true})
			echo(t, w)
			ctx := t.Context()
			begin := time.Now()
			must(t, w.Start(ctx, w.Edge))
			noted(ctx, t, w.Edge, begin, time.Minute, "agent-started", lab.SiteEdge)
			must(t, Until(ctx, time.Minute, "the edge's charon", func() error { return w.charon(ctx, w.Edge) }))
			must(t, w.Start(ctx, w.Hall))
			up := noted(ctx, t, w.Hall, begin, time.Minute, "tunnel-up", "closed-main")
			figure("up", millis(up.Sub(noted(ctx, t, w.Hall, begin, time.Second, "agent-started", lab.SiteHall))))

			must(t, w.Ready(ctx, time.Minute))
			f, err := NewFlow(ctx, w.Clients[0], app, 50*time.Millisecond, 64)
			must(t, err)
			must(t, Until(ctx, time.Minute, "a packet", func() error { return passed(f, time.Now().Add(-time.Second)) }))
			for _, l := range w.Lines("both") {
				l.Cut(lab.HallToDC)
				l.Cut(lab.DCToHall)
			}
			select { // the cut is what is measured
			case <-time.After(time.Minute):
			case <-ctx.Done():
			}
			healed := time.Now()
			for _, l := range w.Lines("both") {
				l.Heal(lab.HallToDC)
				l.Heal(lab.DCToHall)
			}
			must(t, Until(ctx, time.Minute, "a packet after the cut", func() error { return passed(f, healed) }))
			first, _ := f.First(healed)
			figure("healed", millis(first.Sub(healed)))
			f.Stop(healed, time.Second)
		})
	}
}

// charon tells whether a box's charon answers and has its tunnels.
func (w *World) charon(ctx context.Context, b *lab.Host) error {
	var v control.VPN
	if err := w.Agent(b).Get(ctx, control.VPNPath, &v); err != nil {
		return err
	}
	if v.Charon == "" || len(v.Problems) > 0 {
		return fmt.Errorf("charon %q, %v", v.Charon, v.Problems)
	}
	return nil
}

func passed(f *Flow, since time.Time) error {
	if !f.Passed(since) {
		return errors.New("none came back")
	}
	return nil
}

// TestHostFiguresMoved: the line that carries is cut while 200 packets a second
// and twenty sessions use it; the other one carries on.
func TestHostFiguresMoved(t *testing.T) {
	n := rounds(t)
	w := start(t, Options{})
	ctx := t.Context()
	for range n {
		name := "main"
		if w.Carries(ctx, w.Hall, name) != nil {
			name = "alt"
		}
		must(t, Until(ctx, time.Minute, name+" carries", func() error { return w.Carries(ctx, w.Hall, name) }))
		lost, sessions := w.move(t, name)
		figure("moved packets", float64(lost))
		figure("moved sessions", float64(sessions))
		for _, other := range []string{"main", "alt"} {
			must(t, Until(ctx, time.Minute, other, func() error { return w.PathUp(ctx, w.Hall, other) }))
		}
	}
}

// move cuts the line that carries and heals it when the other one does; it
// returns what was lost of 200 packets a second and of twenty sessions.
func (w *World) move(t *testing.T, name string) (packets, sessions int) {
	t.Helper()
	ctx := t.Context()
	open, err := NewSessions(ctx, w.Clients[0], app, 20)
	must(t, err)
	defer open.Close()
	f, err := NewFlow(ctx, w.Clients[0], app, 5*time.Millisecond, 64)
	must(t, err)
	begin := time.Now()
	must(t, Until(ctx, time.Minute, "a packet", func() error { return passed(f, begin) }))
	line := w.Lines(name)[0]
	cut := time.Now()
	line.Cut(lab.HallToDC)
	line.Cut(lab.DCToHall)
	down := noted(ctx, t, w.Hall, cut, time.Minute, "path-down", name)
	must(t, Until(ctx, time.Minute, "a packet over the other line", func() error { return passed(f, down) }))
	sessions = open.Lost(30 * time.Second)
	packets = f.Stop(cut, 2*time.Second).Lost
	line.Heal(lab.HallToDC)
	line.Heal(lab.DCToHall)
	return packets, sessions
}

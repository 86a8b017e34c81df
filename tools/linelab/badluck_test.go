package linelab

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/vici"
	"komainu/tools/lab"
)

// TestHostBadLuck plays what lines, clocks and people do to a tunnel, one after
// the other in one world; each time the traffic must pass again by itself.
func TestHostBadLuck(t *testing.T) {
	stockOnly(t)
	w := start(t, Options{})
	ctx := t.Context()
	f, err := NewFlow(ctx, w.Clients[0], app, 20*time.Millisecond, 200)
	must(t, err)
	defer f.Stop(time.Now(), time.Second)
	main, alt := w.Halls[0].hall.Lines[0], w.Halls[0].hall.Lines[1]
	both := func(p lab.Params) {
		for _, l := range w.Lines("both") {
			l.Set(lab.HallToDC, p)
			l.Set(lab.DCToHall, p)
		}
	}
	passes := func(t *testing.T, within time.Duration) {
		t.Helper()
		now := time.Now()
		must(t, Until(ctx, within, "a packet", func() error { return passed(f, now) }))
	}
	charon := vici.Client{Socket: filepath.Join(w.Hall.RunDir(), "charon.vici"), Within: 20 * time.Second}

	t.Run("10 % loss and 300 ms", func(t *testing.T) {
		both(lab.Params{Delay: 150 * time.Millisecond, Loss: 0.10})
		must(t, charon.Rekey(ctx, "closed-main", true))
		passes(t, 30*time.Second)
		both(lab.Params{})
		must(t, w.Ready(ctx, time.Minute))
	})
	t.Run("one way is cut", func(t *testing.T) {
		for _, d := range []lab.Direction{lab.HallToDC, lab.DCToHall} {
			cut := time.Now()
			w.Main.Cut(d)
			noted(ctx, t, w.Hall, cut, time.Minute, "path-down", "main")
			noted(ctx, t, w.Edge, cut, time.Minute, "path-down", main.Tunnel)
			passes(t, 30*time.Second)
			w.Main.Heal(d)
			must(t, w.Ready(ctx, time.Minute))
		}
	})
	t.Run("two associations for one tunnel", func(t *testing.T) {
		must(t, charon.Initiate(ctx, "closed-main"))
		passes(t, 30*time.Second)
		must(t, Until(ctx, 30*time.Second, "one association at the edge for each tunnel", func() error {
			edge := vici.Client{Socket: filepath.Join(w.Edge.RunDir(), "charon.vici"), Within: 20 * time.Second}
			all, err := edge.ListSAs(ctx, "")
			if err == nil && len(all) > 2 {
				err = fmt.Errorf("%d", len(all))
			}
			return err
		}))
	})
	t.Run("the clock is set while keys change", func(t *testing.T) {
		step(t, 2*time.Hour)
		defer step(t, -2*time.Hour)
		must(t, charon.Rekey(ctx, "closed-main", true))
		passes(t, 30*time.Second)
	})
	t.Run("the associations are deleted by hand, at one end and at the other", func(t *testing.T) {
		for _, x := range []struct {
			box     *lab.Host
			tunnels []string
		}{{w.Hall, []string{"closed-main", "closed-alt"}}, {w.Edge, []string{main.Tunnel, alt.Tunnel}}} {
			from := time.Now()
			must(t, x.box.FlushXFRM())
			for _, tunnel := range x.tunnels {
				noted(ctx, t, x.box, from, time.Minute, "tunnel-emptied", tunnel)
				noted(ctx, t, x.box, from, time.Minute, "tunnel-up", tunnel)
			}
			for _, b := range w.Boxes() {
				must(t, Until(ctx, time.Minute, "calm on "+b.Name, func() error { return w.calm(ctx, b) }))
			}
			passes(t, time.Minute)
		}
	})
	t.Run("the two lines are swapped", func(t *testing.T) {
		// Each box drops what comes by the wrong line, so nothing passes, which both
		// say; no tunnel joins what doesn't belong together.
		swapped := time.Now()
		w.Main.Swap(w.Alt)
		back := sync.OnceFunc(func() { w.Main.Swap(w.Alt) })
		defer back()
		for _, l := range []line{main, alt} {
			noted(ctx, t, w.Hall, swapped, time.Minute, "path-down", l.Name)
			noted(ctx, t, w.Edge, swapped, time.Minute, "path-down", l.Tunnel)
			alarmed(t, w, w.Hall, "path-down", l.Name)
		}
		back()
		must(t, w.Ready(ctx, time.Minute))
		passes(t, time.Minute)
	})
	t.Run("both boxes lose charon at once", func(t *testing.T) {
		must(t, errors.Join(w.Hall.Kill("charon", unix.SIGKILL), w.Edge.Kill("charon", unix.SIGKILL)))
		passes(t, time.Minute)
		must(t, w.Ready(ctx, time.Minute))
	})
}

// step sets the guest's clock, which belongs to this test alone.
func step(t *testing.T, by time.Duration) {
	t.Helper()
	ts := unix.NsecToTimespec(time.Now().Add(by).UnixNano())
	must(t, unix.ClockSettime(unix.CLOCK_REALTIME, &ts))
}

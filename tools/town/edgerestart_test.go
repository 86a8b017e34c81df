package town

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

// TestHostEdgeRestarts: the data centre's agent is started anew under working
// clerks, as for a new municipality. It says so before, the traffic goes past
// it, and the probes speak for the data centre meanwhile, however long it takes:
// nobody notices.
func TestHostEdgeRestarts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for network namespaces")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	w, err := Build(ctx, Options{Name: "edge-restarts", Seed: 1, Keep: os.Getenv("KEEP") != ""})
	must(t, err)
	defer func() {
		if err := w.Close(); err != nil {
			t.Errorf("tear the town down: %v", err)
		}
	}()
	play := func(src string) {
		t.Helper()
		sc, err := ScenarioText(w, "edge-restarts", src)
		must(t, err)
		if err := sc.Play(ctx, nil); err != nil {
			t.Errorf("%v\n%s", err, timeline(w))
		}
	}
	play("within 60s ready resident\nstart clerks\nafter 1s within 10s writes dc")
	for range 3 {
		before, err := w.Edge.Processes("agent")
		must(t, err)
		killed := time.Now()
		must(t, w.Edge.Kill("agent", syscall.SIGTERM))
		eventually(t, ctx, func() error {
			now, err := w.Edge.Processes("agent")
			if err == nil && (len(now) != 1 || now[0] == before[0]) {
				err = fmt.Errorf("agent %v, before %v", now, before)
			}
			return err
		})
		for _, path := range []string{"main", "alt"} {
			eventually(t, ctx, func() error {
				if !cameUp(w, path, killed) {
					return fmt.Errorf("path %s isn't back", path)
				}
				return nil
			})
		}
	}
	play("after 2s stop clerks\nexpect no-failed-operation\nexpect no-mode-change\nexpect no-lost-rows")
}

// cameUp tells whether the town hall noted that a path came up since then.
func cameUp(w *World, path string, since time.Time) bool {
	for _, e := range w.Events.All() {
		if e.Host == "hall" && e.Code == "path-up" && e.Subject == path && e.At().After(since) {
			return true
		}
	}
	return false
}

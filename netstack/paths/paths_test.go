package paths_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"komainu/netstack/paths"
	"komainu/ntp/instant"
)

// world plays what happens to the paths main and alt, a second at a time.
type world struct {
	chooser paths.Chooser
	paths   map[string]*paths.Path
	now     instant.Instant
	carries string
	order   []string
	told    []string
}

func newWorld(order ...string) *world {
	w := &world{paths: map[string]*paths.Path{}, now: instant.Instant(time.Second), order: order}
	for _, n := range order {
		w.paths[n] = &paths.Path{Name: n, Up: true, Since: w.now}
	}
	return w
}

func (w *world) step(d time.Duration) {
	for end := w.now.Add(d); w.now < end; {
		w.now = w.now.Add(time.Second)
		w.choose()
	}
}

func (w *world) choose() {
	var all []paths.Path
	for _, n := range w.order {
		all = append(all, *w.paths[n])
	}
	w.chooser.Watch(w.now, all)
	if c := w.chooser.Choose(w.now, all, w.carries); c != w.carries {
		w.carries = c
		w.told = append(w.told, fmt.Sprintf("%d %s", int(w.now.Sub(0).Seconds()), c))
	}
}

func (w *world) set(name string, up bool) {
	w.paths[name].Up, w.paths[name].Since = up, w.now
	w.choose()
}

func (w *world) expect(t *testing.T, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, w.told); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestTheFirstThatIsUpCarries(t *testing.T) {
	w := newWorld("main", "alt")
	w.choose()
	w.step(10 * time.Second)
	w.set("main", false)
	w.step(10 * time.Second)
	w.set("main", true)
	w.step(20 * time.Second)
	w.expect(t, "1 main", "11 alt", "26 main")
}

func TestWithNoneUpNothingMoves(t *testing.T) {
	w := newWorld("main", "alt")
	w.choose()
	w.set("alt", false)
	w.set("main", false)
	w.step(time.Minute)
	w.set("alt", true) // at once: nothing else works
	w.expect(t, "1 main", "61 alt")
}

func TestAtTheStartTheFirstCarriesThoughDown(t *testing.T) {
	w := newWorld("main", "alt")
	w.paths["main"].Up, w.paths["alt"].Up = false, false
	w.choose()
	w.expect(t, "1 main")
}

// TestAFlappingPathIsUsedLessAndLess lets main fall every 20 s for an hour.
func TestAFlappingPathIsUsedLessAndLess(t *testing.T) {
	w := newWorld("main", "alt")
	w.choose()
	for range 180 {
		w.step(15 * time.Second)
		w.set("main", false)
		w.step(5 * time.Second)
		w.set("main", true)
	}
	if n := len(w.told); n > 8 {
		t.Errorf("traffic moved %d times: %s", n, strings.Join(w.told, ", "))
	}
	w.step(6 * time.Minute)
	if w.carries != "main" {
		t.Errorf("%s carries although main has been up for six minutes", w.carries)
	}
}

func TestAPoorPathYieldsToAGoodOne(t *testing.T) {
	w := newWorld("main", "alt")
	w.step(10 * time.Second)
	w.paths["main"].Loss = 0.10
	w.step(5 * time.Second)
	w.paths["main"].Loss = 0 // short: nothing happens
	w.step(20 * time.Second)
	w.paths["main"].Loss = 0.10
	w.step(30 * time.Second)
	w.paths["main"].Loss = 0.03 // neither good nor poor: what is, stays
	w.step(60 * time.Second)
	w.paths["main"].Loss = 0
	w.step(60 * time.Second)
	w.expect(t, "2 main", "47 alt", "137 main")
}

func TestAPoorPathIsBetterThanNone(t *testing.T) {
	w := newWorld("main", "alt")
	w.paths["alt"].Loss = 0.3
	w.step(20 * time.Second)
	w.set("main", false)
	w.step(20 * time.Second)
	w.expect(t, "2 main", "21 alt")
}

func TestNextIsWhenAPathThatCameBackIsSteady(t *testing.T) {
	w := newWorld("main", "alt")
	w.step(10 * time.Second)
	w.set("main", false)
	w.step(3 * time.Second)
	w.set("main", true)
	all := []paths.Path{*w.paths["main"], *w.paths["alt"]}
	if got, want := w.chooser.Next(w.now, all), w.now.Add(paths.Steady); got != want {
		t.Errorf("next look in %v, want %v", got.Sub(w.now), want.Sub(w.now))
	}
}

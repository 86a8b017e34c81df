package main

import (
	"math"
	"strings"
	"testing"
	"time"

	"komainu/ntp/timer"
	"komainu/ntp/wall"
)

// script is a daemon of known behaviour.
type script func(wall.Reading, timer.Event) []timer.Action

func (s script) Step(r wall.Reading, ev timer.Event) []timer.Action { return s(r, ev) }

// idle does nothing.
func idle(wall.Reading, timer.Event) []timer.Action { return nil }

// atStart does something when it starts, and nothing later.
func atStart(actions ...timer.Action) script {
	return func(_ wall.Reading, ev timer.Event) []timer.Action {
		if _, ok := ev.(timer.Started); ok {
			return actions
		}
		return nil
	}
}

// simulate runs the lines of a scenario with a daemon.
func simulate(t *testing.T, seed uint64, daemon script, lines ...string) *world {
	t.Helper()
	w := makeWorld(t, seed, daemon, lines...)
	if err := w.run(); err != nil {
		t.Fatal(err)
	}
	return w
}

func makeWorld(t *testing.T, seed uint64, daemon script, lines ...string) *world {
	t.Helper()
	text := strings.Join(lines, "\n")
	if !strings.Contains(text, "source ") {
		text += "\nsource a"
	}
	sc, err := parse("test.txt", text)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWorld(sc, seed, func(timer.Spec) stepper { return daemon })
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s: %g, want %g within %g", what, got, want, tolerance)
	}
}

// 50 ppm are 4.32 s a day, and a correction of -50 ppm undoes them but for
// their product.
func TestFreeRunningClock(t *testing.T) {
	w := simulate(t, 1, idle, "duration 1d", "oscillator offset=50ppm")
	near(t, "error after a day, ns", w.err(), 4.32e9, 1)
	near(t, "raw, ns", w.clock.raw, 4.32e9, 1)
	w = simulate(t, 1, atStart(timer.SetFrequency{PPM: -50}), "duration 1d", "oscillator offset=50ppm")
	near(t, "error after a corrected day, ns", w.err(), -50e-6*50e-6*86400e9, 1)
	near(t, "raw, ns", w.clock.raw, 4.32e9, 1)
	w = simulate(t, 1, idle, "duration 10d", "oscillator ageing=1ppm")
	near(t, "error after ten days of 1 ppm a day, ns", w.err(), 1e-6*10*10/2*86400e9, 1)
	w = simulate(t, 1, idle, "duration 12h", "oscillator temperature=1ppm phase=0%")
	near(t, "error after half a day of a sine, ns", w.err(), 1e-6*86400e9/math.Pi, 1e3)
}

// The random walk's standard deviation after n seconds is n^0.5 steps, and the
// phase's (n^3/3)^0.5.
func TestRandomWalk(t *testing.T) {
	var f, x float64
	const seeds, n = 400, 3600.0
	for seed := range uint64(seeds) {
		w := simulate(t, seed, idle, "duration 1h", "sample 1h", "oscillator walk=1e-9")
		f += w.clock.crystal.ppm * w.clock.crystal.ppm
		x += w.err() * w.err()
	}
	near(t, "frequency, 1e-9", math.Sqrt(f/seeds)*1e3, math.Sqrt(n), 5)
	near(t, "phase, ns", math.Sqrt(x/seeds), math.Sqrt(n*n*n/3), 15e3)
}

// In every wall second after the one in which it was given, a slew of constant
// 2 removes 1/16 of what is left, evenly.
func TestSlew(t *testing.T) {
	w := makeWorld(t, 1, idle)
	w.clock.advance(second / 2)
	w.clock.slew(time.Millisecond, 2)
	for _, at := range []struct{ s, left float64 }{{1, 1}, {1.5, 1 - 0.5/16}, {2, 15. / 16}, {3, 15. * 15 / 16 / 16}, {11, math.Pow(15./16, 10)}} {
		w.clock.advance(int64(at.s * 1e9))
		near(t, "left of 1 ms, ns", 1e6-w.err(), at.left*1e6, 10) // wall seconds begin up to 0.5 ms early
	}
	w.clock.slew(-time.Millisecond, 0)
	before := w.err()
	w.clock.advance(12 * second)
	near(t, "the present second ends as it began", w.err()-before, 1e6/16*math.Pow(15./16, 10), 200)
	w.clock.advance(200 * second)
	near(t, "the new slew, ns", w.err()-before-1e6/16*math.Pow(15./16, 10), -1e6, 200)
	w.clock.slew(100*time.Millisecond, 0)
	w.clock.advance(202*second + second/2)
	w.clock.step(time.Second)
	before = w.err()
	w.clock.advance(300 * second)
	near(t, "a step ends the slew, ns", w.err(), before, 0)
}

// The wall second that counts is the clock's own, wherever that is.
func TestSlewBeginsWithTheWallSecond(t *testing.T) {
	w := simulate(t, 1, atStart(timer.Slew{Offset: time.Millisecond, Constant: 0}), "offset 300ms", "duration 700ms")
	near(t, "error, ns", w.err(), 300e6, 1e-3)
	w = simulate(t, 1, atStart(timer.Slew{Offset: time.Millisecond, Constant: 0}), "offset 300ms", "duration 1700ms")
	near(t, "error, ns", w.err(), 300.25e6, 300)
}

func TestLeapSecond(t *testing.T) {
	for _, verb := range []string{"insert", "delete"} {
		lines := []string{"start 2026-06-30T23:00:00Z", "duration 2h", "offset 1ms", "leap " + verb + " 2026-06-30"}
		leap := map[string]int{"insert": 1, "delete": -1}[verb]
		w := simulate(t, 1, atStart(timer.SetLeap{Seconds: leap}), lines...)
		near(t, verb+": error at the end, ns", w.err(), 1e6, 1)
		for _, p := range w.rec.points {
			near(t, verb+": error at "+time.Duration(p.at).String(), p.err, 1e-3, 1e-6)
		}
		if got, want := w.wallNow(), wall.Time(time.Date(2026, 7, 1, 1, 0, -leap, 0, time.UTC).UnixNano()+1e6); got != want {
			t.Errorf("%s: the clock shows %d, want %d", verb, got, want)
		}
		w = simulate(t, 1, idle, lines...)
		near(t, verb+": error of a kernel that wasn't told, ns", w.err(), float64(leap)*1e9+1e6, 1)
	}
}

func TestSuspend(t *testing.T) {
	var before, after wall.Reading
	daemon := script(func(r wall.Reading, ev timer.Event) []timer.Action {
		if _, ok := ev.(timer.Started); ok {
			before = r
			return []timer.Action{timer.Wake{At: r.Boot.Add(11 * time.Minute)}}
		}
		after = r
		return nil
	})
	w := simulate(t, 1, daemon, "duration 1h", "oscillator offset=10ppm", "at 10m suspend 20m error=300ms")
	near(t, "error, ns", w.err(), 300e6+40*60*10e3, 1)
	if got := after.Boot.Sub(before.Boot); (got - 30*time.Minute).Abs() > time.Second {
		t.Errorf("the boot clock went %v until the Tick that was due in the suspension", got)
	}
	if got := after.Raw.Sub(before.Raw); (got - 10*time.Minute).Abs() > time.Second {
		t.Errorf("the oscillator's counter went %v", got)
	}
}

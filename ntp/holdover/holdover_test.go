package holdover

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

var pc = Crystal{Ageing: 0.1, Temperature: 2}

// histories are oscillators as they may have been seen.
func histories() map[string]*History {
	r := rand.New(rand.NewPCG(1, 1))
	all := map[string]*History{}
	add := func(name string, n int, believed, mean func(i int) float64) {
		h := &History{}
		for i := range n {
			h.Add(Point{Believed: believed(i), Mean: mean(i)})
		}
		all[name] = h
	}
	zero := func(int) float64 { return 0 }
	add("none", 0, zero, zero)
	add("one slot", 1, zero, zero)
	add("perfect", 500, zero, zero)
	add("constant", 400, func(int) float64 { return 12 }, func(int) float64 { return 12.01 })
	swing := func(i int) float64 { return math.Sin(float64(i) * 2 * math.Pi / 96) }
	add("day and night", 384, swing, swing)
	add("two days and nights", 192, swing, swing)
	add("to and fro", 384, zero, func(i int) float64 { return float64(1 - 2*(i%2)) })
	add("air conditioning", 384, zero, func(i int) float64 { return math.Sin(float64(i) * 2 * math.Pi / 8) })
	walk := 0.0
	add("walk", 384, func(int) float64 { return walk }, func(int) float64 { walk += r.NormFloat64() * 0.01; return walk })
	add("nonsense", 384, func(int) float64 { return -500 }, func(int) float64 { return 500 })
	return all
}

// TestBoundGrows: with every minute without a source the clock may be more
// wrong, never less.
func TestBoundGrows(t *testing.T) {
	for name, h := range histories() {
		last := -1.0
		for m := range 4 * 24 * 60 {
			b := h.Bound(time.Duration(m)*time.Minute, pc, 1e-8, 1e-18)
			if b < last || math.IsNaN(b) || math.IsInf(b, 0) {
				t.Errorf("%s: bound falls from %g to %g s at %d min", name, last, b, m)
				break
			}
			last = b
		}
		if b := h.Bound(0, pc, 1e-8, 1e-18); b != 0 {
			t.Errorf("%s: bound begins at %g s", name, b)
		}
	}
}

// TestCrystal: the configured crystal alone.
func TestCrystal(t *testing.T) {
	var h History
	for _, c := range []struct {
		d       time.Duration
		crystal Crystal
		want    float64
	}{
		{24 * time.Hour, Crystal{Ageing: 1}, 0.5 * 1e-6 * 86400},
		{48 * time.Hour, Crystal{Ageing: 1}, 4 * 0.5 * 1e-6 * 86400},
		{6 * time.Hour, Crystal{Temperature: 2}, 2e-6 * 21600 / 2},
		{12 * time.Hour, Crystal{Temperature: 2}, 2e-6*21600/2 + 2e-6*21600},
		{3 * time.Hour, Crystal{Temperature: 2}, 2e-6 * 21600 / 8},
	} {
		if got := h.Bound(c.d, c.crystal, 0, 0); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%+v after %s: bound %g s, want %g", c.crystal, c.d, got, c.want)
		}
	}
	if got, want := h.Bound(1000*time.Second, Crystal{}, 1e-7, 0), safety*1e-4; math.Abs(got-want) > 1e-12 {
		t.Errorf("bound %g s of an unknown rate, want %g", got, want)
	}
	if got, want := h.Bound(300*time.Second, Crystal{}, 0, 1e-16), safety*3e-5; math.Abs(got-want) > 1e-12 {
		t.Errorf("bound %g s of a random walk, want %g", got, want)
	}
}

// TestLearnedReplacesConfigured after two days, not before; and what was seen
// counts from the start when it is worse.
func TestLearnedReplacesConfigured(t *testing.T) {
	var h History
	for i := range 300 {
		h.Add(Point{Believed: 5, Mean: 5.001})
		b := h.Bound(6*time.Hour, pc, 0, 0)
		if learned := b < pc.bound(6*3600); learned != (i+1 >= whole) {
			t.Fatalf("after %s the bound is %g s", h.Learned(), b)
		}
	}
	var bad History
	for range 100 {
		bad.Add(Point{Believed: 0, Mean: 40})
	}
	if b := bad.Bound(6*time.Hour, pc, 0, 0); b < 40e-6*6*3600 {
		t.Errorf("a clock that goes wrong by 40 ppm has a bound of %g s after 6 h", b)
	}
}

// TestKnownError: every holdover would have gone wrong by 0.1 ppm.
func TestKnownError(t *testing.T) {
	var h History
	for range 200 {
		h.Add(Point{Believed: 3, Mean: 3.1})
	}
	for _, d := range []time.Duration{7 * time.Minute, Slot, 3 * Slot, 20*Slot + 5*time.Minute, 25 * Slot} {
		want := safety * 0.1e-6 * d.Seconds()
		if got := h.Bound(d, Crystal{}, 0, 0); math.Abs(got-want) > 1e-9 {
			t.Errorf("bound %g s after %s, want %g", got, d, want)
		}
	}
	far, want := h.Bound(100*Slot, Crystal{}, 0, 0), safety*0.1e-6*(25*Slot).Seconds()*math.Pow(4, growth)
	if math.Abs(far-want) > 1e-6 {
		t.Errorf("bound %g s beyond what was seen, want %g", far, want)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	var h History
	for i := range 3 * Slots {
		h.Add(Point{Mean: float64(i)})
	}
	if len(h.Points) != Slots || h.Learned() != 96*time.Hour {
		t.Fatalf("%d slots, %s", len(h.Points), h.Learned())
	}
	if h.Points[0].Mean != 2*Slots || h.Points[Slots-1].Mean != 3*Slots-1 {
		t.Fatalf("keeps %v to %v", h.Points[0], h.Points[Slots-1])
	}
}

// TestCoversTheTruth: of oscillators like the one that was learned, the true
// error stays inside the bound.
func TestCoversTheTruth(t *testing.T) {
	out, n := 0, 0
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		phase, f := r.Float64()*96, 0.0
		freq := func(i int) float64 {
			f += r.NormFloat64() * 0.003
			return f + 0.3*math.Sin((float64(i)+phase)*2*math.Pi/96)
		}
		var h History
		last := freq(0)
		for i := range 384 {
			mean := freq(i + 1)
			h.Add(Point{Believed: last, Mean: mean})
			last = mean
		}
		e := 0.0
		for k := range 96 {
			e += (freq(385+k) - last) * 1e-6 * Slot.Seconds()
			n++
			if math.Abs(e) > h.Bound(time.Duration(k+1)*Slot, pc, 1e-9, 1e-18) {
				out++
			}
		}
	}
	if out*1000 > n {
		t.Errorf("%d of %d errors are outside the bound", out, n)
	}
}

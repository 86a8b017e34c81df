package discipline

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"komainu/ntp/wall"
)

var rules = Rules{StepOver: 100 * time.Millisecond, MaxSlew: 500, Panic: 10 * time.Second}

func TestCorrect(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name    string
		offset  time.Duration
		rate    float64
		mayStep bool
		pause   time.Duration
		want    Correction
	}{
		{"right", 0, 0, false, 0, Correction{}},
		{"small", ms, 1e-6, false, 0, Correction{Frequency: 1, Slew: ms}},
		{"the largest in a second", 2 * ms, 0, false, 0, Correction{Slew: 2 * ms}},
		{"a bit more", 2*ms + 1, 0, false, 0, Correction{Slew: 2*ms + 1, Constant: 1}},
		{"at StepOver at start", 100 * ms, 0, true, 0, Correction{Slew: 100 * ms, Constant: 6}},
		{"above StepOver at start", -101 * ms, 0, true, 0, Correction{Step: -101 * ms}},
		{"above StepOver later", -101 * ms, 0, false, 0, Correction{Slew: -101 * ms, Constant: 6}},
		{"more than the kernel takes", 9 * time.Second, 0, false, 0, Correction{Slew: 500 * ms, Constant: 8}},
		{"at Panic", -10 * time.Second, 0, false, 0, Correction{Slew: -500 * ms, Constant: 8}},
		{"above Panic", 10*time.Second + 1, 2e-6, false, 0, Correction{Frequency: 2, Panic: true}},
		{"above Panic at start", time.Hour, 0, true, 0, Correction{Step: time.Hour}},
		{"a fast crystal", 0, -600e-6, false, 0, Correction{Frequency: -500}},
		{"a slow crystal", 0, 1, false, 0, Correction{Frequency: 500}},
		{"looked at seldom", 1, 0, false, 1024 * time.Second, Correction{Slew: 1, Constant: 4}},
		{"looked at hardly ever", 1, 0, false, 36 * time.Hour, Correction{Slew: 1, Constant: maxConstant}},
	} {
		if got := rules.Correct(c.offset, c.rate, c.mayStep, c.pause); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// TestSlewBounded: no slew is faster than MaxSlew in its first second, as long
// as the kernel's slowest one is slow enough, and the constant is the smallest.
func TestSlewBounded(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 5000 {
		rules := Rules{StepOver: time.Second, MaxSlew: 1 + r.Float64()*900, Panic: time.Hour}
		offset := time.Duration(math.Exp(r.Float64()*22)) * time.Duration(1-2*r.IntN(2))
		c := rules.Correct(offset, 0, false, 0)
		if c.Slew.Abs() > maxSlew || c.Constant < 0 || c.Constant > maxConstant {
			t.Fatalf("%+v", c)
		}
		first := func(constant int) float64 { return c.Slew.Abs().Seconds() / math.Exp2(float64(2+constant)) * 1e6 }
		if c.Constant < maxConstant && first(c.Constant) > rules.MaxSlew {
			t.Fatalf("%s is slewed by %g ppm, %g are allowed", offset, first(c.Constant), rules.MaxSlew)
		}
		if c.Constant > 0 && first(c.Constant-1) <= rules.MaxSlew {
			t.Fatalf("%s is slewed with constant %d, a smaller one would do", offset, c.Constant)
		}
	}
}

// bench is a clock that is moved as the kernel moves it.
type bench struct {
	r     wall.Reading
	ahead float64
}

// pass lets d of the oscillator pass, in which the wall clock gains more than
// it by gain seconds.
func (b *bench) pass(d time.Duration, gain float64) wall.Reading {
	b.r.Boot, b.r.Raw = b.r.Boot.Add(d), b.r.Raw+wall.Raw(d)
	b.ahead += gain
	b.r.Wall = wall.Time(b.r.Raw).Add(time.Duration(b.ahead * 1e9))
	return b.r
}

func TestMoved(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(*Clock)
		d    time.Duration
		gain float64 // of the wall clock on the oscillator
		want float64 // 0: nobody moved it
	}{
		{"left alone", func(*Clock) {}, 16 * time.Second, 0, 0},
		{"reading costs time", func(*Clock) {}, time.Millisecond, 1.9e-3, 0},
		{"moved a bit", func(*Clock) {}, time.Millisecond, 2.1e-3, 2.1e-3},
		{"set back", func(*Clock) {}, 16 * time.Second, -3600, -3600},
		{"our frequency", func(c *Clock) { c.SetFrequency(300) }, 1000 * time.Second, 0.3, 0},
		{"our frequency isn't in force", func(c *Clock) { c.SetFrequency(300) }, 1000 * time.Second, 0, -0.3},
		{"foreign frequency", func(*Clock) {}, 1000 * time.Second, 0.023, 0.023},
		{"within the tolerance", func(*Clock) {}, 1000 * time.Second, 0.021, 0},
		{"our slew", func(c *Clock) { c.SetSlew(8*time.Millisecond, 0) }, time.Minute, 8e-3, 0},
		{"our slew, early or late", func(c *Clock) { c.SetSlew(8*time.Millisecond, 0) }, 10 * time.Millisecond, 2e-3, 0},
		{"our slew isn't in force", func(c *Clock) { c.SetSlew(-100*time.Millisecond, 6) }, time.Hour, 0, 0.1},
		{"slow slew", func(c *Clock) { c.SetSlew(500*time.Millisecond, 10) }, 10 * time.Second, 0.5 * 10 / 4096, 0},
		{"our step", func(c *Clock) { c.Stepped(-3 * time.Second) }, time.Second, -3, 0},
		{"our step wasn't made", func(c *Clock) { c.Stepped(-3 * time.Second) }, time.Second, 0, 3},
	} {
		b := &bench{r: wall.Reading{Raw: wall.Raw(time.Hour)}}
		var k Clock
		if got := k.Moved(b.pass(0, 1e9)); got != 0 {
			t.Fatalf("%s: the first reading moved by %s", c.name, got)
		}
		c.make(&k)
		got := k.Moved(b.pass(c.d, c.gain)).Seconds()
		if c.want == 0 && got != 0 || math.Abs(got-c.want) > 1e-6 {
			t.Errorf("%s: moved by %g s, want %g", c.name, got, c.want)
		}
		if got := k.Moved(b.pass(0, 0)); got != 0 {
			t.Errorf("%s: noticed twice, %s", c.name, got)
		}
	}
}

// TestSlewEnds: what the model believes of a slew is what the kernel does,
// looked at however often.
func TestSlewEnds(t *testing.T) {
	for _, every := range []time.Duration{100 * time.Millisecond, time.Second, 16 * time.Second} {
		b := &bench{r: wall.Reading{Raw: wall.Raw(time.Hour)}}
		var k Clock
		k.Moved(b.pass(0, 0))
		k.SetSlew(300*time.Millisecond, 7)
		left, share := 0.3, 1.0/512
		for range int(2*time.Hour/every) / 4 {
			gain := left * (1 - math.Pow(1-share, every.Seconds()))
			left -= gain
			if got := k.Moved(b.pass(every, gain)); got != 0 {
				t.Fatalf("looked at every %s: moved by %s with %g s left", every, got, left)
			}
		}
	}
}

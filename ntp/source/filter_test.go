package source

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"komainu/ntp/wall"
)

// line is a server's clock as it truly is over our oscillator, and a way to it.
type line struct {
	r      *rand.Rand
	raw    time.Duration // our oscillator and wall clock
	truth  float64       // s, the server's clock less raw
	rate   float64       // s/s
	wander float64       // (s/s)² per second
	way    float64       // s, each way, at least
	queue  float64       // s, mean of the exponential queue each way
	stamps float64       // s, noise of time stamps
}

func newLine(seed uint64) *line {
	return &line{r: rand.New(rand.NewPCG(seed, 1)), raw: time.Hour, truth: 0.25, rate: 50e-6, wander: 1e-18, way: 1e-3, queue: 1e-4, stamps: 1e-6}
}

func (l *line) pass(d time.Duration) {
	for range int(d / time.Second) {
		l.truth += l.rate
		l.rate += math.Sqrt(l.wander) * l.r.NormFloat64()
	}
	l.raw += d
}

func (l *line) reply() Reply {
	there := l.way + l.queue*l.r.ExpFloat64()
	back := l.way + l.queue*l.r.ExpFloat64()
	return l.over(there, back)
}

func (l *line) over(there, back float64) Reply {
	s := func(x float64) time.Duration { return time.Duration(math.Round(x * 1e9)) }
	sent := wall.Time(l.raw)
	r := Reply{Stratum: 1, Sent: sent, ServerReceived: sent.Add(s(there + l.truth + l.stamps*l.r.NormFloat64()))}
	r.ServerSent = r.ServerReceived
	r.Received = sent.Add(s(there + back))
	r.At = wall.Reading{Raw: wall.Raw(r.Received), Wall: r.Received}
	return r
}

// error is how far the estimate is off, in seconds.
func (l *line) error(f *Filter) float64 {
	return f.Estimate().TimeAt(wall.Raw(l.raw)).Sub(wall.Time(l.raw)).Seconds() - l.truth
}

var unknown = Prior{Sigma: 1e-4}

// TestConverges to the true line, and says by how much it may be off: over
// seeds, errors divided by their sigma have an rms near 1. The models differ
// in wander by a factor of ten, so the rate's sigma is rather too large.
func TestConverges(t *testing.T) {
	for _, c := range []struct {
		name          string
		every         time.Duration
		n             int
		queue, wander float64
		phase, rate   float64 // rms of the errors, at most
	}{
		{"first replies", 2 * time.Second, 8, 1e-4, 1e-18, 60e-6, 10e-6},
		{"a minute", 2 * time.Second, 30, 1e-4, 1e-18, 20e-6, 2e-6},
		{"LAN", 16 * time.Second, 300, 1e-4, 1e-18, 15e-6, 1e-7},
		{"WAN", 64 * time.Second, 300, 1e-3, 1e-18, 120e-6, 2e-7},
		{"cheap crystal", 16 * time.Second, 300, 1e-4, 1e-15, 40e-6, 2e-6},
		{"oven", 64 * time.Second, 300, 1e-4, 1e-20, 8e-6, 2e-8},
	} {
		var phase, rate, phaseN, rateN float64
		const seeds = 60
		for seed := range uint64(seeds) {
			l := newLine(seed)
			l.queue, l.wander = c.queue, c.wander
			var f Filter
			for range c.n {
				l.pass(c.every)
				f.Add(l.reply(), unknown)
			}
			e := f.Estimate()
			dx, df := l.error(&f), e.Rate-l.rate
			phase, rate = phase+dx*dx/seeds, rate+df*df/seeds
			sigma := e.Sigma(wall.Raw(l.raw))
			phaseN, rateN = phaseN+dx*dx/sigma/sigma/seeds, rateN+df*df/e.RateVar/seeds
		}
		phase, rate, phaseN, rateN = math.Sqrt(phase), math.Sqrt(rate), math.Sqrt(phaseN), math.Sqrt(rateN)
		t.Logf("%-14s phase %.1f µs, rate %.4f ppm; normalised %.2f and %.2f", c.name, phase*1e6, rate*1e6, phaseN, rateN)
		if phase > c.phase || rate > c.rate {
			t.Errorf("%s: rms of the errors is %g s and %g, want %g and %g at most", c.name, phase, rate, c.phase, c.rate)
		}
		if phaseN < 0.6 || phaseN > 2 || rateN < 0.3 || rateN > 2 {
			t.Errorf("%s: errors over sigma have an rms of %.2f and %.2f, want about 1", c.name, phaseN, rateN)
		}
	}
}

// settled is a filter that has heard n replies.
func settled(l *line, n int, every time.Duration) *Filter {
	var f Filter
	for range n {
		l.pass(every)
		f.Add(l.reply(), unknown)
	}
	return &f
}

// TestOutliers: up to three wrong replies in a row change nothing.
func TestOutliers(t *testing.T) {
	l := newLine(1)
	f := settled(l, 100, 16*time.Second)
	for range outliersMax - 1 {
		l.pass(16 * time.Second)
		before := f.Estimate().TimeAt(wall.Raw(l.raw))
		l.truth += 0.05
		if f.Add(l.reply(), unknown) {
			t.Fatal("a reply that is 50 ms off was used")
		}
		l.truth -= 0.05
		if d := f.Estimate().TimeAt(wall.Raw(l.raw)).Sub(before).Abs(); d > 2 {
			t.Fatalf("an outlier moved the estimate by %s", d)
		}
	}
	l.pass(16 * time.Second)
	if !f.Add(l.reply(), unknown) || math.Abs(l.error(f)) > 1e-4 {
		t.Fatalf("after outliers the estimate is %g s off", l.error(f))
	}
}

// TestServerSteps: the fourth reply in a row that contradicts is believed, and
// soon the estimate is as good as before, however far the step went.
func TestServerSteps(t *testing.T) {
	for _, by := range []float64{0.01, -3, 3600, 50 * 365 * 86400, -50 * 365 * 86400} {
		l := newLine(2)
		f := settled(l, 100, 16*time.Second)
		l.truth += by
		for i := range 24 {
			l.pass(16 * time.Second)
			if used := f.Add(l.reply(), unknown); used != (i >= outliersMax-1) {
				t.Fatalf("step by %g s: reply %d used: %v", by, i, used)
			}
			sane(t, f)
		}
		if e := l.error(f); math.Abs(e) > 2e-4 {
			t.Errorf("20 replies after a step by %g s the estimate is %g s off", by, e)
		}
		if e := f.Estimate().Rate - l.rate; math.Abs(e) > 5e-6 {
			t.Errorf("20 replies after a step by %g s the rate is %g off", by, e)
		}
		if n := l.error(f) / f.Estimate().Sigma(wall.Raw(l.raw)); math.Abs(n) > 5 {
			t.Errorf("20 replies after a step by %g s the estimate is %.0f sigma off", by, n)
		}
	}
}

// TestDelaySteps: a longer way on both sides changes no offset; a longer way
// back is wrong by half of it, and the sigma doesn't hide that at first.
func TestDelaySteps(t *testing.T) {
	l := newLine(3)
	f := settled(l, 100, 16*time.Second)
	l.way += 20e-3
	for range 200 {
		l.pass(16 * time.Second)
		f.Add(l.reply(), unknown)
		if e := l.error(f); math.Abs(e) > 3e-4 {
			t.Fatalf("a longer way moved the estimate by %g s", e)
		}
	}
	if d := f.MinDelay(); math.Abs(d-42e-3) > 1e-3 {
		t.Errorf("shortest delay is %g s, want 42 ms: the old one is forgotten", d)
	}
}

// TestCountsByDelay: among slow replies the quick ones decide.
func TestCountsByDelay(t *testing.T) {
	l := newLine(4)
	var f Filter
	for i := range 200 {
		l.pass(16 * time.Second)
		if i%5 == 0 {
			f.Add(l.reply(), unknown)
		} else {
			f.Add(l.over(l.way, l.way+10e-3), unknown) // wrong by 5 ms
		}
	}
	if e := l.error(&f); math.Abs(e) > 1e-3 {
		t.Errorf("slow replies moved the estimate by %g s", e)
	}
}

func TestShift(t *testing.T) {
	for _, n := range []int{1, 5, 100} {
		l := newLine(5)
		f := settled(l, n, 16*time.Second)
		before := f.Estimate()
		f.Shift(-time.Second)
		l.truth--
		after := f.Estimate()
		if after.Time != before.Time.Add(-time.Second) || after.Rate != before.Rate || after.PhaseVar != before.PhaseVar {
			t.Fatalf("Shift made %+v of %+v", after, before)
		}
		l.pass(16 * time.Second)
		if !f.Add(l.reply(), unknown) || math.Abs(l.error(f)) > 1e-3 {
			t.Fatalf("after %d replies and a leap second the next is not as expected, off by %g s", n, l.error(f))
		}
	}
}

// TestLoosen: after a suspend the phase is measured anew at once, and the rate
// is still known.
func TestLoosen(t *testing.T) {
	for _, n := range []int{3, 10, 100} {
		l := newLine(6)
		f := settled(l, n, 16*time.Second)
		was := f.Estimate()
		f.Loosen(1)
		l.truth += 0.7
		l.pass(16 * time.Second)
		if !f.Add(l.reply(), unknown) {
			t.Fatalf("after %d replies and a suspend the next isn't used", n)
		}
		if e := l.error(f); math.Abs(e) > 1e-3 {
			t.Errorf("after %d replies and a suspend the estimate is %g s off", n, e)
		}
		if e := math.Abs(f.Estimate().Rate - was.Rate); e > 5*math.Sqrt(was.RateVar) {
			t.Errorf("after %d replies a suspend moved the rate by %g", n, e)
		}
	}
}

func TestDegenerate(t *testing.T) {
	hour := 3600.0
	for _, c := range []struct {
		name string
		ways [][2]float64 // there, back
	}{
		{"no delay", [][2]float64{{0, 0}}},
		{"negative delay", [][2]float64{{-1, -1}, {0, 0}}},
		{"hours, then quick", [][2]float64{{hour, 3 * hour}, {1e-6, 1e-6}}},
		{"quick, then hours", [][2]float64{{1e-6, 1e-6}, {9 * hour, 0}, {0, 9 * hour}}},
	} {
		for _, every := range []time.Duration{0, time.Second, 17 * time.Minute} {
			l := newLine(7)
			var f Filter
			for i := range 100 {
				l.pass(every)
				w := c.ways[i*len(c.ways)/100]
				f.Add(l.over(w[0], w[1]), unknown)
				sane(t, &f)
				if t.Failed() {
					t.Fatalf("%s every %s, reply %d", c.name, every, i)
				}
			}
		}
	}
}

// sane fails on variances that are none, and on what isn't a number.
func sane(t *testing.T, f *Filter) {
	t.Helper()
	e := f.Estimate()
	for _, x := range []float64{e.Rate, e.PhaseVar, e.Cov, e.RateVar, f.Jitter(), f.Wander(), f.Typical(), f.MinDelay(), f.Ahead(time.Hour), e.Sigma(e.At + wall.Raw(time.Hour))} {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			t.Fatalf("not a number: %+v", e)
		}
	}
	if e.PhaseVar <= 0 || e.RateVar <= 0 || e.Cov*e.Cov > e.PhaseVar*e.RateVar*(1+1e-6) {
		t.Errorf("no covariance: %+v", e)
	}
}

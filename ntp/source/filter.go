package source

import (
	"math"
	"time"

	"komainu/ntp/wall"
)

// Estimate is a clock as a straight line over this box's oscillator, with the
// covariance of its two parameters. The oscillator isn't adjusted by anybody,
// so a correction of our own clock never disturbs an estimate.
type Estimate struct {
	At       wall.Raw
	Time     wall.Time // what the clock shows at At
	Rate     float64   // seconds that it gains on the oscillator per second of the oscillator
	PhaseVar float64   // s²
	Cov      float64   // s²/s
	RateVar  float64   // (s/s)²
}

// TimeAt is what the clock shows when the oscillator shows r.
func (e Estimate) TimeAt(r wall.Raw) wall.Time {
	d := r - e.At
	return e.Time + wall.Time(d) + wall.Time(math.Round(float64(d)*e.Rate))
}

// Sigma is the standard deviation of TimeAt(r) in seconds, without the wander
// of the oscillator since At.
func (e Estimate) Sigma(r wall.Raw) float64 {
	d := seconds(r.Sub(e.At))
	return math.Sqrt(max(0, e.PhaseVar+2*d*e.Cov+d*d*e.RateVar))
}

// The filter's constants.
const (
	window      = 64    // delays that are remembered
	whiteNoise  = 1e-18 // s²/s: phase noise of the oscillator, 1e-9 in a second
	floor       = 1e-6  // s: time stamps of a kernel are no better than that
	outlier     = 5     // standard deviations
	outliersMax = 4     // in a row: the source or the path has changed
	rateChange  = 1e-3  // s/s: no clock that counts changes its rate by more
	memory      = 0.97  // of the models' scores, per sample
	bestFirst   = 1.25  // sqrt(π/2): see noise
	early       = 16    // replies that are weighed anew whenever another comes
)

// wanders are the models of the oscillator's random walk, (s/s)² per second:
// from an oven in a quiet room (1e-10 in a second) to a cheap crystal behind
// a fan (1e-7). They run side by side; the one that predicts best wins.
var wanders = [...]float64{1e-20, 1e-19, 1e-18, 1e-17, 1e-16, 1e-15, 1e-14}

// model is a Kalman filter of phase and rate for one wander.
type model struct {
	x, f          float64 // phase behind the filter's base in seconds, rate
	pxx, pxf, pff float64
	score         float64 // log likelihood of what it predicted, forgetting
}

func (m *model) predict(dt, wander float64) {
	m.x += m.f * dt
	m.pxx += 2*m.pxf*dt + m.pff*dt*dt + wander*dt*dt*dt/3 + whiteNoise*dt
	m.pxf += m.pff*dt + wander*dt*dt/2
	m.pff += wander * dt
}

func (m *model) update(z, noise float64) {
	s := m.pxx + noise
	y := z - m.x
	m.score = memory*m.score - 0.5*(y*y/s+math.Log(s))
	kx, kf := m.pxx/s, m.pxf/s
	m.x += kx * y
	m.f += kf * y
	// As products, since a difference of what is almost equal would leave
	// nothing, or less, when a good reply follows great ignorance.
	pff := m.pff - kf*m.pxf
	m.pxf *= noise / s
	m.pxx *= noise / s
	m.pff = max(pff, m.pxf*m.pxf/m.pxx) // Cauchy-Schwarz
}

// Filter estimates one server's clock from its replies. It makes use of one
// fact: if both ways of a reply queue alike, then of a reply that took e longer
// than the quickest possible one, the offset is wrong by anything within ±e/2
// with equal chance, that is by e/√12 (the sum of two exponential delays given,
// their difference is uniform). So a reply counts by its delay, and the
// quickest ones count most.
type Filter struct {
	at        wall.Raw
	base      wall.Time // the source's time at raw 0; model.x is relative to it
	models    [len(wanders)]model
	delays    [window]float64
	first     [early]measurement
	loosened  bool     // the first replies aren't weighed anew: what they said of the phase is past
	samples   int      // ever
	outliers  int      // in a row
	good      wall.Raw // of the last that was none
	jitterVar float64
}

// Prior is what is known of the rate before the first reply.
type Prior struct{ Rate, Sigma float64 }

// measurement is what a reply says: at that place of the oscillator the
// source's clock was ahead of its counter by that much.
type measurement struct {
	at    wall.Raw
	ahead wall.Time
	delay float64 // s
}

// Add takes a reply; it must not be older than the one before. It says
// whether the reply was used. What the first replies are worth is known only
// when there are some more, so they are weighed anew each time.
func (f *Filter) Add(r Reply, prior Prior) bool {
	at := r.At.At(r.Sent + (r.Received-r.Sent)/2)
	source := r.ServerReceived + (r.ServerSent-r.ServerReceived)/2
	m := measurement{at: at, ahead: source - wall.Time(at), delay: seconds(r.Delay())}
	f.delays[f.samples%window] = m.delay
	f.samples++
	if f.samples > early || f.loosened {
		return f.add(m)
	}
	f.first[f.samples-1] = m
	f.begin(f.first[0], prior)
	used := true
	for _, m := range f.first[1:f.samples] {
		used = f.add(m)
	}
	return used
}

func (f *Filter) begin(m measurement, prior Prior) {
	noise := f.noise(m.delay)
	f.at, f.good, f.base, f.outliers, f.jitterVar = m.at, m.at, m.ahead, 0, noise
	for i := range f.models {
		f.models[i] = model{f: prior.Rate, pxx: noise, pff: prior.Sigma * prior.Sigma}
	}
}

func (f *Filter) add(m measurement) bool {
	f.advance(m.at)
	noise := f.noise(m.delay)
	z := seconds(m.ahead.Sub(f.base))
	y := z - f.mean().x
	if s := f.mean().pxx + noise; y*y > outlier*outlier*s {
		if f.outliers++; f.outliers < outliersMax {
			return false
		}
		rate := min(math.Abs(y)/max(seconds(m.at.Sub(f.good)), 1), rateChange)
		for i := range f.models { // it moved, or its rate changed since then: believe neither
			f.models[i].pxx += y * y
			f.models[i].pff += rate * rate
		}
	}
	f.outliers, f.good = 0, m.at
	f.jitterVar += (y*y - f.jitterVar) / 8
	for i := range f.models {
		f.models[i].update(z, noise)
	}
	return true
}

// Delay is the round trip of r without the server's own time (RFC 5905 section 8).
func (r Reply) Delay() time.Duration {
	return max(r.Received.Sub(r.Sent)-r.ServerSent.Sub(r.ServerReceived), 0)
}

// Offset is how far r says that the source is ahead of our clock (RFC 5905
// section 8).
func (r Reply) Offset() time.Duration {
	return r.ServerReceived.Sub(r.Sent)/2 + r.ServerSent.Sub(r.Received)/2
}

func (f *Filter) advance(at wall.Raw) {
	if dt := seconds(at.Sub(f.at)); dt > 0 {
		for i := range f.models {
			f.models[i].predict(dt, wanders[i])
		}
		f.at = at
	}
}

// noise is the variance of the offset of a reply that took delay. The quickest
// possible reply is quicker than the quickest of n by about √(π/2)·m/√n, with
// m the mean queueing delay of one way (the smallest of n sums of two
// exponentials), and that is added to what is seen. Of a few replies m can't
// be told yet: then the whole delay may be queueing.
func (f *Filter) noise(delay float64) float64 {
	n := float64(f.kept())
	quickest := f.MinDelay()
	unseen := max(bestFirst*f.queueing()/math.Sqrt(n), quickest/(n*n))
	e := min(delay-quickest+unseen, delay)
	return e*e/12 + floor*floor
}

func (f *Filter) kept() int { return min(f.samples, window) }

// MinDelay is the shortest remembered delay in seconds.
func (f *Filter) MinDelay() float64 {
	d := math.Inf(1)
	for _, x := range f.delays[:f.kept()] {
		d = min(d, x)
	}
	return d
}

// queueing is the mean queueing delay of one way in seconds.
func (f *Filter) queueing() float64 {
	sum, n := 0.0, f.kept()
	for _, x := range f.delays[:n] {
		sum += x
	}
	return (sum/float64(n) - f.MinDelay()) / 2
}

// weights are the models' likelihoods, sum 1.
func (f *Filter) weights() (w [len(wanders)]float64) {
	best, sum := math.Inf(-1), 0.0
	for _, m := range f.models {
		best = max(best, m.score)
	}
	for i, m := range f.models {
		w[i] = math.Exp(m.score - best)
		sum += w[i]
	}
	for i := range w {
		w[i] /= sum
	}
	return w
}

// mean is the models' mixture.
func (f *Filter) mean() model {
	var out model
	w := f.weights()
	for i, m := range f.models {
		out.x += w[i] * m.x
		out.f += w[i] * m.f
	}
	for i, m := range f.models {
		dx, df := m.x-out.x, m.f-out.f
		out.pxx += w[i] * (m.pxx + dx*dx)
		out.pxf += w[i] * (m.pxf + dx*df)
		out.pff += w[i] * (m.pff + df*df)
	}
	return out
}

// Estimate is the source's clock at the time of the last reply.
func (f *Filter) Estimate() Estimate {
	m := f.mean()
	return Estimate{
		At: f.at, Time: f.base + wall.Time(f.at) + wall.Time(math.Round(m.x*1e9)), Rate: m.f,
		PhaseVar: m.pxx, Cov: m.pxf, RateVar: m.pff,
	}
}

// Wander is the random walk of the rate that fits best, (s/s)² per second.
func (f *Filter) Wander() float64 {
	var log float64
	for i, w := range f.weights() {
		log += w * math.Log(wanders[i])
	}
	return math.Exp(log)
}

// Samples is how many replies came since the last Reset.
func (f *Filter) Samples() int { return f.samples }

// Jitter is the standard deviation of recent replies around the estimate, s.
func (f *Filter) Jitter() float64 { return math.Sqrt(f.jitterVar) }

// Typical is the standard deviation in seconds that a good reply's offset has.
func (f *Filter) Typical() float64 {
	e := bestFirst * f.queueing()
	return math.Sqrt(e*e/12 + floor*floor)
}

// Ahead is the standard deviation of the phase in seconds when the next reply
// comes after d without another.
func (f *Filter) Ahead(d time.Duration) float64 {
	m := f.mean()
	m.predict(seconds(d), f.Wander())
	return math.Sqrt(m.pxx)
}

// Shift moves the estimate by whole seconds, for a leap second.
func (f *Filter) Shift(d time.Duration) {
	f.base = f.base.Add(d)
	for i := range f.first {
		f.first[i].ahead = f.first[i].ahead.Add(d)
	}
}

// Loosen forgets the phase but not the rate: time passed that the oscillator
// didn't count.
func (f *Filter) Loosen(sigma float64) {
	f.loosened = f.samples > 0
	for i := range f.models {
		f.models[i].pxx += sigma * sigma
	}
}

func seconds(d time.Duration) float64 { return float64(d) / 1e9 }

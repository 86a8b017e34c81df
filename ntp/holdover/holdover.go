// Package holdover tells how wrong the clock may be that nobody corrects. It
// replays the past: it remembers how the oscillator's frequency went, and asks
// what the error would have been, had the sources been lost at any of those
// moments. Until it has seen enough it believes what is configured about the
// crystal. Start reading at History.Bound.
package holdover

import (
	"math"
	"time"
)

// Slot is the time between two remembered frequencies.
const Slot = 15 * time.Minute

// Slots is how many are remembered: four days, since a shorter history doesn't
// see temperature go up and down often enough.
const Slots = 4 * 24 * 4

// The bound's constants.
const (
	safety      = 5   // standard deviations
	independent = 8   // moments apart that an estimate needs
	growth      = 1.5 // of the error with time beyond that: a random walk of frequency
	whole       = 192 // slots after which the configured crystal doesn't count: two days
	day         = 86400.0
)

// Crystal is what is believed of the oscillator before anything was learned.
type Crystal struct {
	Ageing      float64 // 1e-6 per day, at most
	Temperature float64 // 1e-6, largest change over a day's temperatures
}

// Point is the oscillator in one slot: the frequency that was believed at its
// start, and the one that it then had on the average, both 1e-6.
type Point struct {
	Believed float64 `json:"believed_ppm"`
	Mean     float64 `json:"mean_ppm"`
}

// History is what was learned, oldest first.
type History struct {
	Points []Point
	memo   []float64 // largest rms error in seconds within 1, 2, 3... slots
}

// Add remembers a slot.
func (h *History) Add(p Point) {
	h.Points = append(h.Points, p)
	if n := len(h.Points); n > Slots {
		h.Points = append(h.Points[:0], h.Points[n-Slots:]...)
	}
	h.memo = nil
}

// Learned is how much time the history covers.
func (h *History) Learned() time.Duration { return time.Duration(len(h.Points)) * Slot }

// rms is the root mean square of the errors in seconds that holdovers of n
// slots would have had.
func (h *History) rms(n int) float64 {
	var sum float64
	for i := 0; i+n <= len(h.Points); i++ {
		var e float64
		for _, p := range h.Points[i : i+n] {
			e += p.Mean - h.Points[i].Believed
		}
		e *= 1e-6 * Slot.Seconds()
		sum += e * e
	}
	return math.Sqrt(sum / float64(len(h.Points)-n+1))
}

// Bound is how far the clock may have gone wrong after d without correction,
// in seconds, besides the error that it had at the beginning. rateSigma is the
// standard deviation of the frequency at the beginning (s/s), wander the
// oscillator's random walk as seen in the last hour, (s/s)² per second.
func (h *History) Bound(d time.Duration, c Crystal, rateSigma, wander float64) float64 {
	t := d.Seconds()
	b := safety * math.Hypot(rateSigma*t, math.Sqrt(wander*t*t*t/3))
	b = max(b, safety*h.learned(t))
	if len(h.Points) < whole {
		b = max(b, c.bound(t))
	}
	return b
}

// learned is the standard deviation after t seconds by the history.
func (h *History) learned(t float64) float64 {
	most := len(h.Points) / independent
	if most == 0 {
		return 0
	}
	if h.memo == nil {
		worst := 0.0
		for n := 1; n <= most; n++ {
			worst = max(worst, h.rms(n)) // what went wrong and came back counts: a bound never falls
			h.memo = append(h.memo, worst)
		}
	}
	at := t / Slot.Seconds()
	if n := int(at); n < most {
		before := 0.0
		if n > 0 {
			before = h.memo[n-1]
		}
		return before + (h.memo[n]-before)*(at-float64(n))
	}
	return h.memo[most-1] * math.Pow(at/float64(most), growth)
}

// bound is the largest error after t seconds of a crystal like c: in the first
// quarter of a day the temperature goes from one end to the other, and stays.
func (c Crystal) bound(t float64) float64 {
	quarter := day / 4
	e := c.Temperature * 1e-6 * min(t, quarter) * min(t, quarter) / quarter / 2
	if t > quarter {
		e += c.Temperature * 1e-6 * (t - quarter)
	}
	return e + c.Ageing*1e-6*t*t/day/2
}

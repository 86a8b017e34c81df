package discipline

import (
	"math"
	"time"

	"komainu/ntp/wall"
)

// Clock is what we believe of the kernel's clock: where our own corrections
// must have brought it. It runs ahead of the oscillator's counter by Ahead,
// which grows by the frequency correction and by the slew under way.
type Clock struct {
	last      wall.Reading
	frequency float64 // s/s
	slew      float64 // s, still to be removed
	share     float64 // of slew, per second
	slack     float64 // s, by which the last correction may be off
	known     bool
}

// Ahead is the wall clock less the oscillator's counter.
func Ahead(r wall.Reading) time.Duration { return time.Duration(int64(r.Wall) - int64(r.Raw)) }

// Tolerances of Moved: what reading the clocks costs, the coarseness of the
// model, and a slew's place within its second.
const (
	readTolerance = 2e-3 // s
	rateTolerance = 20e-6
)

// Moved takes the clocks' reading and tells how far the wall clock went
// otherwise than we made it go; 0 within the tolerance. From then on its
// present place is what we believe.
func (c *Clock) Moved(r wall.Reading) time.Duration {
	defer func() { c.last, c.slack, c.known = r, 0, true }()
	if !c.known {
		return 0
	}
	dt := float64(r.Raw.Sub(c.last.Raw)) / 1e9
	removed := c.slew * (1 - math.Pow(1-c.share, dt))
	step := c.slew * c.share // one second's share may come early or late
	c.slew -= removed
	expect := c.frequency*dt + removed
	moved := float64(Ahead(r)-Ahead(c.last))/1e9 - expect
	if math.Abs(moved) <= readTolerance+rateTolerance*dt+math.Abs(step)+c.slack {
		return 0
	}
	return time.Duration(moved * 1e9)
}

// SetFrequency notes a frequency correction, 1e-6.
func (c *Clock) SetFrequency(ppm float64) { c.frequency = ppm / 1e6 }

// SetSlew notes a slew in place of the one under way.
func (c *Clock) SetSlew(offset time.Duration, constant int) {
	c.slew, c.share = float64(offset)/1e9, 1/float64(int(4)<<constant)
}

// Stepped notes a step by us.
func (c *Clock) Stepped(by time.Duration) {
	c.last.Wall = c.last.Wall.Add(by)
	c.slew = 0
}

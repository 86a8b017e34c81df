// Package discipline decides how the kernel's clock is corrected: by frequency
// and by slewing, by a step only at start or by order, and not at all when an
// offset can't be believed. It also knows how the clock moves under its own
// corrections, and so notices when somebody else moves it. Start reading at
// Correct.
package discipline

import "time"

// MaxFrequency is the largest frequency correction of the kernel, 1e-6
// (adjtimex(2)).
const MaxFrequency = 500

// maxSlew is the largest offset that the kernel takes at once (MAXPHASE).
const maxSlew = 500 * time.Millisecond

// maxConstant is the kernel's (MAXTC).
const (
	maxConstant = 10
	slowest     = 4 << maxConstant // the part of a slew that its first second removes at least
)

// Rules bound the corrections.
type Rules struct {
	StepOver time.Duration // a larger offset is stepped as long as stepping is allowed
	MaxSlew  float64       // 1e-6: slewing makes the clock that much faster or slower at most
	Panic    time.Duration // a larger offset of the running clock is left alone
}

// Correction is what to do about an offset.
type Correction struct {
	Frequency float64       // 1e-6, absolute
	Step      time.Duration // instead of slewing; 0: none
	Slew      time.Duration
	Constant  int // of the slew, see timer.Slew
	Panic     bool
}

// Correct decides what to do about a clock that is offset behind the truth
// and whose oscillator must be corrected by rate (s/s). mayStep says that the
// clock hasn't been right yet, or that an operator wants it. pause is how long
// the next measurement will take: a clock that is looked at seldom is slewed
// gently.
func (r Rules) Correct(offset time.Duration, rate float64, mayStep bool, pause time.Duration) Correction {
	c := Correction{Frequency: min(max(rate*1e6, -MaxFrequency), MaxFrequency)}
	switch {
	case mayStep && offset.Abs() > r.StepOver:
		c.Step = offset
	case !mayStep && offset.Abs() > r.Panic:
		return Correction{Frequency: c.Frequency, Panic: true}
	default:
		most := min(maxSlew, time.Duration(r.MaxSlew*1e3*slowest))
		c.Slew = min(max(offset, -most), most)
		c.Constant = r.constant(c.Slew, pause)
	}
	return c
}

// constant is the smallest that keeps the first and fastest second within
// MaxSlew, and that doesn't remove most of the offset in less than a sixteenth
// of pause. In every second 2^-(2+constant) of the rest is removed.
func (r Rules) constant(slew, pause time.Duration) int {
	for c := range maxConstant {
		share := 1 / float64(int(4)<<c)
		if slew.Abs().Seconds()*share <= r.MaxSlew*1e-6 && pause.Seconds()/16*share <= 1 {
			return c
		}
	}
	return maxConstant
}

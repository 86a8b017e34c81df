// Package instant holds the one type that every core shares: a point on the
// box's own boot clock. It has no Now: whoever decides is told the time.
package instant

import "time"

// Instant is nanoseconds of CLOCK_BOOTTIME. It never steps, counts through
// suspend, and means nothing on another box or after a reboot. The zero value
// stands for "never" where a field says so.
type Instant int64

// Add returns the instant d later (or earlier, for a negative d).
func (t Instant) Add(d time.Duration) Instant { return t + Instant(d) }

// Sub returns the time from u to t.
func (t Instant) Sub(u Instant) time.Duration { return time.Duration(t - u) }

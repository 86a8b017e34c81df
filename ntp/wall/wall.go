// Package wall holds the types of wall-clock time that the time cores share. It
// has no Now: whoever decides is told the time.
package wall

import (
	"time"

	"komainu/ntp/instant"
)

// Time is nanoseconds since 1970-01-01 00:00 UTC, leap seconds not counted, as
// CLOCK_REALTIME gives it. It can step; never measure a timeout with it.
type Time int64

// Add returns the time d later (or earlier, for a negative d).
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns the time from u to t.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Raw is nanoseconds of CLOCK_MONOTONIC_RAW: the oscillator as the kernel
// counts it, untouched by any adjustment of frequency or phase. It doesn't
// count in suspend.
type Raw int64

// Sub returns the raw time from u to t.
func (t Raw) Sub(u Raw) time.Duration { return time.Duration(t - u) }

// Reading is the box's clocks at one moment.
type Reading struct {
	Boot instant.Instant // CLOCK_BOOTTIME
	Raw  Raw             // CLOCK_MONOTONIC_RAW
	Wall Time            // CLOCK_REALTIME
}

// At is what the oscillator counter showed when the wall clock, which hasn't
// stepped since, showed t. The error is |Wall − t| times the clock's frequency
// adjustment: below 0.5 µs for a millisecond at 500 ppm.
func (r Reading) At(t Time) Raw { return r.Raw - Raw(r.Wall-t) }

// FirstOfMonth says whether t is in the first day of a month, UTC.
func (t Time) FirstOfMonth() bool { return time.Unix(0, int64(t)).UTC().Day() == 1 }

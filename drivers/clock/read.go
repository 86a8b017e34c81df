package clock

import (
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"komainu/ntp/instant"
	"komainu/ntp/wall"
)

// readings is how often Read tries: enough for one try without an interrupt.
const readings = 4

// Read is the box's clocks at one moment: Boot and Wall were read within
// ReadError of the moment that Raw tells.
func Read() wall.Reading {
	r, _ := read()
	return r
}

// ReadError is how far apart the clocks of one Read can lie now: 0.5 µs was
// measured on a processor, 2 to 4 µs on an emulated one.
func ReadError() time.Duration {
	_, width := read()
	return width / 2
}

// read puts the boot and wall clocks between two readings of the raw clock and
// keeps the tightest of several tries, with the time between the two.
func read() (tightest wall.Reading, width time.Duration) {
	width = math.MaxInt64
	for range readings {
		before := get(unix.CLOCK_MONOTONIC_RAW, "CLOCK_MONOTONIC_RAW")
		boot := get(unix.CLOCK_BOOTTIME, "CLOCK_BOOTTIME")
		now := get(unix.CLOCK_REALTIME, "CLOCK_REALTIME")
		between := time.Duration(get(unix.CLOCK_MONOTONIC_RAW, "CLOCK_MONOTONIC_RAW") - before)
		if between < width {
			width = between
			tightest = wall.Reading{
				Boot: instant.Instant(boot),
				Raw:  wall.Raw(before + int64(between/2)),
				Wall: wall.Time(now),
			}
		}
	}
	return tightest, width
}

// Precision is the time that it takes to read the wall clock, or its
// resolution if that is longer, as log2 of seconds (RFC 5905 section 7.3).
func Precision() int8 {
	least := time.Second
	for range 64 {
		a := get(unix.CLOCK_REALTIME, "CLOCK_REALTIME")
		b := get(unix.CLOCK_REALTIME, "CLOCK_REALTIME")
		for b == a { // coarser than a reading takes
			b = get(unix.CLOCK_REALTIME, "CLOCK_REALTIME")
		}
		if d := time.Duration(b - a); d > 0 { // not across a step back
			least = min(least, d)
		}
	}
	return int8(math.Ceil(math.Log2(least.Seconds())))
}

// get reads a clock, in nanoseconds. The kernel has no way to refuse it.
func get(id int32, name string) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		panic(fmt.Sprintf("read %s: %v", name, err)) // since Linux 2.6.39 on every machine
	}
	return ts.Nano()
}

package main

import (
	"math"
	"time"
)

const day = 86400

// kernel is the simulated kernel's clocks as a function of true time. It does
// what Linux does in kernel/time/ntp.c with ADJ_NANO and STA_FREQHOLD: at every
// wall second second_overflow takes 2^-(2+constant) of the offset that is left
// and spreads it over the second that begins. A frequency is in force at once,
// a slew from the next wall second on.
type kernel struct {
	crystal *oscillator
	origin  int64 // Unix seconds of UTC at the start, a whole number
	now     int64 // true time since the start, ns

	raw  float64 // CLOCK_MONOTONIC_RAW less true time, ns
	boot float64 // CLOCK_BOOTTIME less true time, ns
	wall float64 // CLOCK_REALTIME less origin less true time, ns: leap seconds count

	frequency float64 // correction, fraction
	left      float64 // of the slew, ns
	constant  int
	chunk     float64 // of the slew in this wall second, ns, and so 1e-9 of frequency
	last      int64   // the last wall second that has begun
	leap      int     // armed: insert (1) or delete (-1) a second at the end of the day
	suspended bool
}

// rate is the frequency error of the wall clock against true time, a fraction;
// a slew counts.
func (k *kernel) rate() float64 {
	y, c := k.crystal.ppm*1e-6, k.frequency+k.chunk*1e-9
	return y + c + y*c
}

// steady is the same without a slew.
func (k *kernel) steady() float64 {
	y := k.crystal.ppm * 1e-6
	return y + k.frequency + y*k.frequency
}

// wallSecond is the Unix second that the wall clock shows.
func (k *kernel) wallSecond() int64 {
	return k.origin + k.now/second + int64(math.Floor((float64(k.now%second)+k.wall)/1e9))
}

// advance lets the clocks run until to, ns of true time after the start.
func (k *kernel) advance(to int64) {
	for k.now < to {
		if k.suspended {
			k.raw -= float64(to - k.now)
			k.boot -= float64(to - k.now)
			k.wall -= float64(to - k.now)
			k.now = to
			for k.crystal.end() <= k.now {
				k.crystal.next()
			}
			return
		}
		if k.crystal.end() <= k.now {
			k.crystal.next()
			continue
		}
		end := min(to, k.crystal.end())
		rate, ticking := k.rate(), k.ticking()
		if ticking {
			into := math.Mod(float64(k.now%second)+k.wall, 1e9)
			if into < 0 {
				into += 1e9
			}
			end = min(end, k.now+max(1, int64(math.Ceil((1e9-into)/(1+rate)))))
		}
		dt := float64(end - k.now)
		k.raw += dt * k.crystal.ppm * 1e-6
		k.boot += dt * rate
		k.wall += dt * rate
		k.now = end
		if ticking {
			k.overflow()
		}
	}
}

// ticking says whether the wall seconds matter.
func (k *kernel) ticking() bool { return k.left != 0 || k.chunk != 0 || k.leap != 0 }

// overflow does what the kernel does when a wall second begins.
func (k *kernel) overflow() {
	s := k.wallSecond()
	if s <= k.last {
		return
	}
	k.last = s
	switch {
	case k.leap > 0 && s%day == 0:
		k.wall -= 1e9
		k.last, k.leap = s-1, 0
	case k.leap < 0 && s%day == day-1:
		k.wall += 1e9
		k.last, k.leap = s+1, 0
	}
	k.chunk = math.Ldexp(k.left, -(2 + k.constant))
	if math.Abs(k.left) < 0.5 { // below the kernel's own resolution
		k.chunk = k.left
	}
	k.left -= k.chunk
}

// setFrequency is ADJ_FREQUENCY; the kernel refuses nothing but clamps.
func (k *kernel) setFrequency(ppm float64) { k.frequency = min(max(ppm, -500), 500) * 1e-6 }

// slew is ADJ_OFFSET with ADJ_TIMECONST; what is left of the one before is dropped,
// its part of the present second is not.
func (k *kernel) slew(by time.Duration, constant int) {
	if !k.ticking() {
		k.last = k.wallSecond()
	}
	k.left, k.constant = min(max(float64(by), -0.5e9), 0.5e9), min(max(constant, 0), 10)
}

// step sets the wall clock, as ADJ_SETOFFSET and settimeofday do: the slew ends.
func (k *kernel) step(by time.Duration) {
	k.wall += float64(by)
	k.left, k.chunk = 0, 0
	k.last = k.wallSecond()
}

// arm is STA_INS and STA_DEL.
func (k *kernel) arm(leap int) {
	if !k.ticking() {
		k.last = k.wallSecond()
	}
	k.leap = leap
}

// resume ends a suspension of length slept. The kernel adds what its
// hardware clock says, which is wrong by off.
func (k *kernel) resume(slept int64, off time.Duration) {
	k.suspended = false
	k.boot += float64(slept) + float64(off)
	k.wall += float64(slept) + float64(off)
	k.last = k.wallSecond()
}

package clock

import (
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of the kernel's clock discipline (kernel/time/ntp.c).
const (
	MaxFrequency = 500.0                  // 1e-6, MAXFREQ
	MaxSlew      = 500 * time.Millisecond // MAXPHASE
	MaxConstant  = 10                     // MAXTC
	MaxBound     = 16 * time.Second       // NTP_PHASE_LIMIT: beyond it the kernel calls itself unsynchronised
)

// nominalTick is the length of a tick of USER_HZ in microseconds.
const nominalTick = 10000

// Phase is where the kernel stands with a leap second (adjtimex(2), the result).
type Phase int

// Phases of a leap second.
const (
	PhaseOK      = Phase(unix.TIME_OK)    // none announced
	PhaseInsert  = Phase(unix.TIME_INS)   // the UTC day will end with 23:59:60
	PhaseDelete  = Phase(unix.TIME_DEL)   // the UTC day will end with 23:59:58
	PhaseLeap    = Phase(unix.TIME_OOP)   // 23:59:60 is now: the clock shows 23:59:59 a second time
	PhaseDone    = Phase(unix.TIME_WAIT)  // it is over, and SetLeap(0) has not been called yet
	PhaseUnknown = Phase(unix.TIME_ERROR) // not told while the clock is not synchronised
)

// State is what the kernel applies to its wall clock now.
type State struct {
	Frequency float64       // correction, 1e-6, positive makes the clock faster
	Remaining time.Duration // of the last Slew
	Synced    bool          // STA_UNSYNC is not set
	Bound     time.Duration // maxerror; grows by 500 µs per second
	Leap      int           // announced for the end of this UTC day: +1 inserted, -1 deleted, 0 none
	Phase     Phase
	TAI       int   // TAI − UTC in seconds; 0: nobody has told the kernel
	Tick      int64 // µs per 10 ms
	Status    int32 // all STA_ bits
}

// now asks the kernel; it needs no privilege.
func now() (unix.Timex, Phase, error) {
	var tx unix.Timex
	phase, err := unix.ClockAdjtime(unix.CLOCK_REALTIME, &tx)
	if err != nil {
		return tx, 0, fmt.Errorf("read the kernel's clock discipline: clock_adjtime(CLOCK_REALTIME): %w", err)
	}
	return tx, Phase(phase), nil
}

// adjust hands one change to the kernel; what completes "cannot ...".
func adjust(what string, tx unix.Timex) error {
	_, err := unix.ClockAdjtime(unix.CLOCK_REALTIME, &tx)
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("cannot %s: clock_adjtime(CLOCK_REALTIME): %w: the process needs CAP_SYS_TIME", what, err)
	case err != nil:
		return fmt.Errorf("cannot %s: clock_adjtime(CLOCK_REALTIME): %w", what, err)
	}
	return nil
}

// ReadState asks the kernel for its State.
func ReadState() (State, error) {
	tx, phase, err := now()
	if err != nil {
		return State{}, err
	}
	s := State{
		Frequency: float64(tx.Freq) / 65536,
		Remaining: time.Duration(tx.Offset),
		Synced:    tx.Status&unix.STA_UNSYNC == 0,
		Bound:     time.Duration(tx.Maxerror) * time.Microsecond,
		Phase:     phase,
		TAI:       int(tx.Tai),
		Tick:      tx.Tick,
		Status:    tx.Status,
	}
	if tx.Status&unix.STA_NANO == 0 {
		s.Remaining *= 1000
	}
	switch {
	case tx.Status&unix.STA_INS != 0:
		s.Leap = 1
	case tx.Status&unix.STA_DEL != 0:
		s.Leap = -1
	}
	return s, nil
}

// Take takes the kernel's clock over from whoever had it. The clock goes on as
// fast as it went, with the tick at its nominal length and the whole correction
// in the frequency (chronyd divides it between the two; a sum beyond
// MaxFrequency is cut to it). What is left of a slew, of an adjtime(3) and of a
// leap second's announcement is dropped. It returns the State from then on.
func Take() (State, error) {
	old, err := ReadState()
	if err != nil {
		return State{}, err
	}
	ppm := old.Frequency + float64(old.Tick-nominalTick)*1e6/nominalTick
	ppm = min(max(ppm, -MaxFrequency), MaxFrequency)
	// An adjtime(3) of nothing ends the one before.
	if err := adjust("end an adjtime in progress", unix.Timex{Modes: unix.ADJ_OFFSET_SINGLESHOT}); err != nil {
		return State{}, err
	}
	if err := adjust(fmt.Sprintf("set the tick to %d µs and the frequency to %+.3f ppm", nominalTick, ppm), unix.Timex{
		Modes: unix.ADJ_TICK | unix.ADJ_FREQUENCY, Tick: nominalTick, Freq: scaled(ppm),
	}); err != nil {
		return State{}, err
	}
	if err := Slew(0, 0); err != nil {
		return State{}, err
	}
	if err := SetLeap(0); err != nil {
		return State{}, err
	}
	return ReadState()
}

// scaled is ppm in the kernel's unit, 2^-16 of it.
func scaled(ppm float64) int64 { return int64(math.Round(ppm * 65536)) }

// SetFrequency sets the frequency correction, absolute, 1e-6, positive makes the
// clock faster; an error beyond ±MaxFrequency. The tick is left as it is.
func SetFrequency(ppm float64) error {
	if !(math.Abs(ppm) <= MaxFrequency) { // also refuses NaN
		return fmt.Errorf("cannot set the frequency to %+.3f ppm: the kernel corrects at most %v", ppm, MaxFrequency)
	}
	return adjust(fmt.Sprintf("set the frequency to %+.3f ppm", ppm), unix.Timex{
		Modes: unix.ADJ_FREQUENCY, Freq: scaled(ppm),
	})
}

// Slew gives the kernel's phase-locked loop an offset to remove, in place of
// what is left of the one before: at every full second of the wall clock it
// spreads 2^-(2+constant) of what is left over the second that begins. The
// frequency stays as it is (STA_FREQHOLD). What is left is told exactly; an idle
// kernel begins a second only when something wakes it, so that what it has moved
// may be some percent off. Positive: the clock must go forward.
// An error beyond ±MaxSlew and outside of 0..MaxConstant.
func Slew(offset time.Duration, constant int) error {
	if offset.Abs() > MaxSlew || constant < 0 || constant > MaxConstant {
		return fmt.Errorf("cannot slew by %v with constant %d: the kernel takes ±%v and 0..%d", offset, constant, MaxSlew, MaxConstant)
	}
	tx, _, err := now()
	if err != nil {
		return err
	}
	return adjust(fmt.Sprintf("slew the clock by %v", offset), unix.Timex{
		Modes:    unix.ADJ_OFFSET | unix.ADJ_STATUS | unix.ADJ_TIMECONST | unix.ADJ_NANO,
		Status:   tx.Status&^(unix.STA_FLL|unix.STA_PPSFREQ|unix.STA_PPSTIME) | unix.STA_PLL | unix.STA_FREQHOLD,
		Offset:   int64(offset),
		Constant: int64(constant),
	})
}

// Step sets the clock forward, or back for a negative by, relative to what it
// shows at that moment, and drops what is left of a Slew. The kernel then counts
// as unsynchronised until the next SetSync; an announced leap second stays
// announced.
func Step(by time.Duration) error {
	tx, phase, err := now()
	if err != nil {
		return err
	}
	sec, nsec := int64(by/time.Second), int64(by%time.Second)
	if nsec < 0 { // the kernel wants the fraction positive
		sec, nsec = sec-1, nsec+int64(time.Second)
	}
	if err := adjust(fmt.Sprintf("step the clock by %v", by), unix.Timex{
		Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO, Time: unix.Timeval{Sec: sec, Usec: nsec},
	}); err != nil {
		return err
	}
	if leap := tx.Status & (unix.STA_INS | unix.STA_DEL); leap != 0 {
		return announce(phase, leap)
	}
	return nil
}

// SetSync tells the kernel whether its clock counts as synchronised, and how
// wrong it may be (rounded up to 1 µs, cut to MaxBound). While it does, the
// kernel sets the hardware clock every 11 minutes. Needed again before the bound,
// which grows by 500 µs per second, reaches MaxBound: after at most 8 hours.
func SetSync(synced bool, bound time.Duration) error {
	tx, _, err := now()
	if err != nil {
		return err
	}
	status := tx.Status | unix.STA_UNSYNC
	if synced {
		status &^= unix.STA_UNSYNC
	}
	micros := int64((min(max(bound, 0), MaxBound) + time.Microsecond - 1) / time.Microsecond)
	return adjust(fmt.Sprintf("mark the clock as synchronised (%v, bound %v)", synced, bound), unix.Timex{
		Modes:  unix.ADJ_STATUS | unix.ADJ_MAXERROR | unix.ADJ_ESTERROR,
		Status: status, Maxerror: micros, Esterror: micros,
	})
}

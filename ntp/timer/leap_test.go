package timer_test

import (
	"testing"
	"time"

	"komainu/ntp/timer"
)

// TestHardwareClockOnALeapDay: the box starts with a clock that says the
// morning before a leap second. The first correction goes past it, and that is
// none.
func TestHardwareClockOnALeapDay(t *testing.T) {
	w := newWorld(t)
	w.brief = true
	w.serve(a1, 0)
	leapDay := time.Date(2016, 12, 31, 23, 0, 0, 0, time.UTC)
	b := w.box("box", spec(a1), time.Unix(0, int64(noon)).Sub(leapDay)*-1, 2)
	b.start(timer.Drift{})
	w.run(time.Hour)
	w.golden("leap-day-at-start")
	if b.error().Abs() > time.Millisecond {
		t.Errorf("the clock is %s off", b.error())
	}
}

// TestSetAcrossALeap: who sets the clock past midnight makes no leap second.
func TestSetAcrossALeap(t *testing.T) {
	w, b := eve(t, 6*time.Hour)
	w.announce(1)
	w.run(2 * time.Hour)
	b.set(5 * time.Hour)
	w.run(time.Minute)
	b.order("1")
	w.midnight(time.Second, true)
	w.golden("leap-set-across")
	if b.error().Abs() > time.Millisecond {
		t.Errorf("the clock is %s off", b.error())
	}
}

// TestLeapNoLongerOfMost: two of three announced it, one of them by mistake.
func TestLeapNoLongerOfMost(t *testing.T) {
	w := newWorld(t)
	w.brief, w.begin = true, newYear.Add(-6*time.Hour)
	for _, a := range []string{a1, a2, a3} {
		w.serve(a, 0)
	}
	b := w.box("box", spec(a1, a2, a3), 0, 3)
	b.start(timer.Drift{})
	w.run(20 * time.Minute)
	w.servers[a1].is.Leap, w.servers[a2].is.Leap = 1, 1
	w.say("%s and %s announce a leap second", a1, a2)
	w.run(time.Hour)
	w.servers[a2].is.Leap = 0
	w.say("%s does no longer", a2)
	w.midnight(0, true)
	w.golden("leap-no-longer-of-most")
	if b.error().Abs() > time.Millisecond {
		t.Errorf("the clock is %s off", b.error())
	}
}

// TestSuspendAcrossALeap: the sources have gone past it, and the hardware
// clock has not.
func TestSuspendAcrossALeap(t *testing.T) {
	w, b := eve(t, 2*time.Hour)
	w.announce(1)
	w.run(time.Hour)
	b.say("-- the box sleeps over midnight")
	for _, h := range w.servers {
		h.is.Leap = 0
	}
	w.begin = w.begin.Add(-time.Second)
	b.suspend(3*time.Hour, time.Second)
	w.run(time.Hour)
	w.golden("leap-suspend")
	if b.error().Abs() > time.Millisecond {
		t.Errorf("the clock is %s off", b.error())
	}
}

// TestSuspendWhileSlewing: the kernel goes on with it, and that is nobody's
// hand.
func TestSuspendWhileSlewing(t *testing.T) {
	w := newWorld(t)
	w.brief = true
	w.serve(a1, 0)
	b := w.box("box", spec(a1), 90*time.Millisecond, 2)
	b.start(timer.Drift{})
	w.run(time.Minute)
	w.servers[a1].silent = "ntp-timeout"
	b.suspend(time.Hour, 0)
	w.run(10 * time.Minute)
	w.servers[a1].silent = ""
	w.run(20 * time.Minute)
	w.golden("suspend-while-slewing")
}

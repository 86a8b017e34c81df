package timer_test

import (
	"testing"
	"time"

	"komainu/ntp/leap"
	"komainu/ntp/timer"
	"komainu/ntp/wall"
)

// leapList says that a second is inserted or deleted at the end of 2026.
func leapList(by int) leap.Table {
	t := leap.Builtin()
	last := t.Entries[len(t.Entries)-1].Offset
	t.Entries = append(t.Entries, leap.Entry{At: newYear, Offset: last + by})
	t.Updated, t.Expires = noon, newYear.Add(4000*time.Hour)
	return t
}

// newYear is 2027-01-01.
const newYear = wall.Time(1_798_761_600_000_000_000)

// eve is a world that follows two servers since some time before newYear.
func eve(t *testing.T, before time.Duration) (*world, *box) {
	w := newWorld(t)
	w.brief, w.begin = true, newYear.Add(-before)
	w.serve(a1, 0)
	w.serve(a2, 0)
	b := w.box("box", spec(a1, a2), 0, 3)
	b.start(timer.Drift{})
	w.run(20 * time.Minute)
	return w, b
}

// announce has the servers tell of a leap second, and midnight does it: true
// time goes on by begin, which makes UTC a second less or more.
func (w *world) announce(bits uint8) {
	for _, h := range w.servers {
		h.is.Leap = bits
	}
	w.say("the servers announce leap %d", bits)
}

// midnight lets the leap second happen: the kernels take it if they are told.
func (w *world) midnight(by time.Duration, kernel bool) {
	w.run(newYear.Sub(w.begin) - w.at)
	w.begin = w.begin.Add(-by)
	for _, b := range w.boxes {
		if !kernel {
			b.off += by.Seconds()
		}
	}
	for _, h := range w.servers {
		h.is.Leap = 0
	}
	w.say("midnight")
	w.run(2 * time.Hour)
}

func TestLeapInsert(t *testing.T) {
	w, _ := eve(t, 6*time.Hour)
	w.announce(1)
	w.midnight(time.Second, true)
	w.golden("leap-insert")
}

func TestLeapDelete(t *testing.T) {
	w, _ := eve(t, 6*time.Hour)
	w.announce(2)
	w.midnight(-time.Second, true)
	w.golden("leap-delete")
}

func TestLeapWithoutTheKernel(t *testing.T) {
	w, _ := eve(t, 6*time.Hour)
	w.announce(1)
	w.midnight(time.Second, false)
	w.golden("leap-no-kernel")
}

func TestLeapWithdrawn(t *testing.T) {
	w, _ := eve(t, 6*time.Hour)
	w.announce(1)
	w.run(time.Hour)
	w.announce(0)
	w.midnight(0, true)
	w.golden("leap-withdrawn")
}

func TestLeapInHoldover(t *testing.T) {
	w, _ := eve(t, 6*time.Hour)
	w.announce(1)
	w.run(2 * time.Hour)
	w.servers[a1].silent, w.servers[a2].silent = "ntp-timeout", "ntp-timeout"
	w.say("both servers are lost")
	w.midnight(time.Second, true)
	w.golden("leap-in-holdover")
}

// TestLeapList: what the list says stands above what the servers say.
func TestLeapList(t *testing.T) {
	w, b := eve(t, 6*time.Hour)
	b.step(timer.LeapTable{Table: leapList(1)})
	w.run(time.Minute)
	w.announce(2)
	w.midnight(time.Second, true)
	w.golden("leap-list")
}

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

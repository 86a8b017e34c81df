package timer

import (
	"math"
	"time"

	"komainu/ntp/wall"
)

// leaping is a leap second that is coming.
type leaping struct {
	at      wall.Time // midnight UTC after it; 0: none is coming
	seconds int       // +1: the last minute has 61, -1: 59
}

const day = wall.Time(24 * time.Hour)

// bits are the leap indicator (RFC 5905 figure 9).
func (l leaping) bits() uint8 {
	switch {
	case l.at == 0 || l.seconds == 0:
		return 0
	case l.seconds > 0:
		return 1
	}
	return 2
}

// nearLeap says that a reply could have one stamp before the leap second and
// another after it.
func (t *Timer) nearLeap() bool {
	at := max(t.leaping.at, t.leaped)
	return at != 0 && at.Sub(t.now.Wall).Abs() < leapQuiet
}

// leap looks out for leap seconds and carries on after one. moved is how far
// the clock went otherwise than we made it; a leap second is no foreign hand.
func (t *Timer) leap(last wall.Reading, moved time.Duration) bool {
	l := &t.leaping
	if l.at == 0 {
		t.expectLeap()
		return false
	}
	by := -time.Duration(l.seconds) * time.Second
	over := l.at.Add(time.Second)
	kernel := (moved-by).Abs() < 100*time.Millisecond && last.Wall <= over && t.now.Wall >= l.at.Add(-time.Second)
	if !kernel {
		set := last.Wall >= over || moved != 0 && t.now.Wall >= over || l.at.Sub(t.now.Wall) > time.Duration(day)
		seconds, told := t.announced(l.at)
		switch {
		case set, t.now.Wall < l.at && told && seconds != l.seconds:
			t.disarm() // the clock was set past it or far back, or nobody says so any more
			return false
		case t.now.Wall < over:
			return false
		}
	}
	for _, p := range t.peers {
		p.Filter.Shift(by)
	}
	t.truth.Time = t.truth.Time.Add(by)
	t.slot = slot{}
	t.void()
	t.leaped, *l = l.at, leaping{}
	t.note("note-time-leap", by.String())
	if !t.spec.NoClock {
		t.do(SetLeap{})
		if !kernel && t.truth.known {
			t.stepClock(by)
		}
	}
	return true
}

// tellTAI tells the kernel TAI − UTC when both the clock and the list are known
// to be right. Near a leap second it would be told of the same second twice.
func (t *Timer) tellTAI() {
	if t.spec.NoClock || t.mode != Synchronised && t.mode != Holding || t.nearLeap() || t.table.Expired(t.now.Wall) {
		return
	}
	if tai := t.table.At(t.now.Wall); tai != 0 && tai != t.tai {
		t.tai = tai
		t.do(SetTAI{Seconds: tai})
	}
}

// expectLeap arms a leap second on its day.
func (t *Timer) expectLeap() {
	midnight := t.now.Wall - t.now.Wall%day + day
	n, _ := t.announced(midnight)
	if n == 0 || midnight == t.leaped {
		return
	}
	t.leaping = leaping{at: midnight, seconds: n}
	t.publishedAt = 0
	if !t.spec.NoClock {
		t.do(SetLeap{Seconds: n})
	}
}

// announced is the leap second right before midnight: what the table has, and
// when that is too old, what most of the sources that count announce on the
// last day of a month. Nobody tells of it without both.
func (t *Timer) announced(midnight wall.Time) (seconds int, told bool) {
	if at, seconds, ok := t.table.Next(t.now.Wall); ok && at == midnight {
		return seconds, true
	}
	switch {
	case !t.table.Expired(midnight):
		return 0, true
	case t.mode != Synchronised:
		return 0, false
	case !midnight.FirstOfMonth():
		return 0, true
	}
	return int(math.Round(t.truth.leaps * 0.999)), true // more than half of them
}

// disarm drops a leap second that won't be.
func (t *Timer) disarm() {
	t.leaping = leaping{}
	t.publishedAt = 0
	if !t.spec.NoClock {
		t.do(SetLeap{})
	}
}

package ntpio

import (
	"testing"
	"time"

	"komainu/ntp/wall"
)

// A lead comes near to what replies take, whatever the first sample was, and
// follows it when that changes; single late replies hardly matter.
func TestLeadFollows(t *testing.T) {
	for _, first := range []time.Duration{time.Microsecond, 4 * time.Microsecond, 40 * time.Microsecond} {
		var l lead
		at := wall.Time(0)
		reply := func(number uint32, took time.Duration) {
			at = at.Add(sampling)
			if !l.due(at, 48) {
				t.Fatal("no sample is due")
			}
			if l.due(at.Add(sampling/2), 48) {
				t.Fatal("another sample is due")
			}
			l.sent(number)
			l.departed(number+1, at) // another's
			l.departed(number, at.Add(took))
		}
		reply(0, first)
		for i := range uint32(200) {
			took := 3*time.Microsecond + time.Duration(i%4)*100*time.Nanosecond
			if i%10 == 0 {
				took = 30 * time.Microsecond
			}
			reply(i, took)
		}
		if got := l.of(48, 0, 1); got < 2900*time.Nanosecond || got > 3300*time.Nanosecond {
			t.Errorf("first sample %v: %v", first, got)
		}
		before := l.of(48, 0, 1)
		reply(7, time.Second) // the clock was set
		if got := l.of(48, 0, 1); got != before {
			t.Errorf("%v after %v", got, before)
		}
		if l.of(300, 0, 1) != 0 {
			t.Error("large requests take after small ones")
		}
	}
}

// In a batch the first reply waits for the others to be made, the last for the
// others to be sent.
func TestLeadInABatch(t *testing.T) {
	var l lead
	for range 100 {
		l.batch(10, 0, 10_000, 40_000) // 1 µs to make each, 3 to send
	}
	for i, want := range map[int]time.Duration{0: 9 * time.Microsecond, 9: 27 * time.Microsecond} {
		if got := l.of(48, i, 10); got < want-want/10 || got > want {
			t.Errorf("reply %d: %v, want %v", i, got, want)
		}
	}
}

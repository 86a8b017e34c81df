package wall

import (
	"testing"
	"time"
)

func TestTime(t *testing.T) {
	at := Time(1_798_761_600_000_000_000) // 2027-01-01
	if !at.FirstOfMonth() || at.Add(-1).FirstOfMonth() || !at.Add(24*time.Hour-1).FirstOfMonth() || at.Add(24*time.Hour).FirstOfMonth() {
		t.Error("the first of January 2027 is not one day")
	}
	if !Time(0).FirstOfMonth() || Time(-1).FirstOfMonth() {
		t.Error("1970-01-01 isn't the first of a month, or the day before is")
	}
	if d := at.Add(-time.Hour).Sub(at); d != -time.Hour {
		t.Errorf("an hour before is %s", d)
	}
}

// TestAt: a stamp before the reading was taken that much earlier on the
// oscillator too.
func TestAt(t *testing.T) {
	r := Reading{Raw: 5000, Wall: 1_000_000}
	for at, want := range map[Time]Raw{1_000_000: 5000, 999_000: 4000, 1_000_100: 5100} {
		if got := r.At(at); got != want {
			t.Errorf("At(%d) is %d, want %d", at, got, want)
		}
	}
}

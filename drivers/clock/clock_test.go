package clock

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNowGoesOn(t *testing.T) {
	if a, b := Now(), Now(); a <= 0 || b < a {
		t.Errorf("%d, then %d", a, b)
	}
}

func TestTimer(t *testing.T) {
	timer, err := NewTimer()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := timer.Close(); err != nil {
			t.Error(err)
		}
		if err := timer.Reset(Now()); err == nil {
			t.Error("a closed timer was set")
		}
	}()
	at := Now().Add(20 * time.Millisecond)
	if err := timer.Reset(at); err != nil {
		t.Fatal(err)
	}
	<-timer.C()
	if now := Now(); now < at {
		t.Errorf("%v early", at.Sub(now))
	}
	if err := timer.Reset(Now().Add(-time.Hour)); err != nil { // passed: at once
		t.Fatal(err)
	}
	<-timer.C()
	if err := timer.Reset(Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if err := timer.Reset(0); err != nil { // never
		t.Fatal(err)
	}
	select {
	case <-timer.C():
		t.Error("a timer that was taken back ticked")
	case <-time.After(50 * time.Millisecond):
	}
}

package clock

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"

	"komainu/ntp/wall"
)

// The end of 2026 with a leap second, and then with one too few. The clock is
// set after the leap was announced: the kernel must not lose it.
func TestHostLeap(t *testing.T) {
	guest(t)
	midnight := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		leap, tai int
		phases    []Phase
	}{
		{1, 38, []Phase{PhaseInsert, PhaseLeap, PhaseDone}},
		{-1, 36, []Phase{PhaseDelete, PhaseDone}},
	} {
		must(t, unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{Sec: midnight.Unix() - 4}))
		must(t, SetTAI(37))
		must(t, SetSync(true, time.Millisecond))
		must(t, SetLeap(c.leap))
		for state(t).Phase != c.phases[0] { // armed at the next second
			wait(t, 10*time.Millisecond)
		}
		must(t, Step(time.Second/2))
		must(t, SetSync(true, time.Millisecond))
		if s := state(t); s.Leap != c.leap || s.TAI != 37 {
			t.Errorf("announced %d: %+v", c.leap, s)
		}
		w, err := NewWatch()
		must(t, err)
		a := Read()
		var phases []Phase
		for len(phases) == 0 || phases[len(phases)-1] != PhaseDone {
			if p := state(t).Phase; p != PhaseOK && (len(phases) == 0 || phases[len(phases)-1] != p) {
				phases = append(phases, p)
				t.Logf("leap %+d: phase %d at %v", c.leap, p, time.Unix(0, int64(Read().Wall)).UTC())
			}
			if Read().Wall > wall.Time(midnight.Add(3*time.Second).UnixNano()) {
				t.Fatalf("no leap of %d: phases %v", c.leap, phases)
			}
			wait(t, 10*time.Millisecond)
		}
		if diff := cmp.Diff(c.phases, phases); diff != "" {
			t.Error(diff)
		}
		b := Read()
		if by := gain(a, b) + time.Duration(c.leap)*time.Second; by.Abs() > 5*time.Millisecond {
			t.Errorf("leap %+d: the clock moved by %v", c.leap, gain(a, b))
		}
		if s := state(t); s.TAI != c.tai {
			t.Errorf("leap %+d: TAI − UTC is %d", c.leap, s.TAI)
		}
		<-w.C()
		must(t, w.Close())
		must(t, SetLeap(0))
		for state(t).Phase != PhaseOK {
			wait(t, 10*time.Millisecond)
		}
	}
}

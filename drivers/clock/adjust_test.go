package clock

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/ntp/wall"
)

// These tests turn the kernel's clock: they run in vmtest's guest only, and
// leave it as right as it was.

// guest skips outside of the guest, takes the clock over, and gives it back.
func guest(t *testing.T) {
	t.Helper()
	if name, _ := Virtual("/"); os.Getenv("KOMAINU_VM") != "1" || name != "QEMU" {
		t.Skip("turns the kernel's clock: run it with go run ./tools/vmtest")
	}
	start := Read()
	if _, err := Take(); err != nil {
		t.Fatal(err)
	}
	must(t, SetFrequency(0))
	t.Cleanup(func() {
		now := Read()
		must(t, SetLeap(0))
		must(t, Step(now.Raw.Sub(start.Raw)-now.Wall.Sub(start.Wall)))
		must(t, SetFrequency(0))
		must(t, SetTAI(0))
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func state(t *testing.T) State {
	t.Helper()
	s, err := ReadState()
	must(t, err)
	return s
}

// wait is until d has passed on the boot clock.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	timer, err := NewTimer()
	must(t, err)
	defer timer.Close()
	must(t, timer.Reset(Now().Add(d)))
	<-timer.C()
}

// gain is by how much the wall clock went forward against the oscillator.
func gain(a, b wall.Reading) time.Duration { return b.Wall.Sub(a.Wall) - b.Raw.Sub(a.Raw) }

func TestHostFrequency(t *testing.T) {
	guest(t)
	for _, ppm := range []float64{500, 0, -250.5} {
		must(t, SetFrequency(ppm))
		wait(t, 20*time.Millisecond) // in force from the next tick on
		a := Read()
		wait(t, time.Second)
		b := Read()
		got := float64(gain(a, b)) / float64(b.Raw.Sub(a.Raw)) * 1e6
		t.Logf("set %+.3f ppm, raw against wall %+.3f ppm, readings ±%v", ppm, got, ReadError())
		if math.Abs(got-ppm) > 40 { // a reading may be 30 µs wide in emulation
			t.Errorf("set %+.3f ppm, raw against wall %+.3f ppm", ppm, got)
		}
		if s := state(t); math.Abs(s.Frequency-ppm) > 1e-4 {
			t.Errorf("set %v ppm, the kernel says %v", ppm, s.Frequency)
		}
	}
}

// At every full second a quarter of the rest is spread over the next. A machine
// that stands still for a while begins a second late, which moves all that
// follows: one undisturbed run of several proves it.
func TestHostSlew(t *testing.T) {
	guest(t)
	const runs = 5
	for range runs {
		wrong := slewing(t)
		if len(wrong) == 0 {
			return
		}
		t.Log(strings.Join(wrong, "; "))
	}
	t.Errorf("none of %d slews went as it should", runs)
}

// slewing says where one slew differs from the model.
func slewing(t *testing.T) (wrong []string) {
	t.Helper()
	const offset = -20 * time.Millisecond
	must(t, SetFrequency(50))
	must(t, Slew(400*time.Millisecond, 0)) // replaced below
	middle := func() {
		now := time.Duration(Read().Wall % wall.Time(time.Second))
		// An idle kernel begins a second when it wakes: keep it awake.
		for until := Now().Add((1500*time.Millisecond - now) % time.Second); Now() < until; {
			wait(t, 2*time.Millisecond)
		}
	}
	middle()
	must(t, Slew(offset, 0))
	const pll = unix.STA_FREQHOLD | unix.STA_PLL
	if s := state(t); s.Remaining != offset || s.Status&pll != pll {
		wrong = append(wrong, fmt.Sprintf("%+v", s))
	}
	// The second that is running still carries its share of the first slew: from
	// the next on all of it is the second one's.
	middle()
	start, share := Read(), float64(offset)/4
	left := float64(offset) - share
	moved := -share * fraction(start) // since start, at the beginning of the second that is running
	for range 3 {
		middle()
		moved += share
		share = left / 4
		left -= share
		now, s := Read(), state(t)
		by := gain(start, now) - time.Duration(float64(now.Raw.Sub(start.Raw))*50e-6)
		model := moved + share*fraction(now)
		t.Logf("left %v, model %v; moved %v, model %v", s.Remaining, time.Duration(left), by, time.Duration(model))
		if math.Abs(float64(s.Remaining)-left) > 1000 {
			wrong = append(wrong, fmt.Sprintf("%v is left, the model says %v", s.Remaining, time.Duration(left)))
		}
		// A second begins up to a tick late for the kernel: 4 ms of 5 ms/s.
		if math.Abs(float64(by)-model) > float64(100*time.Microsecond) {
			wrong = append(wrong, fmt.Sprintf("the clock moved by %v, the model says %v", by, time.Duration(model)))
		}
		if math.Abs(s.Frequency-50) > 1e-4 {
			t.Errorf("the slew changed the frequency to %v ppm", s.Frequency)
		}
	}
	return wrong
}

// fraction is how much of the wall clock's second has passed.
func fraction(r wall.Reading) float64 { return float64(r.Wall%wall.Time(time.Second)) / 1e9 }

func TestHostStep(t *testing.T) {
	guest(t)
	w, err := NewWatch()
	must(t, err)
	defer w.Close()
	must(t, SetSync(true, time.Millisecond))
	for _, by := range []time.Duration{1500 * time.Millisecond, -750 * time.Millisecond, -3 * time.Second, 1} {
		must(t, Slew(100*time.Millisecond, 2))
		a := Read()
		must(t, Step(by))
		b := Read()
		if off := gain(a, b) - by; off.Abs() > time.Millisecond {
			t.Errorf("a step of %v moved the clock by %v", by, gain(a, b))
		}
		if s := state(t); s.Remaining != 0 || s.Synced {
			t.Errorf("after the step: %+v", s)
		}
		<-w.C()
	}
	// A person's date -s.
	must(t, unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{Sec: int64(Read().Wall)/1e9 + 60}))
	<-w.C()
}

func TestHostSync(t *testing.T) {
	guest(t)
	must(t, SetSync(true, 1234*time.Microsecond+1))
	if s := state(t); !s.Synced || s.Bound < 1235*time.Microsecond || s.Bound > 3*time.Millisecond || s.Phase != PhaseOK {
		t.Errorf("%+v", s)
	}
	must(t, Slew(time.Millisecond, 4)) // leaves it alone
	if s := state(t); !s.Synced {
		t.Errorf("%+v", s)
	}
	must(t, SetSync(false, time.Hour))
	if s := state(t); s.Synced || s.Bound != MaxBound || s.Phase != PhaseUnknown {
		t.Errorf("%+v", s)
	}
}

// chronyd leaves a clock that is 70 ppm faster like this.
func TestHostTake(t *testing.T) {
	guest(t)
	must(t, adjust("leave a tick", unix.Timex{Modes: unix.ADJ_TICK | unix.ADJ_FREQUENCY, Tick: 10001, Freq: scaled(-30)}))
	must(t, Slew(time.Millisecond, 4))
	must(t, SetLeap(1))
	s, err := Take()
	must(t, err)
	if s.Tick != 10000 || math.Abs(s.Frequency-70) > 1e-4 || s.Remaining != 0 || s.Leap != 0 {
		t.Errorf("%+v", s)
	}
}

func TestHostNotPermitted(t *testing.T) {
	guest(t)
	// The thread ends with its goroutine, and with it what it lacks.
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		var none [2]unix.CapUserData
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		if err := unix.Capset(&header, &none[0]); err != nil {
			failed <- err
			return
		}
		failed <- SetFrequency(1)
	}()
	if err := <-failed; !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_SYS_TIME") {
		t.Error(err)
	}
}

func TestHostRTC(t *testing.T) {
	guest(t)
	first, err := ReadRTC(RTCDevice)
	must(t, err)
	defer func() { must(t, SetRTC(RTCDevice, first)) }()
	want := wall.Time(time.Date(2031, 2, 3, 4, 5, 6, 7e8, time.UTC).UnixNano())
	must(t, SetRTC(RTCDevice, want))
	got, err := ReadRTC(RTCDevice)
	must(t, err)
	if off := got.Sub(want); off < -time.Second || off > 10*time.Second {
		t.Errorf("the hardware clock is %v away from what it was set to", off)
	}
}

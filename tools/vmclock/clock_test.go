package vmclock

import (
	"errors"
	"math"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/clock"
	"komainu/drivers/netns/netnstest"
	"komainu/ntp/wall"
)

// Bounds that leave room for emulation, whose processors stand still for
// milliseconds; what is measured is logged.
const (
	right   = 10 * time.Millisecond  // the clock's largest error
	atOnce  = 300 * time.Millisecond // from a foreign step to its end
	settled = 10.0                   // ppm, of the frequency after half a minute
	slack   = 2 * time.Millisecond   // what a client's own way may hide
)

// off is how much faster than the oscillator true time runs.
const off = 40.0

// scenario is one box through a day of bad luck.
type scenario struct {
	town  netnstest.Town
	truth truth
	seen  *record
	asked *client
	state string
	ntp   string
	d     *daemon
	whole *testing.T // which the daemon lives as long as
}

// The clock starts 10 s wrong and 40 ppm too slow, and one of three servers
// lies. Then somebody sets the clock, twice; then the daemon dies.
func TestHostClock(t *testing.T) {
	s := &scenario{whole: t, town: newTown(t), state: t.TempDir()}
	s.truth = truth{began: clock.Read(), ahead: 10300 * time.Millisecond, ppm: off}
	s.seen, s.asked = watch(t, s.truth), ask(t, s.town, s.truth)
	s.ntp = follow(serve(t, s.town, s.truth, 0), serve(t, s.town, s.truth, 0), serve(t, s.town, s.truth, 250*time.Millisecond))
	for _, part := range []struct {
		name string
		run  func(*scenario, *testing.T)
	}{
		{"cold start", (*scenario).coldStart}, {"kernel's state", (*scenario).kernelState}, {"hardware clock", (*scenario).hardwareClock},
		{"set by hand", (*scenario).setByHand}, {"killed in a slew", (*scenario).killed},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.run(s, t) }) {
			break
		}
	}
}

func now() wall.Raw { return clock.Read().Raw }

// One step, then the frequency, then nothing but small corrections; what clients
// were told was true all the time.
func (s *scenario) coldStart(t *testing.T) {
	began := now()
	s.d = start(s.whole, s.town, s.state, s.ntp)
	s.d.in(t, "synchronised", 40*time.Second)
	until(t, "the kernel counts as synchronised", 5*time.Second, kernelSynced(t))
	synced := now()
	until(t, "the frequency is found", 60*time.Second, func() bool {
		st := s.d.status()
		return math.Abs(st.FrequencyPPM-off) < settled && st.FrequencyErrPPM < settled
	})
	found := now()
	after(t, 7*time.Second)
	end := now()
	st := s.d.status()
	firstWorst, _ := s.seen.worst(synced, found)
	worst, rms := s.seen.worst(found, end)
	t.Logf("synchronised after %v, frequency found after %v: %+.2f ±%.2f ppm; largest error until then %v, from then on %v, rms %v",
		synced.Sub(began), found.Sub(began), st.FrequencyPPM, st.FrequencyErrPPM, firstWorst, worst, rms)
	if worst > right || firstWorst > 2*right {
		t.Errorf("the clock was wrong by %v, and by %v before the frequency was known", worst, firstWorst)
	}
	if j := s.seen.jumps(began, end); len(j) != 1 || (j[0].by-s.truth.ahead).Abs() > 2*right {
		t.Errorf("steps: %+v, want one of %v", j, s.truth.ahead)
	}
	if !alarmed(st, "time-falseticker") {
		t.Errorf("nobody is told of the server that lies: %+v", st.Alarms)
	}
	if n, of, _ := s.asked.lies(began, end, slack); n > 0 || of < 100 {
		t.Errorf("clients were told %d of %d times that a wrong time is right; the daemon counts %v, %v", n, of, st.Server.Requests, st.Server.Drops)
	}
}

func kernelSynced(t *testing.T) func() bool {
	return func() bool {
		k, err := clock.ReadState()
		must(t, err)
		return k.Synced
	}
}

// The kernel applies what the daemon says.
func (s *scenario) kernelState(t *testing.T) {
	st := s.d.status()
	k, err := clock.ReadState()
	must(t, err)
	t.Logf("kernel: %+.3f ppm, bound %v; daemon: %+.3f ppm, bound %.6f s", k.Frequency, k.Bound, st.FrequencyPPM, st.BoundS)
	if math.Abs(k.Frequency-st.FrequencyPPM) > 0.01 || !k.Synced || k.Leap != 0 || k.Tick != 10000 {
		t.Errorf("kernel %+v, daemon %+.3f ppm", k, st.FrequencyPPM)
	}
	// The kernel's bound was told up to 16 s ago, and grows by 500 ppm.
	if k.Bound <= 0 || math.Abs(k.Bound.Seconds()-st.BoundS) > 0.012 {
		t.Errorf("kernel: bound %v, daemon: %.6f s", k.Bound, st.BoundS)
	}
}

// The daemon sets the hardware clock when it steps, the kernel every 11 minutes.
func (s *scenario) hardwareClock(t *testing.T) {
	until(t, "the hardware clock is right", 5*time.Second, func() bool { return s.rtcOff(t) <= 2*time.Second })
	t.Logf("the hardware clock is within %v", s.rtcOff(t))
}

func (s *scenario) rtcOff(t *testing.T) time.Duration {
	t.Helper()
	rtc, err := clock.ReadRTC(clock.RTCDevice)
	if errors.Is(err, clock.ErrNoRTC) {
		t.Skip(err)
	}
	must(t, err)
	return rtc.Sub(s.truth.at(now())).Abs()
}

// Who sets the clock once is taken for a mistake, which is undone at once; who
// sets it again means it: then clients are told, and an order sets it right.
func (s *scenario) setByHand(t *testing.T) {
	at := handSet(t, -5*time.Second)
	until(t, "an alarm", time.Minute, func() bool { return alarmed(s.d.status(), "time-clock-set") })
	until(t, "the kernel counts as synchronised again", 5*time.Second, kernelSynced(t))
	t.Logf("alarm and synchronised again %v after the clock was set", now().Sub(at))
	after(t, time.Second)
	end := now()
	wrong := s.seen.wrong(at, end, time.Second)
	n, of, last := s.asked.lies(at, end, slack)
	t.Logf("set by -5 s: the clock was wrong for %v; clients were told so %d of %d times, the last after %v", wrong, n, of, last)
	if wrong > atOnce || last > atOnce {
		t.Errorf("the clock was wrong for %v, clients for %v", wrong, last)
	}
	if j := s.seen.jumps(at, end); len(j) > 2 || s.truth.error(clock.Read()).Abs() > right {
		t.Errorf("steps: %+v, error %v", j, s.truth.error(clock.Read()))
	}

	at = handSet(t, -5*time.Second)
	after(t, 4*time.Second)
	end = now()
	n, of, last = s.asked.lies(at, end, slack)
	all := s.asked.between(end-wall.Raw(time.Second), end)
	st := s.d.status()
	k, err := clock.ReadState()
	must(t, err)
	if st.State != "panic" || !alarmed(st, "time-unsynchronised") {
		t.Errorf("people are told %s, alarms %+v", st.State, st.Alarms)
	}
	t.Logf("set again: %s, stratum %d, %d of %d lies, the last after %v; kernel synchronised %v", st.State, st.Stratum, n, of, last, k.Synced)
	if off := s.truth.error(clock.Read()); off > -4*time.Second {
		t.Errorf("the clock is off by %v: set back although somebody means it", off)
	}
	if last > atOnce || k.Synced || len(all) == 0 {
		t.Errorf("clients were told a wrong time for %v, kernel synchronised %v", last, k.Synced)
	}
	for _, a := range all {
		if a.usable() {
			t.Errorf("clients are told a time that is wrong by %v as stratum %d, distance %v", a.off, a.header.Stratum, a.distance())
			break
		}
	}
	if r := s.d.step(t); !r.OK {
		t.Errorf("the order to set it right: %+v", r)
	}
	s.d.in(t, "synchronised", time.Minute)
	after(t, time.Second)
	if off := s.truth.error(clock.Read()); off.Abs() > right {
		t.Errorf("after the order the clock is off by %v", off)
	}
}

// An orderly stop keeps the frequency. What a killed daemon left under way ends
// by itself, and the next one goes on from the drift file without a step.
func (s *scenario) killed(t *testing.T) {
	s.d.end(unix.SIGTERM)
	k, err := clock.ReadState()
	must(t, err)
	kept := k.Frequency
	must(t, clock.SetFrequency(0)) // as after a reboot
	must(t, clock.Step(30*time.Millisecond))
	s.ntp += "step-over = \"1s\"\nmax-slew = 100000\n"
	s.d = start(s.whole, s.town, s.state, s.ntp)
	until(t, "the frequency of the drift file", 20*time.Second, func() bool {
		k, err := clock.ReadState()
		must(t, err)
		return math.Abs(k.Frequency-kept) < 0.01
	})
	until(t, "a slew", 40*time.Second, func() bool {
		k, err := clock.ReadState()
		must(t, err)
		return k.Remaining < -10*time.Millisecond && k.Remaining > -28*time.Millisecond
	})
	s.d.end(unix.SIGKILL)
	at := clock.Read()
	k, err = clock.ReadState()
	must(t, err)
	left := k.Remaining
	until(t, "the kernel ends the slew", 40*time.Second, func() bool {
		k, err := clock.ReadState()
		must(t, err)
		return k.Remaining.Abs() < time.Millisecond
	})
	off := s.truth.error(clock.Read())
	t.Logf("killed with %v to slew at an error of %v; the kernel ended it at %v, %v later", left, s.truth.error(at), off, now().Sub(at.Raw))
	if off.Abs() > 2*right {
		t.Errorf("the slew ended %v from the truth", off)
	}
	again := now()
	s.d = start(s.whole, s.town, s.state, s.ntp)
	st := s.d.in(t, "synchronised", 40*time.Second)
	after(t, 2*time.Second)
	worst, _ := s.seen.worst(again, now())
	t.Logf("restarted: %+.3f ppm (%+.3f ppm before), largest error %v", st.FrequencyPPM, kept, worst)
	if j := s.seen.jumps(at.Raw, now()); len(j) != 0 {
		t.Errorf("steps after the kill: %+v", j)
	}
	if worst > 2*right || math.Abs(st.FrequencyPPM-kept) > settled {
		t.Errorf("after the restart: %+.3f ppm, largest error %v", st.FrequencyPPM, worst)
	}
}

package pmtu_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"komainu/netstack/pmtu"
	"komainu/ntp/instant"
)

// line is a path in simulated time: packets above mtu vanish, others with a
// probability, in each direction.
type line struct {
	mtu  int
	rtt  time.Duration
	loss float64
	rng  *rand.Rand
	now  instant.Instant
	way  []echo
	log  *strings.Builder // nil: nobody reads
}

type echo struct {
	at instant.Instant
	pmtu.Probe
}

func newLine(mtu int, rtt time.Duration, loss float64) *line {
	return &line{mtu: mtu, rtt: rtt, loss: loss, rng: rand.New(rand.NewPCG(uint64(mtu), uint64(rtt)+uint64(1000*loss))), now: 1}
}

func (l *line) say(format string, args ...any) {
	if l.log != nil {
		fmt.Fprintf(l.log, "%9.3f  "+format+"\n", append([]any{time.Duration(l.now).Seconds()}, args...)...)
	}
}

// run plays until done says so, at most for limit, and returns the probes sent.
func (l *line) run(s *pmtu.Search, limit time.Duration, done func() bool) int {
	probes := 0
	for end := l.now.Add(limit); l.now < end && !done(); {
		for _, p := range s.Step(l.now) {
			probes++
			l.say("probe %d", p.Size)
			if p.Size <= l.mtu && l.rng.Float64() >= l.loss && l.rng.Float64() >= l.loss {
				l.way = append(l.way, echo{l.now.Add(l.rtt), p})
			}
		}
		next, ok := s.Next()
		if !ok || done() {
			break
		}
		if len(l.way) > 0 && l.way[0].at <= max(next, l.now) {
			l.now = max(l.now, l.way[0].at)
			l.say("echo  %d", l.way[0].Size)
			s.Echoed(l.now, l.way[0].ID, l.way[0].Size, l.rtt)
			l.way = l.way[1:]
			continue
		}
		l.now = min(max(next, l.now+1), end)
	}
	return probes
}

func forever() bool { return false }

// TestEveryValue: every value behind a silent black hole is found exactly, in at
// most 20 probes and 4 s; with losses only seldom not at once, and then soon.
func TestEveryValue(t *testing.T) {
	for _, loss := range []float64{0, 0.02, 0.10} {
		for _, rtt := range []time.Duration{time.Millisecond, 50 * time.Millisecond, 300 * time.Millisecond} {
			mostProbes, mostTook, wrong := 0, time.Duration(0), 0
			for mtu := 900; mtu <= 1500; mtu++ {
				l := newLine(mtu, rtt, loss)
				s := pmtu.New(pmtu.Config{Min: 576, Max: 1500})
				s.Start(l.now, rtt)
				probes := l.run(s, time.Minute, s.Settled)
				counted, took := s.Cost()
				if counted != probes {
					t.Fatalf("%d probes, it says %d", probes, counted)
				}
				mostProbes, mostTook = max(mostProbes, probes), max(mostTook, took)
				if s.Found() > mtu || loss == 0 && s.Found() != mtu {
					t.Fatalf("loss %v, rtt %v: found %d on a path of %d", loss, rtt, s.Found(), mtu)
				}
				if s.Found() == mtu {
					continue
				}
				wrong++
				l.run(s, 15*time.Second, func() bool { return s.Settled() && s.Found() == mtu })
				if s.Found() != mtu {
					t.Errorf("loss %v, rtt %v: %d on a path of %d after 15 s", loss, rtt, s.Found(), mtu)
				}
			}
			t.Logf("loss %v, rtt %v: at most %d probes and %v; %d of 601 too small at first", loss, rtt, mostProbes, mostTook, wrong)
			if loss == 0 && (mostProbes > 20 || mostTook > 4*time.Second) || wrong > 6 {
				t.Errorf("loss %v, rtt %v: %d probes, %v, %d wrong", loss, rtt, mostProbes, mostTook, wrong)
			}
		}
	}
}

// TestNothingIsKnown: neither the round trip, nor that the path is that slow, nor
// what is small enough.
func TestNothingIsKnown(t *testing.T) {
	for _, rtt := range []time.Duration{0, 50 * time.Millisecond, 2 * time.Second} {
		for mtu := 500; mtu <= 1500; mtu += 9 {
			l := newLine(mtu, rtt, 0)
			s := pmtu.New(pmtu.Config{Min: 576, Max: 1500})
			s.Start(l.now, 0)
			l.run(s, 2*time.Minute, func() bool { return s.Settled() || s.Failed() && len(l.way) == 0 })
			if want := mtu; mtu >= 576 && s.Found() != want || mtu < 576 && s.Found() != 0 {
				t.Fatalf("rtt %v: found %d on a path of %d", rtt, s.Found(), mtu)
			}
		}
	}
}

// TestPauses: a path that carries nothing for a while, at any time of a search,
// doesn't seem smaller.
func TestPauses(t *testing.T) {
	for at := time.Duration(0); at < 500*time.Millisecond; at += 7 * time.Millisecond {
		l := newLine(1438, 20*time.Millisecond, 0)
		s := pmtu.New(pmtu.Config{Min: 576, Max: 1500})
		s.Start(l.now, l.rtt)
		l.run(s, at, forever)
		l.loss = 1
		l.run(s, 450*time.Millisecond, forever)
		l.loss = 0
		l.run(s, 10*time.Second, s.Settled)
		if s.Found() != 1438 {
			t.Errorf("pause at %v: found %d", at, s.Found())
		}
		l.run(s, 10*time.Second, forever)
		l.loss = 1
		l.run(s, 450*time.Millisecond, func() bool {
			if s.Found() != 1438 {
				t.Errorf("pause after it was found: %d", s.Found())
			}
			return false
		})
	}
}

// TestChanges: a path that shrinks is noticed by confirmation, one that grows by
// the raise timer.
func TestChanges(t *testing.T) {
	l := newLine(1438, 10*time.Millisecond, 0)
	s := pmtu.New(pmtu.Config{Min: 576, Max: 1500})
	s.Start(l.now, l.rtt)
	expect := func(limit time.Duration, want int) {
		t.Helper()
		begin := l.now
		l.run(s, limit, func() bool { return s.Found() == want && (s.Settled() || want == 0) })
		if s.Found() != want {
			t.Errorf("%d after %v, want %d", s.Found(), l.now.Sub(begin), want)
		}
		t.Logf("%d after %v", s.Found(), l.now.Sub(begin))
	}
	expect(time.Second, 1438)
	l.run(s, 20*time.Second, forever)
	l.mtu = 990
	expect(5*time.Second, 990)
	l.run(s, 20*time.Second, forever)
	l.mtu = 1400
	expect(11*time.Minute, 1400)
	s.Stop()
	if _, ok := s.Next(); ok {
		t.Error("stopped, and wants to be called")
	}
	s.Start(l.now, 0) // as before: few probes
	if n := l.run(s, time.Second*5, s.Settled); n > 5 || s.Found() != 1400 {
		t.Errorf("%d probes for a path that is as before, found %d", n, s.Found())
	}
	l.mtu = 100 // that the path is gone is for its heartbeats to say
	l.run(s, time.Minute, forever)
	if s.Found() != 1400 {
		t.Errorf("%d while nothing comes back", s.Found())
	}
	s.Stop()
	s.Start(l.now, 0)
	expect(time.Minute, 0)
	l.mtu = 1200
	expect(10*time.Second, 1200)
}

// TestOwnRefusalsCostNoTime: what this box's own kernel refuses is known at once.
func TestOwnRefusalsCostNoTime(t *testing.T) {
	s := pmtu.New(pmtu.Config{Min: 576, Max: 1500})
	now := instant.Instant(1)
	s.Start(now, 0)
	for range 40 {
		for _, p := range s.Step(now) {
			if p.Size > 1438 {
				s.TooBig(now, p.ID)
			} else {
				s.Echoed(now, p.ID, p.Size, 0)
			}
		}
	}
	if probes, took := s.Cost(); s.Found() != 1438 || took != 0 || probes > 20 {
		t.Errorf("found %d with %d probes in %v", s.Found(), probes, took)
	}
}

// TestLateEchoes: what comes back after the path has changed says nothing.
func TestLateEchoes(t *testing.T) {
	l := newLine(1500, 10*time.Millisecond, 0)
	s := pmtu.New(pmtu.Config{Min: 576, Max: 1500})
	s.Start(l.now, l.rtt)
	old := s.Step(l.now)
	l.mtu = 1000
	s.Start(l.now, l.rtt)
	for _, p := range old {
		s.Echoed(l.now, p.ID, p.Size, time.Hour)
	}
	l.run(s, time.Minute, s.Settled)
	if s.Found() != 1000 {
		t.Errorf("found %d", s.Found())
	}
}

// TestStrangeEventsDoNoHarm plays events at random.
func TestStrangeEventsDoNoHarm(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	s := pmtu.New(pmtu.Config{Min: 576, Max: 1500})
	now := instant.Instant(1)
	for range 50000 {
		now = now.Add(time.Duration(rng.IntN(int(2 * time.Second))))
		switch size, id := rng.IntN(2000), uint64(rng.IntN(2000)); rng.IntN(8) {
		case 0:
			if rng.IntN(20) == 0 {
				s.Start(now, time.Duration(rng.IntN(1000))*time.Millisecond)
			}
		case 1:
			if rng.IntN(20) == 0 {
				s.Stop()
			}
		case 2:
			s.Echoed(now, id, size, time.Duration(rng.IntN(int(time.Second))))
		case 3:
			s.TooBig(now, id)
		default:
			probes := s.Step(now)
			if len(probes) > 4 {
				t.Fatalf("%d at once", len(probes))
			}
			for _, p := range probes {
				if p.Size < 576 || p.Size > 1500 {
					t.Fatalf("a probe of %d", p.Size)
				}
				if rng.IntN(2) == 0 {
					s.Echoed(now, p.ID, p.Size, time.Millisecond)
				}
			}
		}
		if f := s.Found(); f < 0 || f > 1500 {
			t.Fatalf("found %d", f)
		}
	}
}

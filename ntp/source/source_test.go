package source

import (
	"testing"
	"time"

	"komainu/ntp/instant"
	"komainu/ntp/wall"
)

// path makes the replies of a server, whose clock is ahead of ours, over a way
// that takes there and back. Our wall clock is the oscillator.
type path struct {
	now   time.Duration
	ahead time.Duration
	is    Reply
}

func (p *path) reply(there, back time.Duration) Reply {
	sent := wall.Time(p.now)
	r := p.is
	r.Sent, r.ServerReceived = sent, sent.Add(there+p.ahead)
	r.ServerSent, r.Received = r.ServerReceived.Add(10*time.Microsecond), sent.Add(there+back+10*time.Microsecond)
	r.At = wall.Reading{Boot: instant.Instant(r.Received), Raw: wall.Raw(r.Received), Wall: r.Received}
	return r
}

var good = Reply{Stratum: 2, RootDelay: 10 * time.Millisecond, RootDispersion: 5 * time.Millisecond}

// ask lets time pass until s wants to be asked.
func (p *path) ask(s *Source) instant.Instant {
	p.now = max(p.now, time.Duration(s.Next()))
	s.Asked(instant.Instant(p.now), 2*time.Second)
	return instant.Instant(p.now)
}

func (p *path) answer(s *Source) bool {
	now := p.ask(s)
	return s.Answered(now, p.reply(time.Millisecond, time.Millisecond), Prior{Sigma: 1e-4}, 0.5)
}

const start = instant.Instant(time.Hour)

// TestBurst: eight queries every two seconds, then more and more seldom.
func TestBurst(t *testing.T) {
	p, s := path{is: good}, New(Limits{Min: 4, Max: 8}, start)
	var at []time.Duration
	for range 40 {
		p.answer(s)
		at = append(at, p.now)
	}
	for i := range burst {
		if d := at[i+1] - at[i]; d != burstEvery {
			t.Fatalf("pause %d is %s, want %s", i, d, burstEvery)
		}
	}
	if s.Poll() < 16*time.Second {
		t.Fatalf("poll of an ideal source is %s after 40 replies", s.Poll())
	}
	if last, poll := at[39]-at[38], s.Poll(); last > poll || last < poll-poll/16 {
		t.Fatalf("pause %s isn't within a sixteenth below the poll %s", last, poll)
	}
}

// TestPollStaysWithinLimits, however long a source is followed and however bad
// its replies are.
func TestPollStaysWithinLimits(t *testing.T) {
	p, s := path{is: good}, New(Limits{Min: 6, Max: 10}, start)
	for i := range 3000 {
		now := p.ask(s)
		late := time.Duration(i%7) * 10 * time.Millisecond
		wander := time.Duration(i*i%100) * time.Millisecond
		p.ahead = wander
		s.Answered(now, p.reply(time.Millisecond+late, time.Millisecond), Prior{Sigma: 1e-4}, 0.5)
		pause := time.Duration(s.Next()) - p.now
		if i > 64 && s.burst == 0 && pause < 60*time.Second && pause != burstEvery {
			t.Fatalf("after %d replies the pause is %s, shorter than the shortest poll", i, pause)
		}
		if pause > 1024*time.Second {
			t.Fatalf("after %d replies the pause is %s", i, pause)
		}
	}
}

func TestSilenceAndReturn(t *testing.T) {
	p, s := path{is: good}, New(Limits{Min: 4, Max: 6}, start)
	for range 40 {
		p.answer(s)
	}
	if got := s.State(instant.Instant(p.now), wall.Raw(p.now), false); got != Usable {
		t.Fatalf("state %d", got)
	}
	before := p.now
	var pauses []time.Duration
	for i := range 4 {
		now := p.ask(s)
		s.Unanswered(now, "ntp-timeout", "", 0)
		pauses = append(pauses, time.Duration(s.Next())-p.now)
		if got := s.State(now, wall.Raw(p.now), false); (got == Silent) != (i == 3) {
			t.Fatalf("state %d after %d lost replies", got, i+1)
		}
	}
	for i, d := range pauses {
		if want := min(retryFirst<<i, s.Poll()); d != want {
			t.Fatalf("retries after %v, the one at %d should be after %s", pauses, i, want)
		}
	}
	if p.now-before > 3*time.Minute {
		t.Fatalf("found out after %s", p.now-before)
	}
	if !p.answer(s) || s.State(instant.Instant(p.now), wall.Raw(p.now), false) != Usable || s.Code != "" {
		t.Fatal("the first reply doesn't bring it back")
	}
}

// TestKissRate: who says RATE is asked less often, burst or not, even when the
// replies before it were lost, as they are where a rate is limited.
func TestKissRate(t *testing.T) {
	for _, lost := range []int{0, 1, 3} {
		p, s := path{is: good}, New(Limits{Min: 4, Max: 10}, start)
		for range 3 {
			p.answer(s)
		}
		for range lost {
			s.Unanswered(p.ask(s), "ntp-timeout", "", 0)
		}
		p.is.Stratum, p.is.Kiss = 0, "RATE"
		for i := range 3 {
			p.answer(s)
			if pause := time.Duration(s.Next()) - p.now; pause < 30*time.Second<<i-2*time.Second {
				t.Fatalf("%d lost, then RATE %d times: asked again after %s", lost, i+1, pause)
			}
		}
		p.is = good
		for range 20 {
			p.answer(s)
			if pause := time.Duration(s.Next()) - p.now; pause < 110*time.Second {
				t.Fatalf("forgot RATE: asked again after %s", pause)
			}
		}
	}
}

func TestKissDeny(t *testing.T) {
	for _, kiss := range []string{"DENY", "RSTR"} {
		p, s := path{is: good}, New(Limits{Min: 4, Max: 10}, start)
		p.answer(s)
		p.is.Stratum, p.is.Kiss = 0, kiss
		p.answer(s)
		if pause := time.Duration(s.Next()) - p.now; pause != deniedFor {
			t.Fatalf("%s: asked again after %s", kiss, pause)
		}
		if got := s.State(instant.Instant(p.now), wall.Raw(p.now), false); got != Denied {
			t.Fatalf("%s: state %d", kiss, got)
		}
		if s.Filter.Samples() != 1 {
			t.Fatalf("%s was measured", kiss)
		}
	}
}

func TestState(t *testing.T) {
	for _, c := range []struct {
		name string
		is   Reply
		loop bool
		want State
	}{
		{"good", good, false, Usable},
		{"leap 3", Reply{Stratum: 2, Leap: 3}, false, Unsynced},
		{"stratum 0", Reply{Kiss: "INIT"}, false, Unsynced},
		{"stratum 16", Reply{Stratum: 16}, false, Unsynced},
		{"stratum 255", Reply{Stratum: 255, Precision: 127}, false, Unsynced},
		{"dispersion 16 s", Reply{Stratum: 2, RootDispersion: 16 * time.Second}, false, Unsynced},
		{"far", Reply{Stratum: 2, RootDelay: 2 * time.Second, RootDispersion: 600 * time.Millisecond}, false, Distant},
		{"follows us", good, true, Loop},
		{"a reference clock that has our ID", Reply{Stratum: 1}, true, Usable},
	} {
		p, s := path{is: c.is}, New(Limits{Min: 4, Max: 10}, start)
		for range 3 {
			p.answer(s)
		}
		if got := s.State(instant.Instant(p.now), wall.Raw(p.now), c.loop); got != c.want {
			t.Errorf("%s: state %d, want %d", c.name, got, c.want)
		}
	}
}

// TestDistance: RFC 5905 section 11.1.
func TestDistance(t *testing.T) {
	p, s := path{is: good}, New(Limits{Min: 4, Max: 10}, start)
	for range 8 {
		p.answer(s)
	}
	at := s.Filter.Estimate().At
	if d := s.Distance(at) - (0.010+0.002)/2 - 0.005; d < 0 || d > 1e-3 {
		t.Errorf("distance is %g s above root delay and dispersion", d)
	}
	later := at + wall.Raw(1000*time.Second)
	if grew := s.Distance(later) - s.Distance(at); grew < 1000*tolerance {
		t.Errorf("distance grew by %g s in 1000 s, want %g at least", grew, 1000*tolerance)
	}
}

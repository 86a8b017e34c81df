package detect

import (
	"errors"
	"slices"
	"testing"
	"time"

	"komainu/ntp/instant"
)

const ms = time.Millisecond

// world is two ends of one path under a virtual clock. Messages take delay;
// the two directions can be cut; everything sent is kept for replaying.
type world struct {
	t        *testing.T
	now      instant.Instant
	delay    time.Duration
	ends     map[string]*Session // by site
	cut      map[string]bool     // sender's site: its messages are lost
	flying   []flight
	recorded map[string][]Message // by sender
	fresh    map[string]int       // by receiver
}

type flight struct {
	at instant.Instant
	to string
	m  Message
}

func config(peer string, boot uint64) SessionConfig {
	return SessionConfig{Path: "main", Peer: peer, Interval: 100 * ms, Mult: 5, Boot: boot}
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, now: instant.Instant(time.Hour), delay: 10 * ms, ends: map[string]*Session{},
		cut: map[string]bool{}, recorded: map[string][]Message{}, fresh: map[string]int{}}
	w.boot("hall", 100)
	w.boot("dc", 200)
	return w
}

func other(site string) string {
	if site == "hall" {
		return "dc"
	}
	return "hall"
}

func (w *world) boot(site string, boot uint64) {
	w.ends[site] = NewSession(config(other(site), boot), w.now)
}

// run lets d pass in steps of one millisecond.
func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); w.now < end; w.now = w.now.Add(ms) {
		for len(w.flying) > 0 && w.flying[0].at <= w.now {
			f := w.flying[0]
			w.flying = w.flying[1:]
			if fresh, _ := w.ends[f.to].Receive(w.now, &f.m); fresh {
				w.fresh[f.to]++
			}
		}
		for _, site := range []string{"hall", "dc"} {
			s := w.ends[site]
			s.Expire(w.now)
			if !s.Due(w.now) {
				continue
			}
			m := Message{From: site}
			s.Stamp(w.now, 0.5, &m)
			w.recorded[site] = append(w.recorded[site], m)
			if !w.cut[site] {
				w.flying = append(w.flying, flight{w.now.Add(w.delay), other(site), m})
			}
		}
	}
}

func (w *world) want(hall, dc SessionState) {
	w.t.Helper()
	if h, d := w.ends["hall"].State(), w.ends["dc"].State(); h != hall || d != dc {
		w.t.Fatalf("at %v: hall %v, dc %v; want %v, %v", w.now.Sub(instant.Instant(time.Hour)), h, d, hall, dc)
	}
}

func TestSessionComesUpAndMeasures(t *testing.T) {
	w := newWorld(t)
	w.run(50 * ms) // down, init, up: three messages of 10 ms each
	w.want(Up, Up)
	w.run(2 * time.Second)
	h := w.ends["hall"]
	if h.RTT() < 19*ms || h.RTT() > 21*ms || h.Loss() != 0 {
		t.Errorf("rtt %v, loss %v", h.RTT(), h.Loss())
	}
	if got := w.fresh["hall"]; got < 20 {
		t.Errorf("%d believable messages in 2 s", got)
	}
}

func TestSessionDetectsACut(t *testing.T) {
	w := newWorld(t)
	w.run(time.Second)
	w.cut["hall"], w.cut["dc"] = true, true
	w.run(500 * ms) // a gap of four intervals is none, whatever the wait behind it
	w.want(Up, Up)
	w.run(150 * ms)
	w.want(Down, Down)
	if w.ends["hall"].Loss() != 1 {
		t.Errorf("loss %v", w.ends["hall"].Loss())
	}
	w.run(time.Minute)
	w.cut["hall"], w.cut["dc"] = false, false
	w.run(150 * ms)
	w.want(Up, Up)
}

func TestSessionDetectsACutOfOneDirection(t *testing.T) {
	for _, dead := range []string{"hall", "dc"} {
		w := newWorld(t)
		w.run(time.Second)
		w.cut[dead] = true
		w.run(640 * ms) // the deaf end tells the other
		for site, s := range w.ends {
			if s.State() == Up {
				t.Errorf("%s doesn't get through, %s is still up", dead, site)
			}
		}
		w.run(time.Minute)
		before := w.fresh[other(dead)] + w.fresh[dead]
		w.run(time.Second)
		if got := w.fresh[other(dead)] + w.fresh[dead] - before; got != 0 {
			t.Errorf("%s doesn't get through: %d messages believed without a proof", dead, got)
		}
		w.cut[dead] = false
		w.run(150 * ms)
		w.want(Up, Up)
	}
}

// watch runs for d and returns what the hall saw of the path, each state once.
func (w *world) watch(d time.Duration) (seen []SessionState) {
	for range d / ms {
		w.run(ms)
		if now := w.ends["hall"].Seen(); !slices.Contains(seen, now) {
			seen = append(seen, now)
		}
	}
	return seen
}

// A start that follows quickly on one that died is no failure of the path, which
// works in both directions all the time.
func TestSessionStaysUpOverARestartOfThePeer(t *testing.T) {
	for _, away := range []time.Duration{0, 35 * ms, 300 * ms} {
		w := newWorld(t)
		w.run(time.Second)
		since := w.ends["hall"].Since()
		w.cut["dc"], w.cut["hall"] = true, true
		seen := w.watch(away)
		w.cut["dc"], w.cut["hall"] = false, false
		w.boot("dc", 201)
		seen = append(seen, w.watch(250*ms)...)
		w.want(Up, Up)
		if w.ends["hall"].Since() != since || slices.ContainsFunc(seen, func(s SessionState) bool { return s != Up }) {
			t.Errorf("away for %v: the hall saw %v", away, seen)
		}
		w.boot("hall", 101)
		w.boot("dc", 202)
		w.run(300 * ms)
		w.want(Up, Up)
	}
}

// The same when the peer said before that it would be gone, whenever its next
// start begins to listen: what it hears first may be from before the farewell.
func TestSessionPlannedRestartIsNoFailure(t *testing.T) {
	for away := range 40 {
		w := newWorld(t)
		w.run(time.Second)
		w.ends["hall"].sendAt = w.now.Add(8 * ms) // under way when the farewell comes
		w.ends["dc"].AdminDown(w.now, true)
		w.run(ms)
		w.cut["dc"] = true
		seen := w.watch(time.Duration(away) * ms)
		w.cut["dc"] = false
		w.boot("dc", 201)
		seen = append(seen, w.watch(300*ms)...)
		w.want(Up, Up)
		if slices.Contains(seen, Down) || slices.Contains(seen, Init) {
			t.Errorf("away for %d ms: the hall saw %v", away, seen)
		}
	}
}

// A start that never gets beyond down doesn't hold the path up, nor does one
// after the other.
func TestSessionDoesntWaitForANewStartForLong(t *testing.T) {
	for _, again := range []time.Duration{time.Hour, 150 * ms} {
		w := newWorld(t)
		w.run(time.Second)
		h, boot, began := w.ends["hall"], uint64(201), w.now
		deaf := NewSession(config("hall", boot), w.now)
		next := w.now.Add(again)
		for h.State() == Up && w.now.Sub(began) < 5*time.Second {
			w.now = w.now.Add(20 * ms)
			var out, in Message
			out.From, in.From = "hall", "dc"
			h.Stamp(w.now, 0, &out)
			if w.now >= next {
				boot++
				deaf, next = NewSession(config("hall", boot), w.now), w.now.Add(again)
			}
			_, _ = deaf.Receive(w.now, &out)
			deaf.Stamp(w.now, 0, &in)
			in.State = Down
			_, _ = h.Receive(w.now, &in)
			h.Expire(w.now)
		}
		if took := w.now.Sub(began); took < 600*ms || took > 800*ms {
			t.Errorf("a new start every %v that stays down: the hall is down after %v", again, took)
		}
	}
}

// Everything that the peer ever sent, played back at any later moment, changes nothing.
func TestSessionIgnoresReplays(t *testing.T) {
	w := newWorld(t)
	w.run(time.Second)
	w.boot("dc", 201)
	w.run(time.Second)
	h := w.ends["hall"]
	t.Run("while up", func(t *testing.T) {
		for _, m := range w.recorded["dc"] {
			if fresh, err := h.Receive(w.now, &m); fresh || !errors.Is(err, ErrReplayed) || h.State() != Up {
				t.Fatalf("boot %d seq %d: fresh %v, %v, state %v", m.Boot, m.Seq, fresh, err, h.State())
			}
		}
		for _, m := range w.recorded["hall"] { // our own, reflected
			if _, err := h.Receive(w.now, &m); !errors.Is(err, ErrWrongPeer) {
				t.Fatal(err)
			}
		}
	})
	t.Run("after a cut", func(t *testing.T) {
		arrived := w.recorded["dc"]
		w.cut["dc"] = true
		w.run(time.Second)
		w.want(Down, Init)
		for _, m := range arrived {
			w.run(ms)
			if fresh, _ := h.Receive(w.now, &m); fresh || h.State() == Up {
				t.Fatalf("boot %d seq %d: fresh %v, state %v", m.Boot, m.Seq, fresh, h.State())
			}
		}
	})
	t.Run("after our restart", func(t *testing.T) {
		w.cut["hall"] = true
		w.boot("hall", 101)
		h := w.ends["hall"]
		for _, m := range w.recorded["dc"] {
			w.run(ms)
			if fresh, _ := h.Receive(w.now, &m); fresh || h.State() == Up {
				t.Fatalf("boot %d seq %d: fresh %v, state %v", m.Boot, m.Seq, fresh, h.State())
			}
		}
		w.cut["hall"], w.cut["dc"] = false, false
		w.run(time.Second)
		w.want(Up, Up)
	})
}

// Messages that never arrived prove nothing any more once they are old, and
// those of the start before the last never do.
func TestSessionIgnoresMessagesHeldBack(t *testing.T) {
	w := newWorld(t)
	w.run(time.Second)
	w.cut["dc"] = true
	from := len(w.recorded["dc"])
	w.run(200 * ms)
	held := w.recorded["dc"][from:]
	w.boot("dc", 201)
	w.cut["dc"] = false
	w.run(100 * ms)
	for _, m := range held {
		if fresh, err := w.ends["hall"].Receive(w.now, &m); fresh || err == nil {
			t.Fatalf("of the start before: seq %d: fresh %v, %v", m.Seq, fresh, err)
		}
	}
	w.run(200 * ms)
	w.want(Up, Up)
	w.cut["dc"] = true
	from = len(w.recorded["dc"])
	w.run(500 * ms)
	held = w.recorded["dc"][from:]
	w.run(3 * time.Second)
	for _, m := range held {
		if fresh, _ := w.ends["hall"].Receive(w.now, &m); fresh || w.ends["hall"].State() == Up {
			t.Fatalf("three seconds late: seq %d: fresh %v", m.Seq, fresh)
		}
	}
}

// A proof of one path is none on another, though both belong to one start.
func TestSessionIgnoresMessagesOfAnotherPath(t *testing.T) {
	w := newWorld(t)
	cfg := config("dc", 100)
	cfg.Path = "alternative"
	alt := NewSession(cfg, w.now)
	for range 200 {
		w.run(10 * ms)
		if alt.Due(w.now) {
			alt.Stamp(w.now, 0, &Message{})
		}
		for _, m := range w.recorded["dc"] {
			if fresh, _ := alt.Receive(w.now, &m); fresh || alt.State() == Up {
				t.Fatalf("seq %d believed on another path", m.Seq)
			}
		}
	}
}

func TestSessionRefusesForgeries(t *testing.T) {
	w := newWorld(t)
	w.run(time.Second)
	h := w.ends["hall"]
	good := w.recorded["dc"][len(w.recorded["dc"])-1]
	good.Seq += 10
	for _, c := range []struct {
		name string
		want error
		make func(m *Message)
	}{
		{"wrong peer", ErrWrongPeer, func(m *Message) { m.From = "dc2" }},
		{"no timers", ErrMalformed, func(m *Message) { m.Mult = 0 }},
		{"no boot", ErrMalformed, func(m *Message) { m.Boot = 0 }},
		{"unknown state", ErrMalformed, func(m *Message) { m.State = 9 }},
		{"another start without a proof", ErrReplayed, func(m *Message) { m.Boot, m.EchoBoot, m.State = 999, 0, Down }},
		{"another start with an old proof", ErrReplayed, func(m *Message) { m.Boot = 999; m.EchoSeq -= 5; m.State = Down }},
	} {
		m := good
		c.make(&m)
		if fresh, err := h.Receive(w.now, &m); fresh || !errors.Is(err, c.want) || h.State() != Up {
			t.Errorf("%s: fresh %v, %v, state %v", c.name, fresh, err, h.State())
		}
	}
	for _, c := range []struct {
		name string
		make func(m *Message)
	}{
		{"an echo of a message that we haven't sent yet", func(m *Message) { m.EchoSeq += 1000; m.State = Down }},
		{"an echo of another start of ours", func(m *Message) { m.EchoBoot = 99; m.State = Down }},
	} {
		m := good
		c.make(&m)
		good.Seq++
		if fresh, _ := h.Receive(w.now, &m); fresh || h.State() != Up {
			t.Errorf("%s: fresh %v, state %v", c.name, fresh, h.State())
		}
	}
}

func TestSessionAdminDown(t *testing.T) {
	w := newWorld(t)
	w.run(time.Second)
	w.ends["dc"].AdminDown(w.now, true)
	w.run(100 * ms)
	w.want(Down, AdminDown)
	if got := w.ends["hall"].Seen(); got != AdminDown {
		t.Errorf("hall sees %v", got)
	}
	w.cut["dc"] = true // its agent is replaced
	w.run(10 * time.Second)
	if got := w.ends["hall"].Seen(); got != AdminDown {
		t.Errorf("after its silence hall sees %v", got)
	}
	w.cut["dc"] = false
	w.boot("dc", 201)
	if seen := w.watch(time.Second); !slices.Equal(seen, []SessionState{AdminDown, Up}) {
		t.Errorf("while its agent comes back the hall sees %v", seen)
	}
	w.want(Up, Up)
	w.cut["dc"] = true
	w.run(time.Second)
	if got := w.ends["hall"].Seen(); got != Down {
		t.Errorf("a cut after its return: the hall sees %v", got)
	}
}

// Who comes back and falls silent before it was up has failed.
func TestSessionPlannedAbsenceEndsWithANewSilence(t *testing.T) {
	w := newWorld(t)
	w.run(time.Second)
	w.ends["dc"].AdminDown(w.now, true)
	w.run(100 * ms)
	w.boot("dc", 201)
	for n := 0; w.ends["hall"].peerState == AdminDown && n < 1000; n++ {
		w.run(ms)
		w.ends["dc"].state = Down // it never hears enough
	}
	w.cut["dc"] = true
	w.run(time.Second)
	if got := w.ends["hall"].Seen(); got != Down {
		t.Errorf("hall sees %v", got)
	}
}

func TestSessionOwnStallIsNoDeadPath(t *testing.T) {
	w := newWorld(t)
	w.run(time.Second)
	h := w.ends["hall"]
	w.now = w.now.Add(10 * time.Second)
	h.Stalled(w.now, 10*time.Second)
	if h.Expire(w.now) || h.State() != Up {
		t.Fatal("a stall of our own took the path down")
	}
	if !h.Due(w.now) {
		t.Error("nothing to send after a stall")
	}
	if now := w.now.Add(599 * ms); h.Expire(now) {
		t.Error("too early")
	}
	if now := w.now.Add(600 * ms); !h.Expire(now) || h.State() != Down || h.Since() != now {
		t.Error("silence after a stall isn't noticed")
	}
}

func TestSessionJitter(t *testing.T) {
	now := instant.Instant(time.Hour)
	for _, c := range []struct {
		mult   uint8
		jitter float64
		want   time.Duration
	}{{5, 0, 100 * ms}, {5, 1, 75 * ms}, {1, 0, 90 * ms}, {1, 1, 75 * ms}} {
		cfg := config("dc", 1)
		cfg.Mult = c.mult
		s := NewSession(cfg, now)
		s.Stamp(now, c.jitter, &Message{})
		if got := s.Next().Sub(now); got != c.want {
			t.Errorf("mult %d, jitter %v: next after %v, want %v", c.mult, c.jitter, got, c.want)
		}
	}
}

func TestSessionLoss(t *testing.T) {
	w := newWorld(t)
	w.run(time.Second)
	for range 100 { // one of four lost
		w.run(250 * ms)
		w.cut["dc"] = true
		w.run(90 * ms)
		w.cut["dc"] = false
	}
	if got := w.ends["hall"].Loss(); got < 0.15 || got > 0.4 {
		t.Errorf("loss %v", got)
	}
	w.want(Up, Up)
}

// The simulator makes some 20,000 of these rounds a simulated second.
func BenchmarkSessionRound(b *testing.B) {
	now := instant.Instant(time.Hour)
	hall, dc := NewSession(config("dc", 1), now), NewSession(config("hall", 2), now)
	m, r := Message{From: "hall"}, Message{From: "dc"}
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(80 * ms)
		hall.Stamp(now, 0.5, &m)
		_, _ = dc.Receive(now, &m)
		dc.Expire(now)
		dc.Stamp(now, 0.5, &r)
		_, _ = hall.Receive(now, &r)
		hall.Expire(now)
	}
	if hall.State() != Up {
		b.Fatal(hall.State())
	}
}

func TestSessionAllocatesNothing(t *testing.T) {
	now := instant.Instant(time.Hour)
	hall, dc := NewSession(config("dc", 1), now), NewSession(config("hall", 2), now)
	m := Message{From: "hall"}
	if n := testing.AllocsPerRun(100, func() {
		now = now.Add(80 * ms)
		hall.Stamp(now, 0.5, &m)
		_, _ = dc.Receive(now, &m)
		_, _ = dc.Receive(now, &m) // a replay
		dc.Expire(now)
	}); n != 0 {
		t.Errorf("%v allocations a round", n)
	}
}

// TestJitter: an even path has none, one that is now quick, now slow has what
// neighbours differ by.
func TestJitter(t *testing.T) {
	s := NewSession(SessionConfig{Interval: 100 * ms, Mult: 5, Boot: 1}, 1)
	for range 200 {
		s.measure(20 * ms)
	}
	if s.Jitter() != 0 {
		t.Errorf("an even path: %v", s.Jitter())
	}
	for i := range 200 {
		s.measure(20*ms + time.Duration(i%2)*8*ms)
	}
	if j := s.Jitter(); j < 7*ms || j > 8*ms {
		t.Errorf("8 ms from one to the next: %v", j)
	}
}

package timer_test

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"komainu/ntp/holdover"
	"komainu/ntp/instant"
	"komainu/ntp/leap"
	"komainu/ntp/server"
	"komainu/ntp/source"
	"komainu/ntp/timer"
	"komainu/ntp/wall"
)

var seeds = flag.Uint64("seeds", 60, "how many sequences of events are tried")

// TestAlways: what must hold after every event, whatever happens. A failing
// seed is run again with -run 'TestAlways/seed-N$' -seeds N+1.
func TestAlways(t *testing.T) {
	for seed := range *seeds {
		t.Run(fmt.Sprintf("seed-%d", seed), func(t *testing.T) { newChaos(t, seed).run(400) })
	}
}

// chaos gives a timer events that needn't make sense together. Its kernel does
// what it is told.
type chaos struct {
	t       *testing.T
	r       *rand.Rand
	spec    timer.Spec
	timer   *timer.Timer
	now     wall.Reading
	truth   float64 // s, of true time less the oscillator
	ahead   float64 // s, of the wall clock less the oscillator
	ppm     float64
	slew    float64
	share   float64
	jumped  time.Duration // by a foreign hand since the last event
	wake    instant.Instant
	asked   []timer.Query
	old     []timer.Query
	lies    map[int]float64 // offset of a source's clock, s
	refused []timer.Failed
	told    server.State
}

func newChaos(t *testing.T, seed uint64) *chaos {
	c := &chaos{t: t, r: rand.New(rand.NewPCG(seed, 7)), lies: map[int]float64{}}
	n := 1 + c.r.IntN(4)
	c.spec = timer.Spec{MinSources: 1 + c.r.IntN(n), StepOver: time.Duration(c.r.IntN(1000)) * time.Millisecond, MaxSlew: 1 + 1000*c.r.Float64(),
		Panic: time.Duration(1+c.r.IntN(1000)) * time.Second, Holdover: timer.Holdover{Bound: time.Duration(1+c.r.IntN(100)) * time.Millisecond,
			Stratum: uint8(2 + c.r.IntN(12)), Max: time.Duration(c.r.IntN(30)) * time.Hour},
		ID: c.r.Uint32(), Precision: int8(c.r.IntN(256) - 128), NoClock: c.r.IntN(10) == 0, Crystal: holdover.Crystal{Ageing: c.r.Float64(), Temperature: 5 * c.r.Float64()},
		Seed: c.r.Uint64()}
	if c.r.IntN(2) == 0 {
		c.spec.Orphan = c.spec.Holdover.Stratum + 1 + uint8(c.r.IntN(15-int(c.spec.Holdover.Stratum)))
	}
	for i := range n {
		least := int8(4 + c.r.IntN(4))
		c.spec.Upstreams = append(c.spec.Upstreams, timer.Upstream{Name: fmt.Sprint("upstream", i), Port: 123, Pool: c.r.IntN(3), Auth: c.r.IntN(4) == 0,
			Prefer: c.r.IntN(6) == 0, MinPoll: least, MaxPoll: least + int8(c.r.IntN(8))})
	}
	c.timer = timer.New(c.spec)
	c.now = wall.Reading{Boot: instant.Instant(time.Hour), Raw: wall.Raw(time.Hour)}
	c.ahead = float64(noon) / 1e9 / float64(1+c.r.IntN(3)) // the hardware clock may be wrong by decades
	c.truth = float64(noon) / 1e9
	return c
}

func (c *chaos) run(events int) {
	c.pass(0)
	drift := timer.Drift{Frequency: c.r.NormFloat64() * 300, Error: c.r.NormFloat64(), At: noon, History: make([]holdover.Point, c.r.IntN(500))}
	c.step(timer.Started{Drift: drift, Kernel: 500 - 1000*c.r.Float64()})
	for range events {
		c.step(c.event())
		for len(c.refused) > 0 {
			ev := c.refused[0]
			c.refused = c.refused[1:]
			c.step(ev)
		}
	}
	c.step(timer.Stopping{})
}

// pass lets time pass on all clocks.
func (c *chaos) pass(d time.Duration) {
	c.now.Boot, c.now.Raw = c.now.Boot.Add(d), c.now.Raw+wall.Raw(d)
	removed := c.slew * (1 - math.Pow(1-c.share, d.Seconds()))
	c.slew -= removed
	c.ahead += c.ppm*1e-6*d.Seconds() + removed
	c.truth += 30e-6 * d.Seconds()
	c.now.Wall = wall.Time(c.now.Raw).Add(time.Duration(c.ahead * 1e9))
}

// event is what happens next.
func (c *chaos) event() timer.Event {
	switch x := c.r.IntN(100); {
	case x < 55 && len(c.asked) > 0:
		i := c.r.IntN(len(c.asked))
		q := c.asked[i]
		c.asked = append(c.asked[:i:i], c.asked[i+1:]...)
		c.old = append(c.old, q)
		c.pass(time.Duration(c.r.IntN(int(q.Timeout))))
		if c.r.IntN(6) == 0 {
			return timer.Silence{Source: q.ID, Query: q.Query, Code: []string{"ntp-timeout", "ntp-auth", "ntp-nts"}[c.r.IntN(3)]}
		}
		return timer.Answer{Source: q.ID, Query: q.Query, Reply: c.reply(q.ID)}
	case x < 62:
		c.pass(time.Duration(c.r.IntN(1e9)))
		return timer.Resolved{Upstream: c.r.IntN(len(c.spec.Upstreams)), Addrs: c.addrs()}
	case x < 64:
		c.jumped = time.Duration((c.r.NormFloat64()) * math.Pow(10, float64(c.r.IntN(15))))
		c.ahead += c.jumped.Seconds()
		c.pass(time.Millisecond)
		return timer.Tick{}
	case x < 65:
		d := time.Duration(c.r.IntN(int(20 * time.Hour)))
		c.now.Boot, c.truth = c.now.Boot.Add(d), c.truth+d.Seconds()
		c.ahead += d.Seconds() + c.r.NormFloat64()
		c.pass(time.Millisecond)
		return timer.Tick{}
	case x < 67:
		c.pass(time.Millisecond)
		return timer.Order{ID: fmt.Sprint(c.r.IntN(100)), Step: c.r.IntN(5) > 0}
	case x < 68:
		c.pass(time.Millisecond)
		by := 1 - 2*c.r.IntN(2)
		table := leap.Table{Expires: c.now.Wall.Add(1000 * time.Hour), Entries: []leap.Entry{{At: 0, Offset: 10}, {At: c.now.Wall - c.now.Wall%wall.Time(24*time.Hour) + wall.Time(24*time.Hour), Offset: 10 + by}}}
		return timer.LeapTable{Table: table}
	case x < 70:
		c.pass(time.Duration(c.r.IntN(int(8 * time.Hour)))) // a loop that stood still
		return timer.Tick{}
	}
	c.pass(max(c.wake.Sub(c.now.Boot), 0))
	return timer.Tick{}
}

func (c *chaos) addrs() []netip.Addr {
	var a []netip.Addr
	for range c.r.IntN(4) {
		a = append(a, netip.AddrFrom4([4]byte{10, 0, 0, byte(c.r.IntN(8))}))
	}
	return a
}

// reply is of a server that is right, lies, or talks nonsense.
func (c *chaos) reply(id int) source.Reply {
	if _, ok := c.lies[id]; !ok && c.r.IntN(3) == 0 {
		c.lies[id] = c.r.NormFloat64() * math.Pow(10, float64(c.r.IntN(10)-4))
	}
	delay := time.Duration(c.r.ExpFloat64() * 1e6)
	time_ := wall.Time(c.now.Raw).Add(time.Duration((c.truth + c.lies[id]) * 1e9))
	r := source.Reply{Stratum: uint8(1 + c.r.IntN(4)), RootDelay: time.Duration(c.r.IntN(1e8)), RootDispersion: time.Duration(c.r.IntN(1e8)), RefID: c.r.Uint32(),
		Sent: c.now.Wall.Add(-2 * delay), ServerReceived: time_.Add(-delay), ServerSent: time_.Add(-delay), Received: c.now.Wall, At: c.now, Authenticated: c.r.IntN(5) > 0}
	switch c.r.IntN(40) {
	case 0: // no delay
		r.Sent, r.ServerReceived, r.ServerSent = r.Received, time_, time_
	case 1: // all stamps are equal
		r.ServerReceived, r.ServerSent, r.Sent = r.Received, r.Received, r.Received
	case 2: // its clock went back
		r.ServerSent = r.ServerReceived.Add(-time.Hour)
	case 3: // it takes longer than the way
		r.ServerSent = r.ServerReceived.Add(time.Hour)
	case 4: // hours on the way
		r.Sent = r.Received.Add(-7 * time.Hour)
	case 5:
		r.Stratum, r.Precision, r.Poll = 255, 127, 127
	case 6:
		r.Stratum, r.Kiss = 0, []string{"RATE", "DENY", "INIT", ""}[c.r.IntN(4)]
	case 7:
		r.Leap = 3
	case 8:
		r.RootDelay, r.RootDispersion = 18*time.Hour, 18*time.Hour
	case 9: // another age
		far := wall.Time(c.r.Int64N(60*365*24) * int64(time.Hour))
		r.ServerReceived, r.ServerSent = r.ServerReceived+far, r.ServerSent+far
	case 10:
		r.Stratum = uint8(5 + c.r.IntN(11))
	case 11, 12:
		r.Leap = uint8(1 + c.r.IntN(2))
	}
	return r
}

// step gives the timer an event and checks everything that must hold.
func (c *chaos) step(ev timer.Event) {
	t, before := c.t, c.timer.View(c.now)
	out := c.timer.Step(c.now, ev)
	notes := map[string]bool{}
	for _, a := range out {
		if n, ok := a.(timer.Note); ok {
			notes[n.Code] = true
		}
	}
	wakes := 0
	for _, a := range out {
		switch a := a.(type) {
		case timer.Wake:
			wakes++
			if d := a.At.Sub(c.now.Boot); d <= 0 || d > 16*time.Second {
				t.Fatalf("%T: wakes in %s", ev, d)
			}
			c.wake = a.At
		case timer.Query:
			c.asked = append(c.asked, a)
		case timer.SetFrequency:
			c.adjusts(a)
			if !(math.Abs(a.PPM) <= 500) {
				t.Fatalf("%T: frequency %g ppm", ev, a.PPM)
			}
			c.ppm = a.PPM
		case timer.Slew:
			c.adjusts(a)
			rate := a.Offset.Abs().Seconds() / math.Exp2(float64(2+a.Constant)) * 1e6
			if a.Offset.Abs() > 500*time.Millisecond || a.Constant < 0 || a.Constant > 10 || rate > c.spec.MaxSlew && a.Constant < 10 {
				t.Fatalf("%T: slew %s, constant %d: %g ppm, %g are allowed", ev, a.Offset, a.Constant, rate, c.spec.MaxSlew)
			}
			c.slew, c.share = a.Offset.Seconds(), 1/float64(int(4)<<a.Constant)
		case timer.StepClock:
			c.adjusts(a)
			_, ordered := ev.(timer.Order)
			undone := notes["note-time-set-by-hand"] && (a.By+c.jumped).Abs() < time.Second+c.jumped.Abs()/1000
			second := notes["note-time-leap"] && a.By.Abs() == time.Second
			if before.Age >= 0 && !ordered && !undone && !second {
				t.Fatalf("%T: steps by %s in %s", ev, a.By, before.Mode)
			}
			c.ahead, c.slew = c.ahead+a.By.Seconds(), 0
			c.now.Wall = c.now.Wall.Add(a.By)
		case timer.SetLeap:
			c.adjusts(a)
		case timer.SetSync:
			c.adjusts(a)
			if a.Bound < 0 {
				t.Fatalf("%T: bound %s", ev, a.Bound)
			}
		case timer.Publish:
			c.published(ev, a)
		case timer.Save:
			if !a.Drift.Plausible() {
				t.Fatalf("%T: saves %+v", ev, a.Drift)
			}
		}
		if c.r.IntN(200) == 0 {
			c.refused = append(c.refused, timer.Failed{Action: []string{"frequency", "slew", "leap", "sync", "save"}[c.r.IntN(5)], Detail: "no"})
		}
	}
	if _, stop := ev.(timer.Stopping); wakes != 1 && !stop {
		t.Fatalf("%T: %d wakes", ev, wakes)
	}
	c.jumped = 0
	c.viewed(ev)
	if c.r.IntN(8) == 0 {
		c.unasked()
	}
}

func (c *chaos) adjusts(a timer.Action) {
	if c.spec.NoClock {
		c.t.Fatalf("adjusts a clock that isn't ours: %T", a)
	}
}

func (c *chaos) published(ev timer.Event, p timer.Publish) {
	s, v := p.State, c.timer.View(c.now)
	if (s.Leap == 3) != (s.Stratum == 16) || s.Leap > 3 || s.Leap != 3 && (s.Stratum < 2 || s.Stratum > 15) {
		c.t.Fatalf("%T: publishes leap %d, stratum %d", ev, s.Leap, s.Stratum)
	}
	if s.Dispersion < 0 || s.RootDelay < 0 || !(s.Growth >= 0) || math.IsInf(s.Growth, 0) {
		c.t.Fatalf("%T: publishes %+v", ev, s)
	}
	defer func() { c.told = s }()
	if s.Leap == 3 {
		return
	}
	for _, p := range v.Sources {
		adopted := v.Age == 0 // in this Step
		if adopted && v.Mode == timer.Synchronised && p.ID == v.Best && int(s.Stratum) < min(int(p.Last.Stratum)+1, 15) {
			c.t.Fatalf("%T: publishes stratum %d, follows stratum %d", ev, s.Stratum, p.Last.Stratum)
		}
	}
	if v.Mode == timer.Orphan && s.Stratum <= c.spec.Holdover.Stratum {
		c.t.Fatalf("%T: an orphan's stratum is %d, a holdover's %d", ev, s.Stratum, c.spec.Holdover.Stratum)
	}
	if c.told.Stratum < 16 && c.told.RefID == s.RefID && v.Mode == timer.Holding && s.Stratum < c.told.Stratum && c.told.Stratum != c.spec.Holdover.Stratum {
		c.t.Fatalf("%T: a holdover makes stratum %d of %d", ev, s.Stratum, c.told.Stratum)
	}
	if v.Mode == timer.Holding && v.Bound-v.Offset.Abs() > c.spec.Holdover.Bound && s.Stratum < c.spec.Holdover.Stratum {
		c.t.Fatalf("%T: bound %s is beyond the limit, stratum %d", ev, v.Bound, s.Stratum)
	}
}

func (c *chaos) viewed(ev timer.Event) {
	v := c.timer.View(c.now)
	bad := func(what string, x any) { c.t.Fatalf("%T: %s is %v in %+v", ev, what, x, v) }
	for what, x := range map[string]float64{"frequency": v.Frequency, "rate's sigma": v.RateSigma} {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			bad(what, x)
		}
	}
	if v.Age >= 0 && (v.Bound < 0 || v.RateSigma < 0) {
		bad("bound", v.Bound)
	}
	for _, s := range v.Sources {
		if s.Jitter < 0 || s.Delay < 0 || s.Distance < 0 || s.Poll < time.Second || s.Age >= 0 && s.Good == 0 {
			bad("source", s)
		}
	}
}

// unasked are answers to what wasn't asked or has ended: they change nothing.
func (c *chaos) unasked() {
	bogus := []timer.Event{timer.Answer{Source: 1 + c.r.IntN(9), Query: 1 << 60, Reply: c.reply(-1)}, timer.Answer{Source: 99, Query: 1},
		timer.Answer{Source: 1 + c.r.IntN(9), Reply: c.reply(-1)}, timer.Silence{Source: 1 + c.r.IntN(9), Query: 0}}
	if len(c.old) > 0 {
		q := c.old[c.r.IntN(len(c.old))]
		bogus = append(bogus, timer.Answer{Source: q.ID, Query: q.Query, Reply: c.reply(-1)}, timer.Silence{Source: q.ID, Query: q.Query, Code: "ntp-timeout"})
	}
	for range 3 { // what an event changes may have its effect in the next Step
		for _, a := range c.timer.Step(c.now, timer.Tick{}) {
			if q, ok := a.(timer.Query); ok {
				c.asked = append(c.asked, q)
			}
		}
	}
	for _, ev := range bogus {
		c.stay(ev)
	}
}

func (c *chaos) stay(ev timer.Event) {
	before := c.timer.View(c.now)
	for _, a := range c.timer.Step(c.now, ev) {
		switch a := a.(type) {
		case timer.Wake:
			c.wake = a.At
		default:
			c.t.Fatalf("%T that wasn't asked for: %T %+v", ev, a, a)
		}
	}
	if after := c.timer.View(c.now); !reflect.DeepEqual(before, after) {
		c.t.Fatalf("%T that wasn't asked for: %+v became %+v", ev, before, after)
	}
}

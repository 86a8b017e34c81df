package timer_test

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"komainu/ntp/instant"
	"komainu/ntp/server"
	"komainu/ntp/source"
	"komainu/ntp/timer"
	"komainu/ntp/wall"
)

// noon of 2026-11-20 UTC is when the world begins, in true time.
const noon = wall.Time(1_795_176_000_000_000_000)

// world is true time, servers that behave as they are told, and boxes.
type world struct {
	t       *testing.T
	out     strings.Builder
	begin   wall.Time
	at      time.Duration // true time since begin
	servers map[string]*host
	boxes   []*box
	brief   bool // leave out of the transcript what happens all the time
}

// host is a time server by its address.
type host struct {
	ahead  time.Duration // its clock less true time
	way    time.Duration // each way, at least
	jitter time.Duration // on top of it, there and back by turns
	asked  int
	is     source.Reply // what it says of itself
	silent string       // code of the silence; empty: it answers
	box    *box         // it is a box of ours
}

// box is a timer with a kernel under it.
type box struct {
	w       *world
	name    string
	spec    timer.Spec
	timer   *timer.Timer
	crystal float64       // s/s, by which the oscillator is fast
	off     float64       // s, wall clock less true time
	raw     float64       // s, oscillator less true time since the beginning
	slept   time.Duration // that the oscillator didn't count
	ppm     float64       // correction
	slew    float64       // s, to be removed
	share   float64       // of it per second
	refuses map[string]string
	names   map[int][]string // addresses by upstream
	coming  []coming
	wake    instant.Instant
	state   server.State
	told    timer.SetSync
	drift   timer.Drift
}

// coming is an event on its way to a box.
type coming struct {
	at   time.Duration
	say  string
	ev   timer.Event
	seal func() timer.Event // makes the event when it comes
}

func newWorld(t *testing.T) *world {
	return &world{t: t, begin: noon, servers: map[string]*host{}}
}

// serve adds a stratum 1 server.
func (w *world) serve(addr string, ahead time.Duration) *host {
	h := &host{ahead: ahead, way: time.Millisecond, jitter: 40 * time.Microsecond,
		is: source.Reply{Stratum: 1, Precision: -20, RootDispersion: 500 * time.Microsecond, RefID: 0x47505300}}
	w.servers[addr] = h
	return h
}

// spec is a usual configuration with an upstream for each address or name.
func spec(upstreams ...string) timer.Spec {
	s := timer.Spec{MinSources: 1, StepOver: 100 * time.Millisecond, MaxSlew: 500, Panic: 10 * time.Second, ID: 0x0a000001, Precision: -23, Seed: 1}
	s.Holdover = timer.Holdover{Bound: 50 * time.Millisecond, Stratum: 10, Max: 24 * time.Hour}
	s.Crystal.Ageing, s.Crystal.Temperature = 0.1, 2
	for _, u := range upstreams {
		s.Upstreams = append(s.Upstreams, timer.Upstream{Name: u, Port: 123, MinPoll: 4, MaxPoll: 10})
	}
	return s
}

// box adds a box that is off by off and whose crystal is ppm fast. Upstreams
// whose names are addresses resolve to themselves.
func (w *world) box(name string, s timer.Spec, off time.Duration, ppm float64) *box {
	b := &box{w: w, name: name, spec: s, timer: timer.New(s), crystal: ppm / 1e6, off: off.Seconds(), refuses: map[string]string{}, names: map[int][]string{}}
	for i, u := range s.Upstreams {
		if _, err := netip.ParseAddr(u.Name); err == nil {
			b.names[i] = []string{u.Name}
		}
	}
	w.boxes = append(w.boxes, b)
	return b
}

// start is the box's first event.
func (b *box) start(d timer.Drift) {
	b.say("-- the time daemon starts, clock off by %s", short(b.error()))
	b.step(timer.Started{Drift: d, Kernel: b.ppm})
}

func (b *box) error() time.Duration { return time.Duration(math.Round(b.off * 1e9)) }

// reading is the box's clocks now.
func (b *box) reading() wall.Reading {
	raw := b.w.at + time.Duration(b.raw*1e9)
	return wall.Reading{Boot: instant.Instant(time.Minute + raw + b.slept), Raw: wall.Raw(time.Minute + raw), Wall: b.w.begin.Add(b.w.at + b.error())}
}

// boot is the reading of the boot clock at a true time, by today's rate.
func (b *box) due() time.Duration {
	left := b.wake.Sub(b.reading().Boot).Seconds()
	return b.w.at + max(time.Duration(left/(1+b.crystal)*1e9), 0)
}

func (w *world) advance(to time.Duration) {
	dt := (to - w.at).Seconds()
	for _, b := range w.boxes {
		b.raw += dt * b.crystal
		removed := b.slew * (1 - math.Pow(1-b.share, dt))
		b.slew -= removed
		b.off += dt*(b.crystal+b.ppm/1e6) + removed
	}
	w.at = to
}

// run lets time pass.
func (w *world) run(d time.Duration) {
	for end := w.at + d; ; {
		next, who, which := end, (*box)(nil), -1
		for _, b := range w.boxes {
			if b.wake != 0 && b.due() < next {
				next, who, which = b.due(), b, -1
			}
			for i, c := range b.coming {
				if c.at < next {
					next, who, which = c.at, b, i
				}
			}
		}
		w.advance(max(next, w.at))
		switch {
		case who == nil:
			return
		case which < 0:
			who.wake = 0
			who.step(timer.Tick{})
		default:
			c := who.coming[which]
			who.coming = append(who.coming[:which:which], who.coming[which+1:]...)
			if c.seal != nil {
				c.ev = c.seal()
			}
			if c.say != "" && !w.brief {
				who.say("%s%s", c.say, describe(c.ev))
			}
			who.step(c.ev)
		}
	}
}

func (b *box) say(format string, args ...any) {
	name := ""
	if len(b.w.boxes) > 1 {
		name = b.name + ": "
	}
	at := fmt.Sprintf("%12.3f", b.w.at.Seconds())
	if b.w.brief {
		s := int(b.w.at.Round(time.Second).Seconds())
		at = fmt.Sprintf("%3d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	fmt.Fprintf(&b.w.out, "%s  %s%s\n", at, name, fmt.Sprintf(format, args...))
}

func (w *world) say(format string, args ...any) {
	all := w.boxes
	w.boxes = all[:1] // without a name
	w.boxes[0].say("-- "+format, args...)
	w.boxes = all
}

// step gives the timer an event and does what it says.
func (b *box) step(ev timer.Event) {
	queue := []timer.Event{ev}
	for len(queue) > 0 {
		ev, queue = queue[0], queue[1:]
		for _, a := range b.timer.Step(b.reading(), ev) {
			if line := b.line(a); line != "" {
				b.say("%s", line)
			}
			kind := b.execute(a)
			if why := b.refuses[kind]; why != "" {
				queue = append(queue, timer.Failed{Action: kind, Detail: why})
			}
		}
	}
}

// execute does it, and says which adjustment of the kernel it was.
func (b *box) execute(a timer.Action) string {
	switch a := a.(type) {
	case timer.Wake:
		b.wake = a.At
	case timer.Resolve:
		b.coming = append(b.coming, coming{at: b.w.at + 20*time.Millisecond, say: "resolved " + b.spec.Upstreams[a.Upstream].Name, seal: func() timer.Event {
			r := timer.Resolved{Upstream: a.Upstream}
			for _, s := range b.names[a.Upstream] {
				r.Addrs = append(r.Addrs, netip.MustParseAddr(s))
			}
			return r
		}})
	case timer.Query:
		b.ask(a)
	case timer.SetFrequency:
		if b.refuses["frequency"] == "" {
			b.ppm = a.PPM
		}
		return "frequency"
	case timer.Slew:
		if b.refuses["slew"] == "" {
			b.slew, b.share = a.Offset.Seconds(), 1/float64(int(4)<<a.Constant)
		}
		return "slew"
	case timer.StepClock:
		if b.refuses["step"] == "" {
			b.off, b.slew = b.off+a.By.Seconds(), 0
		}
		return "step"
	case timer.SetLeap:
		return "leap"
	case timer.SetSync:
		b.told = a
	case timer.Publish:
		b.state = a.State
	case timer.Save:
		b.drift = a.Drift
	}
	return ""
}

// ask sends a query through the world.
func (b *box) ask(q timer.Query) {
	h := b.w.servers[q.Addr.Addr().String()]
	sent := b.reading().Wall
	lost := func(code string, after time.Duration) {
		b.coming = append(b.coming, coming{at: b.w.at + after, say: fmt.Sprintf("nothing from %s", q.Addr.Addr()), ev: timer.Silence{Source: q.ID, Query: q.Query, Code: code}})
	}
	if h == nil || h.silent != "" {
		code := "ntp-timeout"
		if h != nil {
			code = h.silent
		}
		lost(code, q.Timeout)
		return
	}
	h.asked++
	there, back := h.way, h.way
	if h.asked%2 == 0 {
		there += h.jitter * time.Duration(h.asked%5)
	} else {
		back += h.jitter * time.Duration(h.asked%7)
	}
	reply := h.is
	if h.box != nil {
		s := h.box.state
		reply.Leap, reply.Stratum, reply.RefID, reply.RootDelay = s.Leap, s.Stratum, s.RefID, s.RootDelay
		reply.RootDispersion = s.RootDispersion(h.box.reading().Wall)
		h.ahead = h.box.error()
	}
	reply.ServerReceived = b.w.begin.Add(b.w.at + there + h.ahead)
	reply.ServerSent = reply.ServerReceived.Add(20 * time.Microsecond)
	reply.Sent = sent
	b.coming = append(b.coming, coming{at: b.w.at + there + back + 20*time.Microsecond, say: fmt.Sprintf("answer of %s", q.Addr.Addr()), seal: func() timer.Event {
		reply.At = b.reading()
		reply.Received = reply.At.Wall
		return timer.Answer{Source: q.ID, Query: q.Query, Reply: reply}
	}})
}

// set is a foreign hand on the clock.
func (b *box) set(by time.Duration) {
	b.say("-- somebody sets the clock by %s", by)
	b.off += by.Seconds()
	b.step(timer.Tick{})
}

// suspend puts the box to sleep; its hardware clock is wrong by off then.
func (b *box) suspend(d, off time.Duration) {
	b.say("-- the box sleeps for %s", d)
	raw, clock, slew := b.raw, b.off, b.slew
	b.w.advance(b.w.at + d)
	b.raw, b.off, b.slew = raw-d.Seconds(), clock+off.Seconds(), slew
	b.slept += d
	b.step(timer.Tick{})
}

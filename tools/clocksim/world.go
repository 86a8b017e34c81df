package main

import (
	"container/heap"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"komainu/ntp/instant"
	"komainu/ntp/leap"
	"komainu/ntp/server"
	"komainu/ntp/source"
	"komainu/ntp/timer"
	"komainu/ntp/wall"
)

// stepper decides: *timer.Timer, or in tests something simpler.
type stepper interface {
	Step(r wall.Reading, ev timer.Event) []timer.Action
}

// Latencies of the daemon and the resolver.
const (
	afterReply = 20 * int64(time.Microsecond) // from a reply's time stamp to the daemon
	resolving  = 5 * int64(time.Millisecond)
	mostSteps  = 10_000 // at one moment; more is a loop that never ends
)

// world is one run: a clock, a network, servers, and the daemon between them.
// Times are true time in ns after the start.
type world struct {
	sc      *scenario
	seed    uint64
	clock   kernel
	sources []*upstream
	leapAt  int64 // when UTC has its leap second; 0: never
	queue   queue
	order   uint64
	noise   *rand.Rand
	luck    *rand.Rand

	build   func(timer.Spec) stepper
	daemon  stepper // nil: not running
	life    int     // which daemon it is
	wake    instant.Instant
	saved   timer.Drift
	deaf    bool // the resolver doesn't answer
	queries map[uint64]bool
	steps   int // at this moment
	moment  int64

	state server.State
	rec   recorder
	log   io.Writer // transcript; nil: none
	chat  bool      // Ticks and Wakes too
	fail  []error   // what no daemon may do
}

// item is something that happens at a time.
type item struct {
	at  int64
	seq uint64
	do  func()
}

type queue []item

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(item)) }
func (q *queue) Pop() any {
	last := len(*q) - 1
	it := (*q)[last]
	(*q)[last] = item{}
	*q = (*q)[:last]
	return it
}

func newWorld(sc *scenario, seed uint64, build func(timer.Spec) stepper) (*world, error) {
	w := &world{sc: sc, seed: seed, build: build, noise: stream(seed, "reading"), luck: stream(seed, "luck"), queries: map[uint64]bool{}, saved: sc.drift, rec: newRecorder()}
	w.state = server.State{Leap: 3, Stratum: 16}
	tr := &trace{}
	if sc.trace != "" {
		var err error
		if tr, err = readTrace(sc); err != nil {
			return nil, err
		}
	}
	c := sc.crystal
	start := w.luck
	if sc.spread > 0 {
		c.offset += (2*start.Float64() - 1) * sc.spread
	}
	w.clock = kernel{crystal: newOscillator(c, sc.jumps, tr.oscillator, seed), origin: int64(sc.start) / second, frequency: sc.kernel * 1e-6}
	off := float64(sc.offset[0]) + start.Float64()*float64(sc.offset[1]-sc.offset[0])
	if sc.either && start.Float64() < 0.5 {
		off = -off
	}
	w.clock.wall = off
	if sc.leap != 0 {
		w.leapAt = int64(sc.leapDay.Sub(sc.start))
	}
	for i, u := range sc.sources {
		s := *u
		s.index = i
		s.telly = s.begin
		s.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 123)
		s.net = newNetwork(seed, u.name, sc.slot, u.ways, tr.network[u.name])
		w.sources = append(w.sources, &s)
	}
	return w, nil
}

// utc is true time as the wall shows it. A leap second is inserted by going
// through the last second of the day twice.
func (w *world) utc(now int64) wall.Time {
	t := w.sc.start + wall.Time(now)
	if w.leapAt != 0 && now >= w.leapAt {
		t -= wall.Time(w.sc.leap) * wall.Time(second)
	}
	return t
}

// err is how far the wall clock is ahead of UTC, ns. Around a leap second it is
// of no account which of the two has it first.
func (w *world) err() float64 {
	e := w.clock.wall
	if w.leapAt == 0 {
		return e
	}
	if w.clock.now >= w.leapAt {
		e += float64(w.sc.leap) * 1e9
	}
	if d := w.clock.now - w.leapAt; d > -2*second && d < 2*second && math.Abs(e) > 0.5e9 {
		e -= math.Copysign(1e9, e)
	}
	return e
}

// bound is the root distance that a client computes from what we publish, ns;
// false when we say that we aren't synchronised.
func (w *world) bound() (float64, bool) {
	s := &w.state
	if s.Leap == 3 || s.Stratum == 0 || s.Stratum > 15 {
		return 0, false
	}
	return float64(s.RootDelay)/2 + float64(s.RootDispersion(w.wallNow())), true
}

func (w *world) wallNow() wall.Time {
	return w.sc.start + wall.Time(w.clock.now) + wall.Time(math.Floor(w.clock.wall))
}

// stamp is a time stamp of the wall clock.
func (w *world) stamp() wall.Time {
	t := w.wallNow()
	if w.sc.noise > 0 {
		t += wall.Time(w.noise.NormFloat64() * float64(w.sc.noise))
	}
	return t
}

// reading is the box's clocks now. It was booted an hour before the start.
func (w *world) reading() wall.Reading {
	const up = 3600 * second
	return wall.Reading{
		Boot: instant.Instant(up + w.clock.now + int64(math.Floor(w.clock.boot))),
		Raw:  wall.Raw(up + w.clock.now + int64(math.Floor(w.clock.raw))),
		Wall: w.stamp(),
	}
}

func (w *world) at(t int64, do func()) {
	w.order++
	heap.Push(&w.queue, item{at: max(t, w.clock.now), seq: w.order, do: do})
}

// run plays the scenario to its end.
func (w *world) run() error {
	end := int64(w.sc.duration)
	w.start()
	for _, a := range w.sc.acts {
		w.at(a.at, func() {
			w.say("      ", "%s", a.text)
			a.do(w)
		})
	}
	next := int64(0)
	for len(w.fail) == 0 {
		t := min(next, end)
		if len(w.queue) > 0 {
			t = min(t, w.queue[0].at)
		}
		ring := w.ringing()
		if ring >= 0 {
			t = min(t, ring)
		}
		w.clock.advance(t)
		switch {
		case len(w.queue) > 0 && w.queue[0].at <= t:
			heap.Pop(&w.queue).(item).do()
		case ring >= 0 && ring <= t && w.reading().Boot >= w.wake:
			w.wake = 0
			w.step(timer.Tick{})
		case t >= end:
			return w.ended()
		case next <= t:
			w.sample()
			next += int64(w.sc.sample)
		}
	}
	return w.ended()
}

// ended closes the record.
func (w *world) ended() error {
	w.rec.end(w)
	return errors.Join(w.fail...)
}

// ringing is when the alarm that Wake set rings, -1: not at all. The boot clock
// isn't true, so it may be asked again.
func (w *world) ringing() int64 {
	if w.wake == 0 || w.daemon == nil || w.clock.suspended {
		return -1
	}
	left := float64(w.wake.Sub(w.reading().Boot))
	if left <= 0 {
		return w.clock.now
	}
	return w.clock.now + max(1, int64(left/(1+w.clock.rate())))
}

// start starts the daemon.
func (w *world) start() {
	spec := w.sc.spec
	spec.Seed = w.seed + uint64(w.life)
	w.life++
	for _, u := range w.sources {
		spec.Upstreams = append(spec.Upstreams, timer.Upstream{Name: u.name + ".example", Port: 123, Pool: u.pool, Auth: u.auth, Prefer: u.prefer, MinPoll: u.poll.min, MaxPoll: u.poll.max})
	}
	w.daemon = w.build(spec)
	w.queries = map[uint64]bool{}
	w.step(timer.Started{Drift: w.saved, Kernel: w.clock.frequency * 1e6})
	if w.sc.leapTable {
		t := leap.Table{Updated: w.sc.start - wall.Time(30*day*second), Expires: w.sc.start + wall.Time(300*day*second), Entries: []leap.Entry{{At: 1483228800e9, Offset: 37}}}
		if w.sc.leap != 0 {
			t.Entries = append(t.Entries, leap.Entry{At: w.sc.leapDay, Offset: 37 + w.sc.leap})
		}
		w.step(timer.LeapTable{Table: t})
	}
}

// kill ends the daemon without a word; the kernel goes on with what it has.
func (w *world) kill() {
	w.daemon, w.wake = nil, 0
	w.life++
	w.state = server.State{Leap: 3, Stratum: 16} // nobody answers
}

// later gives the daemon an event at t, unless it is another daemon by then;
// what comes during a suspension waits.
func (w *world) later(t int64, event func() timer.Event) {
	life := w.life
	w.at(t, func() {
		switch {
		case life != w.life || w.daemon == nil:
		case w.clock.suspended:
			w.at(w.clock.now+second, func() { w.later(w.clock.now, event) })
		default:
			if ev := event(); ev != nil {
				w.step(ev)
			}
		}
	})
}

// step tells the daemon of an event and does what it says.
func (w *world) step(ev timer.Event) {
	if w.daemon == nil || len(w.fail) > 0 {
		return
	}
	if w.moment != w.clock.now {
		w.moment, w.steps = w.clock.now, 0
	}
	if w.steps++; w.steps > mostSteps {
		w.wrong("%d events at one moment: the daemon wakes without end", w.steps)
		return
	}
	w.logEvent(ev)
	for _, a := range w.daemon.Step(w.reading(), ev) {
		w.logAction(a)
		w.act(a)
	}
}

// wrong notes what no daemon may do; the run ends and fails.
func (w *world) wrong(format string, args ...any) {
	w.fail = append(w.fail, fmt.Errorf("at %v: %s", time.Duration(w.clock.now), fmt.Sprintf(format, args...)))
}

// act does an action of the daemon's.
func (w *world) act(a timer.Action) {
	switch a := a.(type) {
	case timer.Wake:
		w.wake = a.At
	case timer.Resolve:
		w.resolve(a)
	case timer.Query:
		w.query(a)
	case timer.SetFrequency:
		if math.IsNaN(a.PPM) || math.Abs(a.PPM) > 500 {
			w.wrong("SetFrequency %v: the kernel takes -500 to 500", a.PPM)
			return
		}
		w.clock.setFrequency(a.PPM)
	case timer.Slew:
		if a.Offset.Abs() > 500*time.Millisecond || a.Constant < 0 || a.Constant > 10 {
			w.wrong("Slew %v constant %d: the kernel takes 0.5 s and 0 to 10", a.Offset, a.Constant)
			return
		}
		w.clock.slew(a.Offset, a.Constant)
	case timer.StepClock:
		w.clock.step(a.By)
		w.rec.stepped(w.clock.now)
	case timer.SetLeap:
		w.clock.arm(a.Seconds)
	case timer.Publish:
		w.state = a.State
		w.rec.published(w)
	case timer.Save:
		w.saved = a.Drift
		w.rec.count(w.clock.now, "saves")
	case timer.Alarm:
		w.rec.alarm(w.clock.now, a)
	case timer.Note:
		w.rec.count(w.clock.now, "note "+a.Code)
	case timer.Done:
		w.rec.count(w.clock.now, "done "+a.Code)
	}
	if w.sc.spec.NoClock {
		switch a.(type) {
		case timer.SetFrequency, timer.Slew, timer.StepClock, timer.SetLeap:
			w.wrong("%T with a clock that isn't ours", a)
		}
	}
}

func (w *world) resolve(a timer.Resolve) {
	if a.Upstream < 0 || a.Upstream >= len(w.sources) {
		w.wrong("Resolve %d: there is no such upstream", a.Upstream)
		return
	}
	w.later(w.clock.now+resolving, func() timer.Event {
		r := timer.Resolved{Upstream: a.Upstream}
		if !w.deaf {
			r.Addrs = []netip.Addr{w.sources[a.Upstream].addr.Addr()}
		}
		return r
	})
}

// query sends a request through the network and brings back what comes of it.
func (w *world) query(q timer.Query) {
	var u *upstream
	for _, s := range w.sources {
		if s.addr == q.Addr {
			u = s
		}
	}
	switch {
	case u == nil:
		w.wrong("Query %v: nobody lives there", q.Addr)
		return
	case w.queries[q.Query]:
		w.wrong("Query %d is used again", q.Query)
		return
	case q.Timeout <= 0:
		w.wrong("Query %d has timeout %v", q.Query, q.Timeout)
		return
	}
	w.queries[q.Query] = true
	u.asked = append(u.asked, w.clock.now)
	sent, deadline := w.stamp(), w.clock.now+int64(q.Timeout)
	d := u.net.at(w.clock.now)
	answered := false
	w.later(deadline, func() timer.Event {
		if answered {
			return nil
		}
		answered = true
		return timer.Silence{Source: q.ID, Query: q.Query, Code: "ntp-timeout"}
	})
	if d.forward == lost || u.silent {
		return
	}
	w.at(w.clock.now+d.forward, func() {
		if u.silent {
			return
		}
		r := w.answer(u, w.clock.now)
		back := w.clock.now + turnaround + d.back
		if d.back == lost || back > deadline {
			return
		}
		life := w.life
		w.at(back, func() {
			if w.clock.suspended || life != w.life || answered {
				return
			}
			answered = true
			r.Sent, r.Received = sent, w.stamp()
			w.reply(q, r, back+afterReply)
			if u.again > 0 && w.luck.Float64() < u.again {
				w.reply(q, r, back+int64(time.Millisecond))
			}
		})
	})
}

// reply brings a reply to the daemon at t.
func (w *world) reply(q timer.Query, r source.Reply, t int64) {
	w.later(t, func() timer.Event {
		r.At = w.reading()
		return timer.Answer{Source: q.ID, Query: q.Query, Reply: r}
	})
}

// sample records the state of things.
func (w *world) sample() {
	if w.clock.suspended {
		return
	}
	w.rec.sample(w)
}

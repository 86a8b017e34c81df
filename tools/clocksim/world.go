package main

import (
	"container/heap"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"komainu/ntp/instant"
	"komainu/ntp/server"
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

// sample records the state of things.
func (w *world) sample() {
	if w.clock.suspended {
		return
	}
	w.rec.sample(w)
}

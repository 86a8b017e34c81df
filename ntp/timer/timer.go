package timer

import (
	"time"

	"komainu/ntp/discipline"
	"komainu/ntp/holdover"
	"komainu/ntp/instant"
	"komainu/ntp/leap"
	"komainu/ntp/server"
	"komainu/ntp/source"
	"komainu/ntp/wall"
)

// Mode says what the box's time is worth.
type Mode uint8

// The modes; Step moves between them in judge (mode.go).
const (
	Starting       Mode = iota // sources are being asked for the first time
	Synchronised               // the clock follows a majority of the sources
	Holding                    // it did, and its error is still known
	Orphan                     // it agrees with its neighbours, nothing else is known
	Unsynchronised             // nothing is known
)

func (m Mode) String() string {
	return [...]string{"starting", "synchronised", "holdover", "orphan", "unsynchronised"}[m]
}

// Timer is the state of the time daemon's decisions. Its owner calls Step from
// one goroutine.
type Timer struct {
	spec Spec
	now  wall.Reading
	out  []Action

	peers     []*peer
	upstreams []upstream
	ids       int
	queries   uint64
	random    uint64

	mode    Mode
	modeAt  instant.Instant
	started instant.Instant
	prior   source.Prior // the oscillator's rate when nothing is measured yet
	truth   truth
	clock   discipline.Clock
	sent    discipline.Correction // what the kernel was told last
	doubt   doubt
	rivals  int            // how often in a row another source counted more than the followed one
	panics  time.Duration  // offset that was too large to correct; 0: none
	refused map[string]int // kind of action that failed: how often it was tried since

	history holdover.History
	slot    slot
	savedAt instant.Instant

	table   leap.Table
	listed  bool // the table was read, not built in
	leaping leaping
	leaped  wall.Time // midnight after the last leap second
	tai     int       // TAI − UTC that the kernel was told; 0: none

	state       server.State
	publishedAt instant.Instant
	alarms      alarms
	handAt      instant.Instant // when somebody last moved the clock
	settled     bool            // at start: every source was heard or given up
}

// truth is what the followed sources say together: true time over the
// oscillator, and what surrounds it.
type truth struct {
	source.Estimate
	known      bool
	since      instant.Instant // the sources and our clock have agreed
	at         instant.Instant // of the last agreement
	wall       wall.Time       // likewise
	best       int             // ID of the source that counts most
	weights    map[int]float64 // by ID
	stratum    uint8           // ours
	refID      uint32
	leaps      float64 // part of the true sources that announces a leap second, see leapVotes
	rootDelay  float64 // s
	dispersion float64 // s, at that time
	wander     float64 // (s/s)² per second
}

// doubt is a majority that contradicts our own clock.
type doubt struct {
	since instant.Instant // 0: none
	by    time.Duration
}

// Timing of the daemon itself.
const (
	settleMax    = 20 * time.Second // at start, slower sources aren't waited for
	settleAfter  = 3                // replies of each source
	publishEvery = 16 * time.Second
	saveEvery    = time.Hour
	credible     = 15 * time.Minute // after that our own clock is a witness against the sources
	doubtFor     = 5 * time.Minute  // a majority that contradicts a good clock must stand that long
	doubtForMore = time.Hour        // likewise, when it is off by more than a step
	handShown    = time.Hour        // the alarm that somebody set the clock
	handAgain    = 10 * time.Minute // who sets it again within that time means it, or is another daemon
	rateUnknown  = 100e-6           // s/s: a PC's crystal, one standard deviation
)

// New returns a timer that has not been started.
func New(spec Spec) *Timer {
	return &Timer{spec: spec, random: spec.Seed, upstreams: make([]upstream, len(spec.Upstreams)),
		refused: map[string]int{}, alarms: alarms{}, table: leap.Builtin()}
}

// Step takes an event that happened at r and returns what must be done, in
// that order. Readings never go back but for Wall.
func (t *Timer) Step(r wall.Reading, ev Event) []Action {
	last := t.now
	t.now, t.out = r, nil
	if start, ok := ev.(Started); ok {
		t.start(start)
	} else {
		t.watchClocks(last)
	}
	switch e := ev.(type) {
	case Resolved:
		t.resolved(e)
	case Answer:
		t.answered(e)
	case Silence:
		t.silent(e)
	case Failed:
		if _, before := t.refused[e.Action]; !before {
			t.note("note-time-refused", e.Action, e.Detail)
		}
		t.refused[e.Action] = 0
	case LeapTable:
		t.table, t.listed = e.Table, true
	case Order:
		t.order(e)
	case Stopping:
		t.save()
		return t.out
	}
	t.judge()
	t.plan()
	t.learn()
	t.tellTAI()
	t.publish()
	t.raise()
	t.wake()
	return t.out
}

// do adds an action. What failed is right again when it is tried once more
// after a try that didn't end in Failed. A step or a leap second isn't tried
// again by itself; it counts as tried with every new frequency.
func (t *Timer) do(a Action) {
	t.out = append(t.out, a)
	for what, tries := range t.refused {
		switch k := Kind(a); {
		case k != what && (k != "frequency" || what != "step" && what != "leap"):
		case tries > 0:
			delete(t.refused, what)
		default:
			t.refused[what]++
		}
	}
}

func (t *Timer) note(code string, args ...string) { t.do(Note{Code: code, Args: args}) }

// start takes over what the last run left.
func (t *Timer) start(s Started) {
	t.started, t.savedAt, t.modeAt = t.now.Boot, t.now.Boot, t.now.Boot
	t.prior = source.Prior{Rate: s.Kernel / 1e6, Sigma: rateUnknown}
	if d := s.Drift; d.Plausible() {
		t.prior = source.Prior{Rate: d.Frequency / 1e6, Sigma: max(3*d.Error/1e6, 1e-7)}
		t.history.Points = d.History
	} else if d.At != 0 {
		t.note("note-time-drift-ignored")
	}
	t.clock.Moved(t.now)
	t.clock.SetFrequency(s.Kernel)
	t.sent.Frequency = s.Kernel
	if !t.spec.NoClock {
		t.setFrequency(t.prior.Rate)
		t.do(Slew{}) // what a daemon before us left under way
		t.do(SetSync{})
	}
	for i := range t.spec.Upstreams {
		t.upstreams[i].next = t.now.Boot
	}
}

// watchClocks notices time that the oscillator didn't count, a leap second,
// and somebody else's hand on the clock.
func (t *Timer) watchClocks(last wall.Reading) {
	slept := t.now.Boot.Sub(last.Boot) - t.now.Raw.Sub(last.Raw)
	if slept > time.Second+t.now.Boot.Sub(last.Boot)/100 {
		t.slept(slept)
		return
	}
	moved := t.clock.Moved(t.now)
	if t.leap(last, moved) || moved == 0 || t.spec.NoClock {
		return
	}
	again := t.handAt != 0 && t.now.Boot.Sub(t.handAt) < handAgain
	t.void()
	t.handAt = t.now.Boot
	t.publishedAt = 0 // clients are told at once, and the kernel no longer counts as synchronised
	if t.leaping.at != 0 {
		t.do(SetLeap{Seconds: t.leaping.seconds}) // the kernel forgets it when somebody sets the clock
	}
	t.note("note-time-set-by-hand", moved.String())
	if t.truth.known && moved.Abs() > t.spec.StepOver && !again {
		t.stepClock(-moved) // undoes what isn't ours, corrects nothing
		return
	}
	t.slew(0, 0) // the kernel forgot what was under way
}

// slept carries on after a suspend: the sources moved on, the oscillator's
// counter did not. How long it was is known to a second or so.
func (t *Timer) slept(d time.Duration) {
	t.void()
	t.clock = discipline.Clock{}
	t.clock.Moved(t.now)
	t.clock.SetFrequency(t.sent.Frequency)
	if !t.spec.NoClock {
		t.slew(0, 0) // the kernel goes on with what is left, and that is nobody's hand
	}
	for _, p := range t.peers {
		p.Filter.Shift(d)
		p.Filter.Loosen(1)
		p.Hurry(t.now.Boot)
	}
	t.truth.known, t.mode, t.modeAt, t.settled, t.started, t.doubt, t.panics = false, Starting, t.now.Boot, false, t.now.Boot, doubt{}, 0
	t.slot = slot{}
	t.note("note-time-slept", d.Round(time.Second).String())
}

// stepClock moves the wall clock and everything that counts on it.
func (t *Timer) stepClock(by time.Duration) {
	t.void()
	t.do(StepClock{By: by})
	t.clock.Stepped(by)
	t.now.Wall, t.truth.wall = t.now.Wall.Add(by), t.truth.wall.Add(by)
	t.note("note-time-stepped", by.String())
}

func (t *Timer) setFrequency(rate float64) {
	ppm := min(max(rate*1e6, -discipline.MaxFrequency), discipline.MaxFrequency)
	t.do(SetFrequency{PPM: ppm})
	t.clock.SetFrequency(ppm)
	t.sent.Frequency = ppm
}

// wake asks to be called when the next thing is due.
func (t *Timer) wake() {
	at := t.now.Boot.Add(publishEvery)
	for i := range t.upstreams {
		if u := &t.upstreams[i]; u.next != 0 {
			at = min(at, u.next)
		}
	}
	for _, p := range t.peers {
		if p.query == 0 && !t.nearLeap() {
			at = min(at, p.Next())
		}
	}
	if t.nearLeap() {
		at = min(at, t.now.Boot.Add(time.Second))
	}
	t.do(Wake{At: max(at, t.now.Boot.Add(time.Millisecond))})
}

// spread is the next number of a fixed sequence, 0 to 1 (splitmix64).
func (t *Timer) spread() float64 {
	t.random += 0x9e3779b97f4a7c15
	z := t.random
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return float64((z^z>>31)>>11) / (1 << 53)
}

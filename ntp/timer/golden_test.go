package timer_test

import (
	"testing"
	"time"

	"komainu/ntp/holdover"
	"komainu/ntp/timer"
)

const (
	a1 = "10.0.1.1"
	a2 = "10.0.1.2"
	a3 = "10.0.1.3"
)

// followed is a world with a box that has been following good servers for d.
func followed(t *testing.T, d time.Duration, s timer.Spec) (*world, *box) {
	w := newWorld(t)
	w.brief = true
	for _, u := range s.Upstreams {
		w.serve(u.Name, 0)
	}
	b := w.box("box", s, 300*time.Millisecond, 12)
	b.start(timer.Drift{})
	w.run(d)
	return w, b
}

func TestStartWithOne(t *testing.T) {
	w := newWorld(t)
	w.serve(a1, 0)
	w.box("box", spec(a1), -3*time.Second, 20).start(timer.Drift{})
	w.run(40 * time.Second)
	w.golden("start-one")
}

func TestStartWithThree(t *testing.T) {
	w := newWorld(t)
	for _, a := range []string{a1, a2, a3} {
		w.serve(a, 0)
	}
	s := spec(a1, a2, a3)
	s.MinSources = 2
	w.box("box", s, 60*time.Millisecond, -8).start(timer.Drift{Frequency: 7.9, Error: 0.1, At: noon})
	w.run(12 * time.Second)
	w.golden("start-three")
}

func TestNoUpstreamAtStart(t *testing.T) {
	w := newWorld(t)
	w.serve(a1, 0).silent = "ntp-unreachable"
	s := spec(a1)
	s.Orphan = 12
	w.box("box", s, time.Hour, 0).start(timer.Drift{})
	w.run(2 * time.Minute)
	w.say("the line is up")
	w.servers[a1].silent = ""
	w.run(time.Minute)
	w.golden("no-upstream-at-start")
}

func TestAllWrong(t *testing.T) {
	w := newWorld(t)
	w.brief = true
	w.serve(a1, -5*time.Hour)
	w.serve(a2, 20*time.Minute)
	w.serve(a3, 3*time.Second)
	s := spec(a1, a2, a3)
	s.MinSources = 2
	b := w.box("box", s, 0, 5)
	b.start(timer.Drift{})
	w.run(10 * time.Minute)
	b.order("1")
	w.golden("all-wrong")
}

func TestFalsetickers(t *testing.T) {
	s := spec(a1, a2, a3)
	s.MinSources = 2
	w, _ := followed(t, 20*time.Minute, s)
	w.say("%s goes wrong by 2 s", a2)
	w.servers[a2].ahead = 2 * time.Second
	w.run(2 * time.Hour)
	w.say("%s goes right again", a2)
	w.servers[a2].ahead = 0
	w.run(4 * time.Hour)
	w.golden("falseticker")
}

func TestLyingMajority(t *testing.T) {
	s := spec(a1, a2, a3)
	s.MinSources = 2
	w, _ := followed(t, 2*time.Hour, s)
	w.say("%s and %s go wrong by 60 ms", a1, a2)
	w.servers[a1].ahead, w.servers[a2].ahead = 60*time.Millisecond, 60*time.Millisecond
	w.run(4 * time.Hour)
	w.say("and by 40 s")
	w.servers[a1].ahead, w.servers[a2].ahead = 40*time.Second, 40*time.Second
	w.run(4 * time.Hour)
	w.golden("lying-majority")
}

func TestHoldover(t *testing.T) {
	w, b := followed(t, 3*time.Hour, spec(a1))
	w.say("%s is lost", a1)
	w.servers[a1].silent = "ntp-timeout"
	w.run(30 * time.Hour)
	w.say("%s returns; the clock is off by %s", a1, short(b.error()))
	w.servers[a1].silent = ""
	w.run(2 * time.Hour)
	w.golden("holdover")
}

func TestHoldoverThenOrphan(t *testing.T) {
	s := spec(a1)
	s.Orphan, s.Holdover.Max = 12, 2*time.Hour
	w, _ := followed(t, time.Hour, s)
	w.servers[a1].silent = "ntp-timeout"
	w.say("%s is lost", a1)
	w.run(3 * time.Hour)
	w.servers[a1].silent = ""
	w.say("%s returns", a1)
	w.run(2 * time.Hour)
	w.golden("holdover-orphan")
}

func TestSetByHand(t *testing.T) {
	w, b := followed(t, time.Hour, spec(a1))
	b.set(-90 * time.Second)
	w.run(5 * time.Minute)
	b.set(-5 * time.Second)
	w.run(2 * time.Hour)
	b.set(20 * time.Millisecond)
	w.run(time.Hour)
	w.golden("set-by-hand")
}

func TestSuspend(t *testing.T) {
	w, b := followed(t, time.Hour, spec(a1, a2))
	b.suspend(8*time.Hour, 400*time.Millisecond)
	w.run(30 * time.Minute)
	w.golden("suspend")
}

func TestKernelRefuses(t *testing.T) {
	w := newWorld(t)
	w.brief = true
	w.serve(a1, 0)
	b := w.box("box", spec(a1), time.Second, 4)
	for _, kind := range []string{"frequency", "slew", "step"} {
		b.refuses[kind] = "operation not permitted"
	}
	b.start(timer.Drift{})
	w.run(30 * time.Second)
	clear(b.refuses)
	w.say("the kernel obeys again")
	w.run(10 * time.Minute)
	w.golden("kernel-refuses")
}

func (b *box) order(id string) {
	b.say("-- order %s: step", id)
	b.step(timer.Order{ID: id, Step: true})
}

func TestOrders(t *testing.T) {
	w, b := followed(t, time.Hour, spec(a1))
	w.servers[a1].ahead = 61 * time.Second
	w.say("%s jumps by 61 s, and is right", a1)
	w.run(3 * time.Hour)
	b.order("1")
	w.run(time.Hour)
	w.servers[a1].silent = "ntp-timeout"
	w.run(6 * time.Hour)
	b.order("2")
	b.step(timer.Order{ID: "3"})
	w.golden("orders")
}

func TestNoClock(t *testing.T) {
	w := newWorld(t)
	w.brief = true
	w.serve(a1, 0)
	s := spec(a1)
	s.NoClock = true
	b := w.box("box", s, 40*time.Millisecond, 0)
	b.start(timer.Drift{})
	w.run(30 * time.Minute)
	b.order("1")
	b.set(time.Second)
	w.run(10 * time.Minute)
	w.golden("no-clock")
}

// TestDriftNonsense: what can't be of this oscillator isn't used at all.
func TestDriftNonsense(t *testing.T) {
	w := newWorld(t)
	good := timer.Drift{Frequency: 12.5, Error: 0.05, At: noon}
	for _, c := range []struct {
		name string
		d    timer.Drift
	}{
		{"good", good},
		{"none", timer.Drift{}},
		{"huge", timer.Drift{Frequency: 1e300, Error: 1, At: noon}},
		{"negative error", timer.Drift{Frequency: 1, Error: -1, At: noon}},
		{"no error", timer.Drift{Frequency: 1, At: noon}},
		{"absurd history", timer.Drift{Frequency: 1, Error: 1, At: noon, History: []holdover.Point{{Believed: 1, Mean: 1e9}}}},
		{"endless history", timer.Drift{Frequency: 1, Error: 1, At: noon, History: make([]holdover.Point, 20*holdover.Slots)}},
	} {
		b := w.box("box", spec(), 0, 0)
		w.boxes = []*box{b}
		b.say("-- drift file: %s", c.name)
		b.start(c.d)
	}
	w.golden("drift-nonsense")
}

func TestAuthMissing(t *testing.T) {
	s := spec(a1, a2)
	s.Upstreams[0].Auth = true
	w, _ := followed(t, 10*time.Minute, s)
	w.say("%s has the key now", a1)
	w.servers[a1].is.Authenticated = true
	w.run(30 * time.Minute)
	w.golden("auth-missing")
}

func TestKissRate(t *testing.T) {
	w := newWorld(t)
	h := w.serve(a1, 0)
	w.box("box", spec(a1), 0, 2).start(timer.Drift{})
	w.run(9 * time.Second)
	good := h.is
	h.is.Stratum, h.is.Kiss = 0, "RATE"
	w.run(70 * time.Second)
	h.is = good
	w.run(time.Minute)
	w.golden("kiss-rate")
}

func TestKissDeny(t *testing.T) {
	w, _ := followed(t, time.Hour, spec(a1, a2))
	good := w.servers[a2].is
	w.servers[a2].is.Stratum, w.servers[a2].is.Kiss = 0, "DENY"
	w.say("%s denies", a2)
	w.run(3 * time.Hour)
	w.say("%s allows again", a2)
	w.servers[a2].is = good
	w.run(4 * time.Hour)
	w.golden("kiss-deny")
}

func TestPoolReplacesSilent(t *testing.T) {
	w := newWorld(t)
	w.brief = true
	for _, a := range []string{a1, a2, a3} {
		w.serve(a, 0)
	}
	s := spec("pool.example")
	s.Upstreams[0].Pool = 2
	b := w.box("box", s, 0, 2)
	b.names[0] = []string{a1, a2, a3}
	b.start(timer.Drift{})
	w.run(30 * time.Minute)
	w.say("%s is lost; the name leads elsewhere", a1)
	w.servers[a1].silent = "ntp-timeout"
	b.names[0] = []string{a2, a3}
	w.run(6 * time.Hour)
	w.golden("pool")
}

func TestUnresolvedName(t *testing.T) {
	w := newWorld(t)
	w.brief = true
	w.serve(a1, 0)
	b := w.box("box", spec("ntp.example"), 0, 2)
	b.start(timer.Drift{})
	w.run(2 * time.Hour)
	w.say("the name is known now")
	b.names[0] = []string{a1}
	w.run(30 * time.Minute)
	w.golden("unresolved")
}

// TestOrphans: two boxes of a site follow an upstream, lose it, agree on the
// lower reference ID, and the other leads when that one is gone.
func TestOrphans(t *testing.T) {
	w := newWorld(t)
	w.brief = true
	w.serve(a1, 0)
	left, right := "192.168.1.1", "192.168.1.2"
	for i, c := range []struct{ own, other string }{{left, right}, {right, left}} {
		s := spec(a1, c.other)
		s.Orphan, s.Holdover.Max, s.ID, s.Seed = 12, time.Hour, uint32(0xc0a80101+i), uint64(i)
		s.Own = []uint32{s.ID}
		b := w.box([]string{"left", "right"}[i], s, 0, float64(10-15*i))
		w.serve(c.own, 0).box = b
		b.start(timer.Drift{})
	}
	w.run(time.Hour)
	w.say("%s is lost", a1)
	w.servers[a1].silent = "ntp-timeout"
	w.run(6 * time.Hour)
	w.say("left is %s off, right %s", short(w.boxes[0].error()), short(w.boxes[1].error()))
	w.say("left is switched off")
	w.servers[left].silent = "ntp-timeout"
	wake := w.boxes[0].wake
	w.boxes[0].wake, w.boxes[0].coming = 0, nil
	w.run(6 * time.Hour)
	w.say("left can be reached again")
	w.servers[left].silent, w.boxes[0].wake = "", wake
	w.run(3 * time.Hour)
	w.say("%s returns", a1)
	w.servers[a1].silent = ""
	w.run(time.Hour)
	w.golden("orphans")
}

// TestUpstreamTurnsOrphan: the only upstream restarts without a source of its
// own. Our holdover is worth more than what it says then.
func TestUpstreamTurnsOrphan(t *testing.T) {
	s := spec(a1)
	s.Orphan, s.ID, s.Holdover.Max = 12, 0xc0a80101, 3*time.Hour
	w, _ := followed(t, 2*time.Hour, s)
	h := w.servers[a1]
	good := h.is
	h.is.Stratum, h.is.RefID, h.is.RootDispersion, h.ahead = 12, 0x0a000101, time.Second, 700*time.Millisecond
	w.say("%s is an orphan now, and 700 ms off", a1)
	w.run(6 * time.Hour)
	h.is, h.ahead = good, 0
	w.say("%s is right again", a1)
	w.run(2 * time.Hour)
	w.golden("upstream-turns-orphan")
}

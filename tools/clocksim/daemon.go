package main

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"komainu/ntp/leap"
	"komainu/ntp/server"
	"komainu/ntp/source"
	"komainu/ntp/timer"
	"komainu/ntp/wall"
)

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

package main

import (
	"strings"

	"komainu/ntp/timer"
)

// point is what is recorded of every sample.
type point struct {
	at        int64   // ns after the start
	err       float64 // wall clock less UTC, s
	bound     float64 // advertised root distance, s; 0: not synchronised
	frequency float64 // of the wall clock against true time without a slew, 1e-6
	rate      float64 // of the wall clock against true time with it, 1e-6, mean since the sample before
	stratum   uint8   // published
	leap      uint8   // published
}

// change is something that happened at a time.
type change struct {
	at int64
	up bool
}

// recorder keeps what the metrics are computed from.
type recorder struct {
	points   []point
	steps    []int64
	counts   map[string][]int64
	alarms   map[string][]change // by "ID" and "ID subject"
	up       map[string]int      // alarms that stand, by ID
	followed map[string][]int64  // by source
	jumped   bool                // since the sample before
	length   int64
	queries  map[string][]int64 // by source
}

func newRecorder() recorder {
	return recorder{counts: map[string][]int64{}, alarms: map[string][]change{}, up: map[string]int{}, followed: map[string][]int64{}, queries: map[string][]int64{}}
}

func (r *recorder) stepped(now int64) {
	r.steps = append(r.steps, now)
	r.jumped = true
}

func (r *recorder) count(now int64, what string) { r.counts[what] = append(r.counts[what], now) }

// alarm keeps it by ID and subject, and by ID alone: up while any subject is.
func (r *recorder) alarm(now int64, a timer.Alarm) {
	subject := strings.TrimSuffix(a.Subject, ".example")
	if a.Raised {
		r.up[a.ID]++
		r.count(now, "alarms")
	} else {
		r.up[a.ID]--
	}
	if a.Raised || r.up[a.ID] == 0 {
		r.alarms[a.ID] = append(r.alarms[a.ID], change{now, a.Raised})
	}
	if subject != "" {
		r.alarms[a.ID+" "+subject] = append(r.alarms[a.ID+" "+subject], change{now, a.Raised})
	}
}

// published notes who is followed.
func (r *recorder) published(w *world) {
	s := w.state
	if s.Leap == 3 || s.Stratum < 2 || s.Stratum > 15 {
		return
	}
	for _, u := range w.sources {
		if refID(u.addr.Addr()) == s.RefID {
			r.followed[u.name] = append(r.followed[u.name], w.clock.now)
		}
	}
}

func (r *recorder) sample(w *world) {
	p := point{at: w.clock.now, err: w.err() / 1e9, frequency: w.clock.steady() * 1e6, stratum: w.state.Stratum, leap: w.state.Leap}
	if b, ok := w.bound(); ok {
		p.bound = max(b/1e9, 1e-12)
	}
	if n := len(r.points); n > 0 && !r.jumped {
		if last := r.points[n-1]; p.at-last.at <= 2*int64(w.sc.sample) {
			p.rate = (p.err - last.err) / float64(p.at-last.at) * 1e15
		}
	}
	r.jumped = false
	r.points = append(r.points, p)
}

// end takes over what the world knows.
func (r *recorder) end(w *world) {
	r.length = w.clock.now
	for _, u := range w.sources {
		r.queries[u.name] = u.asked
	}
}

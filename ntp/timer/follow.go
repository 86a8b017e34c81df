package timer

import (
	"math"
	"slices"
	"time"

	"komainu/ntp/discipline"
	"komainu/ntp/packet"
	"komainu/ntp/selection"
	"komainu/ntp/source"
)

func sqrt(x float64) float64 { return math.Sqrt(max(x, 0)) }

// seconds is s as a duration, or the longest there is.
func seconds(s float64) time.Duration {
	return time.Duration(math.Round(min(max(s, -9e9), 9e9) * 1e9))
}

// offset is how far true time is ahead of the wall clock now.
func (t *Timer) offset() time.Duration { return t.truth.TimeAt(t.now.Raw).Sub(t.now.Wall) }

// grade is what kind of clock a source has, best first: a source in holdover
// counts only where there is none better, an orphan neighbour only where
// there is nothing else.
func (t *Timer) grade(p *peer) int {
	switch {
	case t.spec.Orphan > 0 && p.Last.Stratum >= t.spec.Orphan:
		if p.Last.Stratum > t.spec.Orphan || p.Last.RefID >= t.spec.ID {
			return 3 // follows somebody, or leaves the lead to us
		}
		return 2
	case p.Last.Stratum >= t.spec.Holdover.Stratum:
		return 1
	}
	return 0
}

// candidates are the usable sources of the best grade that there is.
func (t *Timer) candidates() []selection.Candidate {
	best := 2
	switch t.mode {
	case Synchronised:
		best = 1 // our own holdover is better than an orphan
	case Holding:
		best = 0 // and than another's holdover
	}
	for _, p := range t.peers {
		p.state = p.State(t.now.Boot, t.now.Raw, t.isOwn(p.Last.RefID))
		if p.state == source.Usable {
			best = min(best, t.grade(p))
		}
	}
	var all []selection.Candidate
	for _, p := range t.peers {
		if p.state != source.Usable || t.grade(p) != best {
			continue
		}
		e := p.Filter.Estimate()
		all = append(all, selection.Candidate{ID: p.ID, Offset: e.TimeAt(t.now.Raw).Sub(t.now.Wall).Seconds(), Sigma: e.Sigma(t.now.Raw),
			Distance: p.Distance(t.now.Raw), Stratum: p.Last.Stratum, Prefer: t.spec.Upstreams[p.Upstream].Prefer})
	}
	return all
}

func (t *Timer) isOwn(refID uint32) bool {
	for _, own := range t.spec.Own {
		if own == refID {
			return true
		}
	}
	return false
}

// follow looks at all sources after one of them was measured, and corrects the
// clock by what a majority of them says.
func (t *Timer) follow(measured *peer) {
	if !t.ready() {
		return
	}
	r := selection.Select(t.candidates(), t.spec.MinSources)
	if !r.Majority {
		return
	}
	if t.contradicts(r) {
		return
	}
	if _, counts := r.Combined[measured.ID]; !counts && t.truth.known {
		return // nothing new
	}
	t.adopt(r)
	t.correct(!t.truth.known || t.mode == Starting, measured.Poll())
	t.truth.known = true
}

// ready says whether the first correction may be made: every source was heard
// often enough, or doesn't answer.
func (t *Timer) ready() bool {
	if t.settled {
		return true
	}
	if t.now.Boot.Sub(t.started) < settleMax {
		for i := range t.upstreams {
			if t.upstreams[i].asked {
				return false
			}
		}
		for _, p := range t.peers {
			if p.Code == "" && p.Filter.Samples() < settleAfter && (p.Replies == 0 || p.state != source.Unsynced) {
				return false
			}
		}
	}
	t.settled = true
	return true
}

// contradicts says whether the majority says something that our own clock, by
// all that is known of it, excludes. Either many sources are wrong at once or
// our oscillator is; a person is told, and for a while nothing is followed.
func (t *Timer) contradicts(r selection.Result) bool {
	if !t.truth.known || t.mode != Synchronised && t.mode != Holding || t.now.Boot.Sub(t.truth.since) < credible {
		t.doubt = doubt{}
		return false
	}
	own, bound := t.offset().Seconds(), t.truth.rootDelay/2+t.dispersion()
	if r.High >= own-bound && r.Low <= own+bound {
		t.doubt = doubt{}
		return false
	}
	t.doubt.by = seconds(r.Offset - own)
	if t.doubt.since == 0 {
		t.doubt.since = t.now.Boot
		t.note("note-time-doubt", t.doubt.by.String())
	}
	return t.doubting()
}

// doubting says that a majority is not followed because our own clock excludes
// what it says. No oscillator goes wrong by as much as Panic: then they lie.
func (t *Timer) doubting() bool {
	by := t.doubt.by.Abs()
	wait := doubtFor
	if by > t.spec.StepOver {
		wait = doubtForMore
	}
	return t.doubt.since != 0 && (by > t.spec.Panic || t.now.Boot.Sub(t.doubt.since) < wait)
}

// adopt takes what the sources say together as the truth.
func (t *Timer) adopt(r selection.Result) {
	n := truth{known: t.truth.known, since: t.truth.since, at: t.now.Boot, wall: t.now.Wall, best: t.steady(r), weights: r.Combined}
	n.At, n.Time, n.PhaseVar = t.now.Raw, t.now.Wall.Add(seconds(r.Offset)), r.Sigma*r.Sigma
	var rates float64
	for _, p := range t.peers {
		w := r.Combined[p.ID]
		if w == 0 {
			continue
		}
		e := p.Filter.Estimate()
		n.Rate += e.Rate / e.RateVar
		rates += 1 / e.RateVar
		n.rootDelay += w * p.RootDelay()
		n.dispersion += w * (p.Distance(t.now.Raw) - p.RootDelay()/2)
		n.wander = max(n.wander, p.Filter.Wander())
	}
	if p := t.peer(n.best); p != nil {
		n.stratum, n.refID = p.Last.Stratum+1, packet.RefIDOf(p.Addr.Addr())
	}
	n.Rate, n.RateVar = n.Rate/rates, 1/rates
	if !n.known || t.doubt.since != 0 {
		n.since = t.now.Boot
	}
	n.leaps = t.leapVotes(r)
	if n.best != t.truth.best {
		if p := t.peer(n.best); p != nil {
			t.note("note-time-selected", p.name, p.Addr.String())
		}
	}
	t.truth = n
}

// patience is how often in a row another source must count more before it is
// shown as followed: clients and people see a reference that stays.
const patience = 8

// steady keeps the source that is shown as followed as long as it is true, and
// no other counts several times as much again and again.
func (t *Timer) steady(r selection.Result) int {
	w, best := r.Combined[t.truth.best], t.truth.best
	switch {
	case w == 0 && !slices.Contains(r.Outlying, best):
		t.rivals = 0
		return r.Best
	case r.Combined[r.Best] < 4*w:
		t.rivals = 0
		return best
	}
	if t.rivals++; t.rivals < patience {
		return best
	}
	t.rivals = 0
	return r.Best
}

// leapVotes is which part of the true sources announces a leap second: +1 or
// -1 if all do, 0 if none does.
func (t *Timer) leapVotes(r selection.Result) float64 {
	var sum, n float64
	for _, p := range t.peers {
		if r.Combined[p.ID] > 0 || slices.Contains(r.Outlying, p.ID) {
			n++
			switch p.Last.Leap {
			case 1:
				sum++
			case 2:
				sum--
			}
		}
	}
	return sum / max(n, 1)
}

// correct brings the clock to the truth, as gently as the pause until the next
// measurement allows.
func (t *Timer) correct(mayStep bool, pause time.Duration) {
	if t.spec.NoClock {
		return
	}
	rules := discipline.Rules{StepOver: t.spec.StepOver, MaxSlew: t.spec.MaxSlew, Panic: t.spec.Panic}
	offset := t.offset()
	c := rules.Correct(offset, t.truth.Rate, mayStep, pause)
	t.setFrequency(t.truth.Rate)
	switch {
	case c.Panic:
		if t.panics == 0 {
			t.note("note-time-panic", offset.String(), t.spec.Panic.String())
		}
		t.panics = offset
		t.slew(0, 0)
	case c.Step != 0:
		t.panics = 0
		t.stepClock(c.Step)
	default:
		t.panics = 0
		t.slew(c.Slew, c.Constant)
	}
}

func (t *Timer) slew(offset time.Duration, constant int) {
	t.do(Slew{Offset: offset, Constant: constant})
	t.clock.SetSlew(offset, constant)
}

// order carries out an operator's order.
func (t *Timer) order(o Order) {
	if !o.Step {
		t.do(Done{ID: o.ID, Code: "ntp-order-unknown"})
		return
	}
	r := selection.Select(t.candidates(), t.spec.MinSources)
	switch {
	case t.spec.NoClock:
		t.do(Done{ID: o.ID, Code: "ntp-step-no-clock"})
	case !r.Majority:
		t.do(Done{ID: o.ID, Code: "ntp-step-no-truth"})
	default:
		t.doubt, t.panics = doubt{}, 0
		t.adopt(r)
		t.truth.known = true
		if by := t.offset(); by != 0 {
			t.stepClock(by)
		}
		t.correct(true, 0)
		t.do(Done{ID: o.ID})
	}
}

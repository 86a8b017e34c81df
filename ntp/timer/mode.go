package timer

import (
	"time"

	"komainu/ntp/server"
	"komainu/ntp/source"
)

// unheard is how long a truth without a new reply still counts as followed,
// in pauses between queries of its sources.
const unheard = 3

// far says that our clock is known to be wrong by more than clients follow
// (RFC 5905 MAXDIST): somebody set it and means it, or it isn't ours to adjust.
// Many a client looks at no distance, so it is told plainly.
func (t *Timer) far() bool { return t.truth.known && t.offset().Abs() > source.MaxDistance }

// judge moves between the modes.
func (t *Timer) judge() {
	t.candidates() // brings every source's state up to date
	before := t.mode
	p := t.followed()
	switch {
	case t.far() && t.mode != Starting:
		t.mode = Unsynchronised
	case p != nil && t.grade(p) >= 2:
		t.mode = Orphan
	case p != nil:
		t.mode = Synchronised
	case t.truth.known && t.mode != Orphan && t.now.Boot.Sub(t.truth.at) < t.spec.Holdover.Max:
		t.mode = Holding
	case t.mode == Starting && (!t.settledOut() || t.truth.known):
	case t.spec.Orphan > 0:
		t.mode = Orphan
	default:
		t.mode = Unsynchronised
	}
	if t.mode == before {
		return
	}
	t.modeAt = t.now.Boot
	switch {
	case t.mode == Holding:
		t.note("note-time-lost")
	case before == Holding && t.mode != Synchronised:
		t.note("note-time-holdover-end")
	}
	t.publishedAt = 0
}

// followed is a source that counts, is still being heard and not in doubt; nil
// if there is none.
func (t *Timer) followed() *peer {
	if !t.truth.known || t.doubting() {
		return nil
	}
	trusted := t.mode == Synchronised || t.mode == Holding
	for _, p := range t.peers {
		if trusted && t.grade(p) >= 2 {
			continue // it became an orphan since
		}
		if t.truth.weights[p.ID] > 0 && p.state == source.Usable && t.now.Boot.Sub(t.truth.at) < unheard*p.Poll()+time.Minute {
			return p
		}
	}
	return nil
}

// settledOut says that the first questions have been asked and waited for.
func (t *Timer) settledOut() bool { return t.now.Boot.Sub(t.started) > settleMax }

// dispersion is by how much the clock may be wrong now besides half of the
// root delay, in seconds: what the sources may be, and what the oscillator may
// have done since they were heard.
func (t *Timer) dispersion() float64 { return t.dispersionAt(t.now.Boot.Sub(t.truth.at)) }

func (t *Timer) dispersionAt(age time.Duration) float64 {
	return t.truth.dispersion + t.history.Bound(age, t.spec.Crystal, sqrt(t.truth.RateVar), t.truth.wander)
}

// bound is by how much the clock may be wrong after age without a source.
func (t *Timer) bound(age time.Duration) time.Duration {
	return seconds(t.truth.rootDelay/2 + t.dispersionAt(age))
}

// publish tells the server what to tell, when that has changed.
func (t *Timer) publish() {
	s := t.serve()
	same := s.Leap == t.state.Leap && s.Stratum == t.state.Stratum && s.RefID == t.state.RefID
	if same && t.publishedAt != 0 && s.RefTime == t.state.RefTime && t.now.Boot.Sub(t.publishedAt) < publishEvery {
		return
	}
	t.state, t.publishedAt = s, t.now.Boot
	t.do(Publish{State: s})
	if !t.spec.NoClock {
		t.do(SetSync{Synced: s.Leap != 3, Bound: s.RootDelay/2 + s.Dispersion})
	}
}

// orphanError is what an orphan says of its own error: it doesn't know, but
// clients must still be able to follow it (RFC 5905: below MAXDIST).
const orphanError = time.Second

func (t *Timer) serve() server.State {
	s := server.State{Leap: 3, Stratum: 16, Precision: t.spec.Precision, At: t.now.Wall}
	age := t.now.Boot.Sub(t.truth.at)
	following := t.truth.known && t.mode != Starting && t.panics == 0
	switch {
	case t.mode == Orphan && (!following || t.truth.stratum <= t.spec.Orphan || t.followed() == nil): // we lead
		s.Leap, s.Stratum, s.RefID, s.Dispersion, s.RefTime = 0, t.spec.Orphan, t.spec.ID, orphanError, t.now.Wall
		return s
	case !following || t.mode == Unsynchronised:
		return s
	}
	s.Leap, s.Stratum, s.RefID = t.leaping.bits(), t.truth.stratum, t.truth.refID
	s.RefTime = t.truth.wall
	s.RootDelay = seconds(t.truth.rootDelay)
	now, later := t.dispersionAt(age), t.dispersionAt(age+publishEvery)
	s.Dispersion = seconds(now) + t.offset().Abs()
	if t.doubt.since != 0 {
		s.Dispersion += t.doubt.by.Abs() // whoever is wrong
	}
	s.Growth = max((later-now)/publishEvery.Seconds(), 1e-9)
	if t.mode == Holding && t.bound(age) > t.spec.Holdover.Bound {
		s.Stratum = max(s.Stratum, t.spec.Holdover.Stratum) // it followed another's holdover
	}
	s.Stratum = min(s.Stratum, source.MaxStratum)
	return s
}

// limitAt is the age at which the bound of a holdover reaches its limit.
func (t *Timer) limitAt() time.Duration {
	low, high := time.Duration(0), t.spec.Holdover.Max
	if t.bound(high) <= t.spec.Holdover.Bound {
		return high
	}
	for high-low > time.Minute {
		if mid := (low + high) / 2; t.bound(mid) > t.spec.Holdover.Bound {
			high = mid
		} else {
			low = mid
		}
	}
	return low
}

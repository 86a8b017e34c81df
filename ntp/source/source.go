package source

import (
	"time"

	"komainu/ntp/instant"
	"komainu/ntp/wall"
)

// State says what a source is worth.
type State uint8

// The states, best first.
const (
	Usable   State = iota
	Unready        // too few replies yet
	Distant        // its root distance is beyond MaxDistance
	Unsynced       // it says itself that its clock isn't right
	Loop           // it follows us
	Silent         // it doesn't answer
	Denied         // it answered with a kiss that says go away
)

// Limits of RFC 5905 and ours.
const (
	MaxDistance   = 1500 * time.Millisecond // MAXDIST, of the reference implementation
	MaxStratum    = 15
	Ready         = 2               // replies before a source counts
	burst         = 8               // queries at start, and after a silence
	burstEvery    = 2 * time.Second // RFC 5905 section 13 (BTIME)
	retryFirst    = 4 * time.Second // after a lost reply, doubling
	silentAfter   = 4               // lost replies in a row
	deniedFor     = 4 * time.Hour
	tolerance     = 15e-6 // s/s: PHI, how fast a distant clock gets worse (RFC 5905)
	reachRegister = 8
)

// Limits bound how often a source is asked, log2 of seconds.
type Limits struct{ Min, Max int8 }

// Source is one server that is asked for the time.
type Source struct {
	Filter Filter
	Last   Reply // the last good one
	Reach  uint8 // RFC 5905 section 13: one bit per query, the latest lowest

	Queries, Replies uint64
	Code, Detail     string // why the last query brought nothing, empty when it did

	limits   Limits
	least    int8 // never more often than that, since it was asked so
	poll     int8 // log2 of seconds
	burst    int  // quick queries to come
	failures int  // in a row
	next     instant.Instant
	denied   instant.Instant // until then it isn't asked
}

// New is a source that is asked from first on.
func New(l Limits, first instant.Instant) *Source {
	return &Source{limits: l, poll: l.Min, burst: burst, next: first}
}

// Next is when to ask; it is later than any query that is under way.
func (s *Source) Next() instant.Instant { return max(s.next, s.denied) }

// Poll is the present pause between queries.
func (s *Source) Poll() time.Duration { return interval(s.poll) }

func interval(poll int8) time.Duration { return time.Second << max(poll, 0) }

// Asked counts a query, whose end is awaited until timeout.
func (s *Source) Asked(now instant.Instant, timeout time.Duration) {
	s.Queries++
	s.Reach <<= 1
	s.next = now.Add(timeout + time.Second) // the answer or the silence sets it again
}

// Answered takes the reply of the query under way, and says whether it brought
// a measurement. spread, 0 to 1, keeps many boxes from asking in step.
func (s *Source) Answered(now instant.Instant, r Reply, prior Prior, spread float64) bool {
	s.Replies++
	s.Code, s.Detail = "", ""
	switch {
	case r.Stratum == 0 && r.Kiss == "RATE":
		s.least = min(max(s.least, s.limits.Min)+1, s.limits.Max)
		s.burst, s.failures = 0, 0 // it does answer: no quick retry, which a limited rate would only lengthen
		s.refuse(now, "ntp-kiss", r.Kiss, spread)
		return false
	case r.Stratum == 0 && (r.Kiss == "DENY" || r.Kiss == "RSTR"):
		s.denied, s.burst = now.Add(deniedFor), 0
		s.refuse(now, "ntp-kiss", r.Kiss, spread)
		return false
	case r.Stratum == 0: // 0 stands for 16 (RFC 5905 section 7.3); INIT, STEP and the like only say why
		r.Leap, r.Stratum = 3, MaxStratum+1
	}
	s.Reach |= 1
	s.failures = 0
	s.Last = r
	if s.unsynced() {
		s.wait(now, spread)
		return false
	}
	used := s.Filter.Add(r, prior)
	if !used {
		s.burst = max(s.burst, 1) // has it really changed?
	}
	s.wait(now, spread)
	return used
}

// Unanswered ends the query under way without a reply.
func (s *Source) Unanswered(now instant.Instant, code, detail string, spread float64) {
	s.failures++
	s.refuse(now, code, detail, spread)
}

func (s *Source) refuse(now instant.Instant, code, detail string, spread float64) {
	s.Code, s.Detail = code, detail
	if s.failures == 0 || s.failures > 2*silentAfter {
		s.burst = 0
		s.wait(now, spread)
		return
	}
	again := retryFirst << min(s.failures-1, 10)
	s.next = now.Add(min(again, s.Poll()) + time.Duration(spread*float64(time.Second)))
}

// wait sets the time of the next query: soon in a burst, else as seldom as the
// estimate stays as good as a reply is.
func (s *Source) wait(now instant.Instant, spread float64) {
	if s.burst > 0 && s.least == 0 {
		s.burst--
		s.next = now.Add(burstEvery)
		return
	}
	s.poll = s.steady()
	d := s.Poll()
	s.next = now.Add(d - time.Duration(spread*float64(d)/16))
}

// steady is the longest pause after which the phase is still known better
// than by half of what a good reply tells.
func (s *Source) steady() int8 {
	if s.Filter.Samples() < Ready {
		return max(s.limits.Min, s.least)
	}
	// Short pauses are worth their packets only while the rate is still unknown.
	least := max(int8(min(int(s.limits.Min), 1+s.Filter.Samples()/burst)), s.least)
	good := s.Filter.Typical()
	p := min(max(s.poll+1, least), s.limits.Max)
	for p > least && s.Filter.Ahead(interval(p)) > good {
		p--
	}
	return p
}

// Hurry asks again soon and quickly: after a silence, or time that the clocks
// didn't count.
func (s *Source) Hurry(now instant.Instant) { s.burst, s.next, s.failures = burst, now, 0 }

func (s *Source) unsynced() bool {
	return s.Last.Leap == 3 || s.Last.Stratum > MaxStratum || s.Last.RootDelay/2+s.Last.RootDispersion >= 16*time.Second
}

// State judges the source at now. loop says whether its reference is one of
// our addresses.
func (s *Source) State(now instant.Instant, r wall.Raw, loop bool) State {
	switch {
	case now < s.denied:
		return Denied
	case s.failures >= silentAfter || s.Reach == 0 && s.Queries >= reachRegister:
		return Silent
	case s.Replies > 0 && s.unsynced():
		return Unsynced
	case s.Filter.Samples() < Ready:
		return Unready
	case loop && s.Last.Stratum > 1:
		return Loop
	case s.Distance(r) > MaxDistance.Seconds():
		return Distant
	}
	return Usable
}

// Distance is the root distance in seconds: half of the round trip to the
// primary reference, and everything by which the clocks on the way and our
// measurement may be wrong (RFC 5905 section 11.1). The true time is inside it
// unless a source lies.
func (s *Source) Distance(r wall.Raw) float64 {
	e := s.Filter.Estimate()
	return s.RootDelay()/2 + seconds(s.Last.RootDispersion) + 3*e.Sigma(r) + tolerance*max(0, seconds(r.Sub(e.At)))
}

// RootDelay is the round trip to the primary reference in seconds.
func (s *Source) RootDelay() float64 { return seconds(s.Last.RootDelay) + s.Filter.MinDelay() }

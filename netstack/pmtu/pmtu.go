// Package pmtu finds the largest packet that a path carries without telling
// anybody when one is too large (RFC 8899: packetization layer path MTU
// discovery for datagrams; the trial found 990 by hand, OFB-9). Only an echo
// proves a size, so that what is found always passes; that a size doesn't pass
// is believed after several tries beside which a smaller packet came through,
// so that neither a loss nor a pause of the path makes the result smaller.
// Start reading at Search.Step, then round.go.
package pmtu

import (
	"time"

	"komainu/ntp/instant"
)

// Config of a search. Sizes are of whole IP packets, in bytes.
type Config struct {
	Min int // the smallest size that is asked for
	Max int // what the link takes
}

// Times of a search.
const (
	confirmEvery = 3 * time.Second  // the size found is asked for again, for black holes (RFC 8899 section 4.3)
	checkAfter   = time.Second      // the first time
	raiseEvery   = 10 * time.Minute // one byte more is asked for (PMTU_RAISE_TIMER, RFC 8899 section 5.1.1)
	failedAgain  = 2 * time.Second  // until the next try where not even Min passed
)

// checks is how often one byte more is asked for soon after a search, which
// puts right what losses made too small.
const checks = 3

// holes is how often in a row the size found must be missing, Min passing
// beside it, before it counts as lost.
const holes = 4

// Probe is one packet to be sent now, with the size of the whole.
type Probe struct {
	ID   uint64 // of this search, from 1
	Size int
}

type state uint8

const (
	idle      state = iota
	searching       // SEARCHING of RFC 8899, and BASE: a path is asked for its largest at once
	complete        // SEARCH_COMPLETE
	failed          // ERROR: nothing passes, or nobody answers
)

// Search is the search of one direction of one path. Not for concurrent use.
type Search struct {
	c     Config
	state state
	found int // 0: nothing yet
	hint  int // was found before the search under way; 0: none
	lo    int // largest size that was echoed; 0: none
	fails map[int]fails
	lossy bool // a size that passes was missing once
	round round
	times times

	id    uint64
	since uint64 // probes up to here belong to a search before

	confirmAt, raiseAt instant.Instant
	checked            int // since the search
	doubts             int // in a row: the size found was missing

	began  instant.Instant
	probes int
	took   time.Duration
}

// New makes a search that waits for Start.
func New(c Config) *Search { return &Search{c: c} }

// Found is the largest size that passes; 0: not known. While a new search goes
// on it is the former result.
func (s *Search) Found() int { return s.found }

// Settled tells whether a search has come to its result.
func (s *Search) Settled() bool { return s.state == complete }

// Failed tells that nothing comes back.
func (s *Search) Failed() bool { return s.state == failed }

// Cost is what the last search took, from its begin to its result.
func (s *Search) Cost() (probes int, took time.Duration) { return s.probes, s.took }

// Start begins anew: the path came up, moved, or somebody asks. What was found
// before is tried first. rtt is what an answer takes, as far as known, else 0.
func (s *Search) Start(now instant.Instant, rtt time.Duration) {
	s.times.begin(rtt)
	s.begin(now)
	s.hint = s.found
}

// Stop ends the search: the path is down. What was found is kept.
func (s *Search) Stop() { s.state, s.round = idle, round{} }

func (s *Search) begin(now instant.Instant) {
	s.state, s.lo, s.hint, s.lossy = searching, 0, 0, false
	s.fails, s.round, s.since = map[int]fails{}, round{until: now}, s.id
	s.began, s.probes = now, 0
}

// Echoed says that probe id, of a size, has come through, a late one too, and
// how long that took.
func (s *Search) Echoed(now instant.Instant, id uint64, size int, rtt time.Duration) {
	if s.state == idle || id <= s.since || id > s.id || size > s.c.Max {
		return // of another search: the path was another one
	}
	s.times.measured(rtt)
	late := !s.round.echoed(now, id, s.times.slack())
	if late {
		s.times.patience()
	}
	switch {
	case s.state == failed:
		s.begin(now)
		s.passed(size, late)
	case s.state == searching:
		s.passed(size, late)
	case size > s.found: // it carries more than was thought
		s.begin(now)
		s.passed(size, late)
		s.found = size
	}
}

// passed takes a size as proved. An echo that is only late is no loss.
func (s *Search) passed(size int, late bool) {
	if size <= s.lo {
		return
	}
	s.lo = size
	for n, f := range s.fails {
		if n <= size {
			s.lossy = s.lossy || f.all > 0 && !late
			delete(s.fails, n)
		}
	}
}

// TooBig says that this box itself refused to send probe id, which needn't be
// waited for nor tried again.
func (s *Search) TooBig(now instant.Instant, id uint64) {
	if s.state != idle && id > s.since {
		s.round.refused(now, id)
	}
}

// Step returns the probes to be sent now, the smallest first. It is called
// after every event, and at Next.
func (s *Search) Step(now instant.Instant) []Probe {
	if s.state == idle || now < s.round.until {
		return nil
	}
	s.judge(now)
	sizes := s.choose(now)
	if len(sizes) == 0 {
		return nil
	}
	var out []Probe
	for _, size := range sizes {
		s.id++
		out = append(out, Probe{ID: s.id, Size: size})
	}
	s.probes += len(out)
	s.round.begin(now, out, s.times.timeout())
	return out
}

// Next is when Step has something to do at the latest; false: not before an
// event.
func (s *Search) Next() (instant.Instant, bool) { return s.round.until, s.state != idle }

// choose takes the sizes to be tried next. Without any, round.until says when
// to ask again.
func (s *Search) choose(now instant.Instant) []int {
	if s.state == searching {
		if sizes := s.narrow(); len(sizes) > 0 {
			return sizes
		}
		s.end(now)
	}
	switch {
	case s.state == failed && now >= s.confirmAt:
		s.confirmAt = now.Add(failedAgain)
		return []int{s.c.Min}
	case s.state == complete && s.doubts > 0:
		return []int{s.c.Min, s.found}
	case s.state == complete && now >= s.confirmAt:
		s.confirmAt = now.Add(confirmEvery)
		sizes := []int{s.found}
		if s.found < s.c.Max && (s.checked < checks || now >= s.raiseAt) {
			sizes = append(sizes, s.found+1)
		}
		s.checked++
		if now >= s.raiseAt {
			s.raiseAt = now.Add(raiseEvery)
		}
		return sizes
	}
	s.round = round{until: s.confirmAt}
	return nil
}

// end takes the result of the search.
func (s *Search) end(now instant.Instant) {
	s.found, s.checked, s.doubts = s.lo, 0, 0
	s.took = now.Sub(s.began)
	if s.lo == 0 {
		s.state, s.confirmAt = failed, now.Add(failedAgain)
		return
	}
	s.state, s.confirmAt, s.raiseAt = complete, now.Add(checkAfter), now.Add(raiseEvery)
}

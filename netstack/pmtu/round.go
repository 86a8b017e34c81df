package pmtu

import (
	"time"

	"komainu/ntp/instant"
)

// This file is about one round: a few sizes at once, and what their echoes and
// their silence say.

const (
	// abreast is how many sizes are tried at once: three part the range in four,
	// which is five rounds for 900 sizes.
	abreast = 3
	// A size doesn't pass when it failed so often, of that firmly so often; the
	// second pair holds where a size that passes was missing once. With a tenth
	// of all packets lost in each direction, one result in a hundred is too small
	// at first; checks put it right within seconds.
	tries, firmTries           = 3, 2
	triesLossy, firmTriesLossy = 5, 4
)

// fails are those of one size.
type fails struct {
	all  int
	firm int // a smaller packet of the same round passed, so that the path worked
}

// round is what is under way.
type round struct {
	flights []flight
	until   instant.Instant // it is judged, or the next is due
}

type flight struct {
	Probe
	back, refused bool
}

func (r *round) begin(now instant.Instant, probes []Probe, timeout time.Duration) {
	*r = round{until: now.Add(timeout)}
	for _, p := range probes {
		r.flights = append(r.flights, flight{Probe: p})
	}
}

// echoed notes an echo; false: it isn't of this round. The others aren't waited
// for much longer.
func (r *round) echoed(now instant.Instant, id uint64, slack time.Duration) bool {
	for i := range r.flights {
		if f := &r.flights[i]; f.ID == id {
			f.back = true
			r.until = min(r.until, now.Add(slack))
			r.over(now)
			return true
		}
	}
	return false
}

func (r *round) refused(now instant.Instant, id uint64) {
	for i := range r.flights {
		if f := &r.flights[i]; f.ID == id {
			f.refused = true
			r.over(now)
		}
	}
}

// over ends the round if nothing is left to wait for.
func (r *round) over(now instant.Instant) {
	for _, f := range r.flights {
		if !f.back && !f.refused {
			return
		}
	}
	r.until = min(r.until, now)
}

// least is the smallest size that came back; 0: none.
func (r *round) least() int {
	least := 0
	for _, f := range r.flights {
		if f.back && (least == 0 || f.Size < least) {
			least = f.Size
		}
	}
	return least
}

// judge takes what a round says, which is over.
func (s *Search) judge(now instant.Instant) {
	r, passes := s.round, s.c.Min
	s.round = round{}
	if s.state == searching {
		passes = max(passes, s.lo)
	}
	least := r.least()
	switch {
	case least > 0:
		s.times.silent = 0
	case len(r.flights) > 0 && r.flights[0].Size <= passes:
		s.times.silent++ // the path pauses, or nobody answers
	}
	switch s.state {
	case searching:
		s.missed(r, least)
	case complete:
		s.doubt(now, r, least)
	}
}

// missed counts what failed in a round of a search.
func (s *Search) missed(r round, least int) {
	for _, f := range r.flights {
		x := s.fails[f.Size]
		switch {
		case f.back:
			continue
		case f.refused:
			x = fails{all: triesLossy, firm: firmTriesLossy}
		case f.Size <= s.lo:
			s.lossy = s.lossy || least > 0
			continue
		default:
			x.all++
			if least > 0 && least < f.Size {
				x.firm++
			}
		}
		s.fails[f.Size] = x
	}
}

// doubt looks whether the size found still passes. When it doesn't any more, a
// search begins below it.
func (s *Search) doubt(now instant.Instant, r round, least int) {
	for _, f := range r.flights {
		switch {
		case f.Size != s.found:
		case f.back:
			s.doubts = 0
		case s.doubts == 0 || least > 0: // at first it is alone
			s.doubts++
		}
	}
	if s.doubts > holes {
		hole := s.found
		s.begin(now)
		s.fails[hole] = fails{all: 1, firm: 1}
	}
}

// hi is the smallest size that failed, or the first that needn't be tried.
func (s *Search) hi() int {
	least := s.c.Max + 1
	for n := range s.fails {
		least = min(least, n)
	}
	return least
}

// lacks is how often a size must fail again, of that firmly, before it is
// believed; 0: it is.
func (s *Search) lacks(size int) (all, firm int) {
	all, firm = tries, firmTries
	if s.lossy {
		all, firm = triesLossy, firmTriesLossy
	}
	f := s.fails[size]
	if s.lo == 0 { // then nothing is smaller
		firm = 0
	}
	firm = max(firm-f.firm, 0)
	return max(all-f.all, firm), firm
}

// narrow chooses the next sizes of a search; none: it is at its end.
func (s *Search) narrow() []int {
	floor, hi := max(s.lo, s.c.Min-1), s.hi()
	unknown := hi - floor - 1
	var sizes []int
	switch {
	case s.hint != 0: // as before, most likely
		sizes = []int{s.hint}
		if s.hint < s.c.Max {
			sizes = append(sizes, s.hint+1)
		}
		s.hint = 0
		return sizes
	case hi > s.c.Max: // nothing failed yet: the largest too
		for i := 1; i <= min(abreast, unknown); i++ {
			sizes = append(sizes, floor+i*unknown/min(abreast, unknown))
		}
		return sizes
	case unknown > 1:
		for i := 1; i <= min(abreast, unknown); i++ {
			sizes = append(sizes, floor+i*(unknown+1)/(min(abreast, unknown)+1))
		}
		return sizes
	case unknown == 1:
		sizes = append(sizes, floor+1)
		if all, _ := s.lacks(hi); all > 0 {
			sizes = append(sizes, hi)
		}
		return sizes
	}
	all, firm := s.lacks(hi)
	if firm > 0 {
		sizes = append(sizes, s.lo) // so that it is firm
	}
	for range min(all, abreast) {
		sizes = append(sizes, hi)
	}
	return sizes
}

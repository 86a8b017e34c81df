package icmp

// Search finds the largest packet that gets to a host and back. It sees answers
// only, so it also finds black holes, routers that drop what is too long
// without a word (RFC 8899, 1.1). A lost packet isn't taken for one that is too
// long: silence counts only if a packet of a size that is known to pass is
// answered right after it, `strikes` times; and before the search ends, the
// next larger size has to stay silent `verify` times more. That size is the one
// that was judged wrongly if any was, since all smaller ones passed.
//
// It is pure: Next says what to send, exactly one of Passed, Silent and TooBig
// says what came of it.
type Search struct {
	low, high, top int // low passed (0: nothing yet), high is the largest possible
	floor          int
	size           int // under way
	hint, hinted   int // a router's word, to be tried next; the one tried last
	strike         int // at size
	control        bool
	checking       bool // low is to be confirmed by low+1 staying silent
	controls       int  // control packets lost in a row
	probes         int
	over           bool
}

// Bounds of a search.
const (
	strikes  = 3
	verify   = 5
	absent   = 8  // silent packets at the beginning
	lostMost = 10 // silent packets of a size that is known to pass
	// ProbesMost ends a search that a line of heavy loss keeps from an end.
	ProbesMost = 400
)

// NewSearch looks between floor and top, both in bytes of a whole IP packet.
// floor is the size that has to pass for the host to be there at all.
func NewSearch(floor, top int) *Search {
	return &Search{floor: floor, high: top, top: top}
}

// Outcome is how a search ended.
type Outcome string

// The outcomes.
const (
	Found  Outcome = "found"  // Search.Size gets through, one byte more doesn't
	NoOne  Outcome = "silent" // the host doesn't answer at all
	Unsure Outcome = "unsure" // too much is lost: at least Search.Size gets through
)

// Next is the size to send now; false: the search is over.
func (s *Search) Next() (size int, more bool) {
	if s.over || s.probes >= ProbesMost {
		return 0, false
	}
	s.probes++
	switch {
	case s.control:
		return s.low, true
	case s.low == 0:
		s.size = s.floor
	case s.strike > 0: // again
	case s.checking:
		s.size = s.low + 1
	case s.hint > s.low && s.hint <= s.high:
		s.size, s.hinted, s.hint = s.hint, s.hint, 0
	case s.high == s.top && s.low == s.floor:
		s.size = s.high // most lines take what the interface takes
	default:
		s.size = s.low + (s.high-s.low+1)/2
	}
	return s.size, true
}

// Passed says that the size was answered.
func (s *Search) Passed() {
	s.controls = 0
	if s.control {
		s.control = false
		s.struck()
		return
	}
	s.strike = 0
	if s.size > s.high {
		s.high = s.top // it had been judged too long wrongly
	}
	s.low, s.checking = s.size, s.size == s.hinted && s.size < s.high // is the router right?
	s.settle()
}

// Silent says that nothing came in time.
func (s *Search) Silent() {
	if s.control || s.low == 0 {
		s.controls++
		s.over = s.controls >= lostMost || s.low == 0 && s.controls >= absent
		return
	}
	s.control = true
}

// TooBig says that this host or a router refused the size. mtu is what it
// takes, in bytes; 0: not told. It is only tried next; a lie is found out when
// the end is confirmed.
func (s *Search) TooBig(mtu int) {
	if s.control || s.low == 0 {
		s.Silent() // it has passed before: a router on the way has changed
		return
	}
	if mtu > s.low && mtu < s.size {
		s.hint = mtu
	}
	s.refused()
}

// struck counts one silence at the size.
func (s *Search) struck() {
	s.strike++
	need := strikes
	if s.checking {
		need = verify
	}
	if s.strike >= need {
		s.refused()
	}
}

// refused: the size is too long.
func (s *Search) refused() {
	s.strike = 0
	if s.checking {
		s.over = true
		return
	}
	s.high = s.size - 1
	s.settle()
}

// settle ends the search, or has the end confirmed.
func (s *Search) settle() {
	if s.low < s.high {
		return
	}
	if s.low == s.top {
		s.over = true
		return
	}
	s.checking = true
}

// Size is the largest that got through so far, in bytes; 0: none.
func (s *Search) Size() int { return s.low }

// Probes is how many packets were asked for.
func (s *Search) Probes() int { return s.probes }

// Outcome tells how it ended, after Next said false.
func (s *Search) Outcome() Outcome {
	switch {
	case s.low == 0:
		return NoOne
	case s.controls >= lostMost || !s.over:
		return Unsure
	}
	return Found
}

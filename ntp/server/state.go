package server

import (
	"time"

	"komainu/ntp/packet"
	"komainu/ntp/wall"
)

// State is what the server tells about its own clock (RFC 5905 section 7.3).
// The timer publishes a new one whenever something in it changes; it is
// replaced as a whole and never written to.
type State struct {
	Leap       uint8         // 0 none, 1 the last minute has 61 s, 2 it has 59 s, 3 not synchronised
	Stratum    uint8         // 1..15; 16 not synchronised
	Precision  int8          // log2 of seconds
	RefID      uint32        // RFC 5905 figure 12: upstream's IPv4 address, or hash of its IPv6 address
	RefTime    wall.Time     // when the clock was last corrected
	RootDelay  time.Duration // round trip to the primary reference
	Dispersion time.Duration // root dispersion at At
	Growth     float64       // seconds of dispersion per second after At
	At         wall.Time
}

// RootDispersion is the dispersion at now; before At, which only a clock that
// was set back shows, it is the one at At.
func (s *State) RootDispersion(now wall.Time) time.Duration {
	return s.Dispersion + time.Duration(float64(max(0, now.Sub(s.At)))*s.Growth)
}

// maxDispersion is MAXDISP of RFC 5905 figure 28.
const maxDispersion = 16 * time.Second

// header is the part of replies that doesn't depend on the request.
//
// A clock that isn't synchronised, stratum 16, is told as leap 3 and a stratum
// field of zero: RFC 5905 section 7.3 maps 16 and more to zero in transmitted
// packets, and zero back to 16 in received ones. ntpd and chrony do the same.
// The reference identifier is zero then, as chrony's is: letters there would
// make it a kiss.
func (s *State) header(now wall.Time) packet.Header {
	h := packet.Header{
		Leap:           s.Leap,
		Stratum:        s.Stratum,
		Precision:      s.Precision,
		RootDelay:      packet.ShortUp(s.RootDelay),
		RootDispersion: packet.ShortUp(s.RootDispersion(now)),
		RefID:          s.RefID,
	}
	if s.RefTime != 0 {
		h.RefTime = packet.Stamp(s.RefTime)
	}
	if s.Leap >= packet.LeapUnsynchronised || s.Stratum == 0 || s.Stratum > 15 {
		h.Leap, h.Stratum, h.RefID = packet.LeapUnsynchronised, 0, 0
		h.RootDispersion = max(h.RootDispersion, packet.ShortUp(maxDispersion))
	}
	return h
}

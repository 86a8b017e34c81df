// Package server answers NTP requests.
package server

import (
	"time"

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

// RootDispersion is the dispersion at now, which isn't before At.
func (s *State) RootDispersion(now wall.Time) time.Duration {
	return s.Dispersion + time.Duration(float64(now.Sub(s.At))*s.Growth)
}

// Package source follows one upstream: what its replies say about its clock and
// ours, and when to ask again.
package source

import (
	"time"

	"komainu/ntp/wall"
)

// Reply is what one query of an upstream brought, as the driver saw it
// (RFC 5905 section 7.3). Nothing but its origin is checked yet.
type Reply struct {
	Sent           wall.Time    // T1, our clock
	ServerReceived wall.Time    // T2, the server's clock
	ServerSent     wall.Time    // T3, the server's clock
	Received       wall.Time    // T4, our clock
	At             wall.Reading // our clocks, read right after the reply came
	Leap           uint8        // 0..3
	Stratum        uint8        // 0: not synchronised, or a kiss, see Kiss
	Precision      int8         // log2 of seconds
	Poll           int8         // log2 of seconds
	RootDelay      time.Duration
	RootDispersion time.Duration
	RefID          uint32
	RefTime        wall.Time
	Kiss           string // letters of a stratum 0 answer, such as "RATE"; empty: it has none
	Authenticated  bool   // by a key or by NTS
}

// Package detect turns evidence into a verdict: heartbeats into the state of a
// path (RFC 5880, asynchronous mode, in our own format), probes and reports
// into "can the data centre be used, and if not, where is the fault". It never
// opens a socket and never reads a clock. Start reading at Session and Judge.
package detect

import (
	"time"

	"komainu/failover/standby"
)

// SessionState is a BFD state (RFC 5880, 6.2).
type SessionState uint8

// The states, with the numbers of RFC 5880.
const (
	AdminDown SessionState = iota // taken down on purpose: says nothing about the path
	Down
	Init
	Up
)

var sessionNames = [...]string{"admin-down", "down", "init", "up"}

func (s SessionState) String() string { return sessionNames[s] }

// Side is one of the two holders of write authority.
type Side uint8

// The sides.
const (
	NoSide Side = iota
	DC
	Hall
)

var sideNames = [...]string{"none", "dc", "town-hall"}

func (s Side) String() string { return sideNames[s] }

// Message is one heartbeat. A box sends one per path every interval, and at
// once when what it reports has changed.
type Message struct {
	From      string        // site name of the sender
	State     SessionState  // RFC 5880 bfd.SessionState of the sender for this path
	Boot      uint64        // random per start of the sender's agent; a new one resets Seq
	Seq       uint64        // grows by one with every message of one Boot and path, from a base of the path's own
	Interval  time.Duration // between two messages before jitter, MinInterval to MaxInterval
	Mult      uint8         // silence of Interval × Mult means down; 1 and more
	EchoBoot  uint64        // Boot of the last message received on this path, 0 if none: what makes a replay after a restart useless
	EchoSeq   uint64        // its Seq
	EchoHold  time.Duration // from its arrival to this sending; the receiver's round-trip measure
	Groups    []GroupState
	Databases []DatabaseState
}

// GroupState is what a town-hall box says of one of its groups; the DC edge
// relays it to the database hosts.
type GroupState struct {
	Group string        // "site/group", as everywhere between boxes
	Term  uint64        // highest term the sender has made durable
	Owner Side          // who holds write authority under Term
	Mode  uint8         // machine.Mode of the sender, for display
	Age   time.Duration // since the origin said so; a relay adds what it held it for
}

// DatabaseState is what a database host says of one database; the DC edge
// relays it to the town hall.
type DatabaseState struct {
	Group    string
	Database string
	Host     string
	Age      time.Duration
	Role     standby.Role
	Term     uint64 // highest term the host has made durable
	Owner    Side
	Open     bool  // clients are let in and answered
	Phase    uint8 // machine.Phase of the host's side, for progress of a return
	Timeline uint32
	System   uint64
	Flush    standby.LSN
	Replay   standby.LSN
	FlushAt  int64         // wall time (Unix ns) at which Flush was sampled; for the lag in seconds
	Upstream bool          // as a standby: streaming from the town hall
	SlotLost bool          // the town hall's slot was invalidated: it must be copied anew
	Orphans  int32         // commits listed for the running return; -1: not listed yet
	Percent  uint8         // progress of a copy or rewind
	Fault    string        // reason code when something blocks, else empty
	FencedIn time.Duration // how long the last fence took from hearing the term to closed; 0: none yet
}

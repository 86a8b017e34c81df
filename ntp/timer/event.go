package timer

import (
	"net/netip"

	"komainu/ntp/leap"
	"komainu/ntp/source"
)

// Event is something that happened to the time daemon.
type Event interface{ event() }

// Started is the first event: what is left of the last run.
type Started struct {
	Drift  Drift   // zero: none, or not usable
	Kernel float64 // frequency correction that the kernel applies now, 1e-6
}

// Tick is the instant that Wake asked for, or an earlier one.
type Tick struct{}

// Resolved answers Resolve: the upstream's addresses now, in the resolver's
// order; none: the name isn't known or the resolver doesn't answer.
type Resolved struct {
	Upstream int
	Addrs    []netip.Addr
}

// Answer ends a Query with a reply that belongs to it.
type Answer struct {
	Source int
	Query  uint64
	Reply  source.Reply
}

// Silence ends a Query without a usable reply. Code is a row of appliance/say:
// "ntp-timeout", "ntp-refused", "ntp-auth", "ntp-nts", "ntp-bad-reply", "ntp-unreachable".
type Silence struct {
	Source int
	Query  uint64
	Code   string
	Detail string
}

// Failed says that the kernel or the disk refused an action of the last Step.
type Failed struct {
	Action string // "frequency", "slew", "step", "leap", "sync", "save", "wake"
	Detail string
}

// LeapTable is a leap-second list that was read, at start or later.
type LeapTable struct{ Table leap.Table }

// Order is an operator's.
type Order struct {
	ID   string
	Step bool // correct the offset in one step now, whatever it is
}

// Stopping is the last event of an orderly stop.
type Stopping struct{}

func (Stopping) event()  {}
func (Started) event()   {}
func (Tick) event()      {}
func (Resolved) event()  {}
func (Answer) event()    {}
func (Silence) event()   {}
func (Failed) event()    {}
func (LeapTable) event() {}
func (Order) event()     {}

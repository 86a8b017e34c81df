// Package timer is the time daemon's decision function: it composes sources,
// selection, discipline and holdover into Step, events in, ordered actions out.
// It has no clock, no randomness, no goroutine: it is told the box's clocks
// with every event, runs the same in the time daemon and in the simulation,
// and never touches a socket or the kernel. Start reading at Timer.Step.
package timer

import (
	"net/netip"
	"time"

	"komainu/ntp/holdover"
)

// Spec is what the timer is told once: the part of a box's configuration that
// concerns the discipline of its clock.
type Spec struct {
	Upstreams  []Upstream
	MinSources int           // sources that must agree before the clock follows; at least 1
	StepOver   time.Duration // at start a larger offset is stepped, later never without an order
	MaxSlew    float64       // 1e-6: how much faster or slower than true the clock may run to remove an offset
	Panic      time.Duration // an offset of the running clock beyond it is not corrected without an order
	Holdover   Holdover
	Orphan     uint8    // stratum when no upstream was ever heard or holdover has ended; 0: not synchronised instead
	ID         uint32   // reference ID of this box in orphan mode, unlike its neighbours'; the lowest one leads
	Own        []uint32 // reference IDs of our own addresses: who follows one of them isn't followed
	NoClock    bool     // the kernel's clock isn't ours to adjust: observe and serve only
	Precision  int8     // log2 of seconds, of reading the clock
	Crystal    holdover.Crystal
	Seed       uint64 // spreads queries in time; any number
}

// Upstream is one line of the configuration: a server, or a pool of them.
type Upstream struct {
	Name    string // host name or address, as configured
	Port    uint16
	Pool    int  // how many of its addresses to use at once; 0: one server
	Auth    bool // keys or NTS are configured: an answer without them doesn't count
	Prefer  bool // its offset is followed alone while it is among the true ones
	MinPoll int8 // log2 of seconds, shortest pause between queries in steady state, 4..17
	MaxPoll int8 // longest
}

// Holdover is how long the clock counts as right without any source. Up to
// Bound the box serves as before, with a root distance that covers its error;
// beyond it at Stratum, as a last resort; after Max not at all.
type Holdover struct {
	Bound   time.Duration
	Stratum uint8 // 2..15, above every true source's
	Max     time.Duration
}

// Server is one address that is asked.
type Server struct {
	ID       int // never used again for another
	Upstream int // index in Spec.Upstreams
	Addr     netip.AddrPort
}

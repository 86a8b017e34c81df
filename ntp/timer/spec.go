// Package timer is the time daemon's decision function: it composes sources,
// selection, discipline and holdover into Step, events in, ordered actions out.
// It has no clock, no randomness, no goroutine: it is told the box's clocks
// with every event, runs the same in the time daemon and in the simulation,
// and never touches a socket or the kernel. Start reading at Timer.Step.
package timer

import (
	"net/netip"
	"time"
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
	Orphan     uint8 // stratum when no upstream was ever heard or holdover has ended; 0: not synchronised instead
	NoClock    bool  // the kernel's clock isn't ours to adjust: observe and serve only
	Precision  int8  // log2 of seconds, of reading the clock
	Oscillator Oscillator
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

// Holdover is how long the clock counts as right without any source.
type Holdover struct {
	Stratum uint8         // served while it lasts and the bound isn't better than the last source's; 2..15
	Max     time.Duration // it ends after this time
	Bound   time.Duration // or when the error may be larger than this
}

// Oscillator is what is believed of the box's crystal before anything was
// learned from it.
type Oscillator struct {
	Ageing      float64 // largest change of frequency per day, 1e-6
	Temperature float64 // largest change of frequency over a day's temperatures, 1e-6
}

// Server is one address that is asked.
type Server struct {
	ID       int // never used again for another
	Upstream int // index in Spec.Upstreams
	Addr     netip.AddrPort
}

package timer

import (
	"time"

	"komainu/ntp/instant"
	"komainu/ntp/server"
)

// Action is something that the time daemon must do, in the order given.
type Action interface{ action() }

// Wake asks for a Tick at an instant; the last one counts.
type Wake struct{ At instant.Instant }

// Resolve asks for the addresses of Spec.Upstreams[Upstream]; ends in Resolved.
type Resolve struct{ Upstream int }

// Query asks a server once; ends in Answer or Silence within Timeout.
type Query struct {
	Server
	Query   uint64 // of this query, never used again
	Timeout time.Duration
}

// Forget drops what the driver keeps of a server (NTS keys and cookies).
type Forget struct{ Source int }

// SetFrequency sets the kernel's frequency correction, absolute, 1e-6,
// positive makes the clock faster; within ±500.
type SetFrequency struct{ PPM float64 }

// Slew gives the kernel's phase-locked loop an offset to remove, in place of
// what is left of the one before (adjtimex(2) ADJ_OFFSET with STA_FREQHOLD):
// in every second it removes 2^-(2+Constant) of what is left. It ends by itself,
// whatever becomes of the daemon.
type Slew struct {
	Offset   time.Duration // positive: the clock must go forward; within ±0.5 s
	Constant int           // 0..10
}

// StepClock sets the clock forward, or back for a negative By, and drops what
// is left of a Slew.
type StepClock struct{ By time.Duration }

// SetLeap tells the kernel to insert (+1) or delete (-1) a second at the end
// of this UTC day, or not to (0).
type SetLeap struct{ Seconds int }

// SetTAI tells the kernel TAI − UTC in seconds (CLOCK_TAI). At a leap second it
// counts on by itself.
type SetTAI struct{ Seconds int }

// SetSync tells the kernel whether its clock counts as synchronised, which
// makes it set the hardware clock every 11 minutes, and how wrong it may be.
type SetSync struct {
	Synced bool
	Bound  time.Duration
}

// Publish is what the server tells clients from now on.
type Publish struct{ State server.State }

// Save asks to write the drift file.
type Save struct{ Drift Drift }

// Alarm raises or clears an alarm. ID is a row of appliance/say.
type Alarm struct {
	ID       string
	Subject  string // source, or empty
	Critical bool
	Raised   bool
}

// Note is a line of the log for people: a row of appliance/say.
type Note struct {
	Code string
	Args []string
}

// Done answers an Order; Code is a row of appliance/say, empty when it was
// carried out.
type Done struct {
	ID   string
	Code string
	Args []string
}

// Kind is the name of an action that the kernel or the disk may refuse, for
// Failed; empty for others.
func Kind(a Action) string {
	switch a.(type) {
	case SetFrequency:
		return "frequency"
	case Slew:
		return "slew"
	case StepClock:
		return "step"
	case SetLeap:
		return "leap"
	case SetTAI:
		return "tai"
	case SetSync:
		return "sync"
	case Save:
		return "save"
	case Wake:
		return "wake"
	}
	return ""
}

func (Wake) action()         {}
func (Resolve) action()      {}
func (Query) action()        {}
func (Forget) action()       {}
func (SetFrequency) action() {}
func (Slew) action()         {}
func (StepClock) action()    {}
func (SetLeap) action()      {}
func (SetTAI) action()       {}
func (SetSync) action()      {}
func (Publish) action()      {}
func (Save) action()         {}
func (Alarm) action()        {}
func (Note) action()         {}
func (Done) action()         {}

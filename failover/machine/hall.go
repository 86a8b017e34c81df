// Package machine holds the two state machines of a failover: the town hall's,
// one per group (hall.go, rows in hallrows.go), and the database host's, one
// per database (dc.go). Both are tables of rows: phase, guard, next phase. A
// row's outcome is a record that must be durable before the machine is in it;
// what a phase wants of the world is a level (Want), so that a box that
// restarts anywhere goes on from its record alone. Nothing here acts.
package machine

import (
	"time"

	"komainu/failover/detect"
	"komainu/failover/standby"
	"komainu/ntp/instant"
)

// Mode is what people see of a group (design: modes of a group).
type Mode uint8

// The modes.
const (
	ModeDC Mode = iota
	ModeLocalRead
	ModeLocalWrite
	ModeReturning
)

var modeNames = [...]string{"dc", "local-read", "local-write", "returning"}

func (m Mode) String() string { return modeNames[m] }

// Phase is where a group stands, finer than its mode.
type Phase uint8

// The phases, in the order of a full outage.
const (
	AtDC        Phase = iota // clients at the DC, local endpoint locked
	LocalRead                // clients here, standby still in recovery
	LeavingRead              // new connections to the DC, local sessions drain
	Fencing                  // write order: the DC was told, its confirmation is awaited
	CatchingUp               // the DC is fenced; the rest of its log is awaited
	Promoting                // authority is ours, the promotion runs
	LocalWrite
	Rejoining // the DC side becomes our standby
	Settling  // checkpoint, so that the stop is short
	Parking   // new connections wait
	Draining  // sessions are ended
	Stopping  // the local server stops
	Handing   // the DC must have replayed our shutdown checkpoint
	Granting  // authority is the DC's, its opening is awaited
	phases
)

var phaseNames = [...]string{"at-dc", "local-read", "leaving-read", "fencing", "catching-up", "promoting", "local-write",
	"rejoining", "settling", "parking", "draining", "stopping", "handing", "granting"}

func (p Phase) String() string { return phaseNames[p] }

// Mode is the mode that people see in phase p.
func (p Phase) Mode() Mode {
	switch {
	case p == AtDC:
		return ModeDC
	case p < LocalWrite:
		return ModeLocalRead
	case p == LocalWrite:
		return ModeLocalWrite
	}
	return ModeReturning
}

// Target is where a group's clients go.
type Target uint8

// The targets.
const (
	ToDC Target = iota
	ToLocal
	ToNobody
	ToPark
)

// Policy is a group's configuration.
type Policy struct {
	Group      string // "site/group"
	Databases  []string
	AutoDown   bool // down = "auto"
	AutoBack   bool // back = "auto": return after local writes without an order
	Write      WritePolicy
	HoldDown   time.Duration // base of the stability time before a move back
	Drain      time.Duration // grace for open transactions in a hand-over
	MaxReadAge time.Duration // 0: unbounded
}

// WritePolicy says who may give the town hall write authority.
type WritePolicy uint8

// The policies.
const (
	WriteNever WritePolicy = iota
	WriteOperator
)

// Record is what a group keeps on disk. Only durable terms are ever told to
// another box.
type Record struct {
	Version   int           `json:"version"`
	Group     string        `json:"group"`
	Term      uint64        `json:"term"`
	Owner     detect.Side   `json:"owner"`
	Phase     Phase         `json:"phase"`
	Epoch     uint16        `json:"epoch"`      // of the steering; grows with every move
	GateEpoch uint16        `json:"gate_epoch"` // epoch in which local connections open
	Hold      bool          `json:"hold"`
	Pinned    bool          `json:"pinned"`    // local by order: no return by itself
	Confirmed bool          `json:"confirmed"` // the DC confirmed its fence under Term
	Voucher   *Voucher      `json:"voucher,omitempty"`
	Cause     string        `json:"cause"` // code: why the group left its last phase
	Args      []string      `json:"args,omitempty"`
	Since     int64         `json:"since"`              // wall, Unix ns
	Moves     []int64       `json:"moves,omitempty"`    // wall times of automatic moves away from the DC, within the damping window
	Handover  []standby.LSN `json:"handover,omitempty"` // per database: our shutdown checkpoint
	Fork      []standby.LSN `json:"fork,omitempty"`     // per database: where we were promoted
	Loss      Loss          `json:"loss"`
	Accepted  int32         `json:"accepted"` // orphans that an operator gave up; -1: none
}

// Loss is what a promotion may have left behind.
type Loss struct {
	Known bool          `json:"known"` // false: nobody can say
	Bytes uint64        `json:"bytes"`
	Age   time.Duration `json:"age_ns"` // of the last change that was received
}

// FirstRecord is a group's record before anything happened.
func FirstRecord(group string) Record {
	return Record{Version: 1, Group: group, Term: 1, Owner: detect.DC, Epoch: 1, Accepted: -1}
}

// Local is one database as this box sees its own copy.
type Local struct {
	Observation standby.Observation
	Ready       standby.Readiness
	OpDone      bool // the phase's operation (Want.Op) has succeeded since the phase began
	Busy        bool // an operation is in flight
}

// Remote is one database as its host reports it.
type Remote struct {
	Fresh bool // reported within the last seconds
	Known bool // reported at all since this agent's start
	State detect.DatabaseState
}

// Facts is what a group's machine is told at every step.
type Facts struct {
	Now       instant.Instant
	Wall      int64 // Unix ns, for records and people only
	Verdict   detect.Verdict
	UsableFor time.Duration // how long the verdict has been "usable" without a break
	PathUp    bool
	Listening bool     // just started: that nothing was heard means nothing yet
	Local     []Local  // in the order of Policy.Databases
	Remote    []Remote // likewise
	Steered   Target   // as the kernel last confirmed
	Order     *Order   // at most one, new
}

// Op is a piece of work on the local server that a phase wants done once.
type Op uint8

// The operations.
const (
	NoOp Op = iota
	OpCheckpoint
	OpDrain
	OpOpenWrites // after a promotion: advance sequences, make the journal slot
)

// Want is what a phase asks of the world, as levels.
type Want struct {
	Target Target
	Retire bool         // connections of older epochs are removed and reset
	Role   standby.Role // Standby, Primary or Stopped
	Gate   bool         // local endpoint open
	Op     Op
	Order  OrderKind // to be repeated to the database hosts until their state shows its effect; "" none
}

// Hall is one group's machine.
type Hall struct {
	Policy  Policy
	rec     Record
	entered instant.Instant
	pending *Order
	placed  *Order          // waits with the record that is being saved
	stable  instant.Instant // since when a move back has been possible without a break; 0: it isn't
}

// NewHall starts from a durable record; see Abandon for a hand-over that was
// under way.
func NewHall(p Policy, rec Record, now instant.Instant) *Hall {
	return &Hall{Policy: p, rec: rec, entered: now}
}

// Record is the present durable record.
func (h *Hall) Record() Record { return h.rec }

// Entered is when the present phase began (or this agent started).
func (h *Hall) Entered() instant.Instant { return h.entered }

// Pending is the order that is being carried out, nil if none.
func (h *Hall) Pending() *Order { return h.pending }

// Outcome is what one step of a machine decided.
type Outcome[R any] struct {
	Next    *R      // to be made durable, then given to Commit; nil: stay
	Row     string  // code of the row that fired
	Replies []Reply // to orders, at once
	Adopted bool    // Next may be used even if it cannot be saved (no authority moves)
}

// Commit tells the machine that rec is durable.
func (h *Hall) Commit(rec Record, now instant.Instant) []Reply {
	moved := rec.Phase != h.rec.Phase
	h.rec = rec
	if h.placed != nil {
		h.pending, h.placed = h.placed, nil
	}
	if moved {
		h.entered = now
	}
	return h.settle()
}

// Discard tells the machine that the record that it last decided on could not
// be saved: it stays where it is, and so does its pending order.
func (h *Hall) Discard() []Reply {
	o := h.placed
	if o == nil {
		return nil
	}
	h.placed = nil
	return []Reply{{ID: o.ID, Code: "state-not-saved", Args: []string{h.rec.Group}}}
}

// settle answers the pending order when its end is reached.
func (h *Hall) settle() []Reply {
	o := h.pending
	if o == nil {
		return nil
	}
	var code string
	switch {
	case o.Kind == SwitchLocal && (h.rec.Phase == LocalRead || h.rec.Phase == LocalWrite):
		code = "done-local"
	case o.Kind == SwitchDC && h.rec.Phase == AtDC:
		code = "done-dc"
	case o.Kind == Write && h.rec.Phase == LocalWrite:
		code = "done-write"
	default:
		return h.refusePending()
	}
	h.pending = nil
	return []Reply{{ID: o.ID, OK: true, Code: code, Args: []string{h.rec.Group}}}
}

// refusePending answers an order whose work ended elsewhere than intended.
func (h *Hall) refusePending() []Reply {
	o := h.pending
	p := h.rec.Phase
	failed := o.Kind == Write && (p == LocalRead || p == AtDC || p == LeavingRead) ||
		o.Kind == SwitchDC && (p == LocalWrite || p == LocalRead)
	if !failed {
		return nil
	}
	h.pending = nil
	return []Reply{{ID: o.ID, Code: h.rec.Cause, Args: h.rec.Args}}
}

package machine

import (
	"strconv"
	"time"

	"komainu/failover/detect"
	"komainu/failover/standby"
	"komainu/ntp/instant"
)

// cleanStopBound is how long a fenced server may take to ship the rest of its
// log and stop; then it is stopped without.
const cleanStopBound = 3 * time.Second

// DCPhase is where a database host stands with one database.
type DCPhase uint8

// The phases of a database host.
const (
	Closed    DCPhase = iota // since boot: fenced until somebody clears it
	Serving                  // primary, clients let in
	Fenced                   // the town hall has, or may take, write authority
	Keeping                  // return: the complete cluster is copied aside
	Listing                  // return: commits that the town hall doesn't have are listed
	Awaiting                 // return: an operator must accept that number
	Rewinding                // return: pg_rewind
	Copying                  // return: a fresh copy, where rewinding is impossible
	Following                // standby of the town hall
	Taking                   // granted: promotion runs
	dcPhases
)

var dcPhaseNames = [...]string{"closed", "serving", "fenced", "keeping", "listing", "awaiting", "rewinding", "copying", "following", "taking"}

func (p DCPhase) String() string {
	if p < dcPhases {
		return dcPhaseNames[p]
	}
	return "unknown"
}

// DCRecord is what a database host keeps on disk for one database.
type DCRecord struct {
	Version  int         `json:"version"`
	Group    string      `json:"group"`
	Database string      `json:"database"`
	Term     uint64      `json:"term"`
	Owner    detect.Side `json:"owner"`
	Phase    DCPhase     `json:"phase"`
	Epoch    uint16      `json:"epoch"` // of the gate; grows with every opening
	Voucher  *Voucher    `json:"voucher,omitempty"`
	Cause    string      `json:"cause"`
	Since    int64       `json:"since"`   // wall, Unix ns
	Fork     standby.LSN `json:"fork"`    // where the town hall left our history
	Peer     string      `json:"peer"`    // where the town hall's server can be reached, "host:port"
	Kept     string      `json:"kept"`    // the copy set aside by the running return
	Orphans  int32       `json:"orphans"` // listed by the running return; -1: not listed
	Accepted int32       `json:"accepted"`
	ClosedAt int64       `json:"closed_at"` // wall: when the gate was last closed
}

// FirstDCRecord is a database's record before anything happened.
func FirstDCRecord(group, database string) DCRecord {
	return DCRecord{Version: 1, Group: group, Database: database, Term: 1, Owner: detect.DC, Orphans: -1, Accepted: -1}
}

// DCOp is a piece of work on the database host's server that a phase wants.
type DCOp uint8

// The operations.
const (
	NoDCOp DCOp = iota
	OpKeep
	OpList
	OpRewind
	OpCopy
	OpSlots // slots for the town hall and for the orphan list, before clients are let in
)

// DCFacts is what a database's machine is told at every step.
type DCFacts struct {
	Now    instant.Instant
	Wall   int64
	Local  standby.Observation
	Busy   bool
	OpDone bool
	OpCode string             // code of the phase's operation's failure, "" none
	Kept   string             // result of OpKeep
	Listed int32              // result of OpList
	Heard  *detect.GroupState // the town hall's last word, nil if it isn't fresh
	Order  *Order
}

// DCWant is what a phase asks of the world.
type DCWant struct {
	Role      standby.Role // Standby, Primary or Stopped
	Immediate bool         // stop without a shutdown checkpoint: the fence must not wait
	Gate      bool
	Op        DCOp
}

// Database is one database's machine on its host.
type Database struct {
	never   bool // write = "never": the town hall can't have promoted
	rec     DCRecord
	entered instant.Instant
}

// NewDatabase starts from a durable record. never: the group's policy forbids
// local writes, so nobody has to clear the opening.
func NewDatabase(never bool, rec DCRecord, now instant.Instant) *Database {
	return &Database{never: never, rec: rec, entered: now}
}

// Record is the present durable record.
func (d *Database) Record() DCRecord { return d.rec }

// Entered is when the present phase began.
func (d *Database) Entered() instant.Instant { return d.entered }

// Commit tells the machine that rec is durable.
func (d *Database) Commit(rec DCRecord, now instant.Instant) {
	if rec.Phase != d.rec.Phase {
		d.entered = now
	}
	d.rec = rec
}

// Boot is the record that a start of the agent begins with: a server that was
// not found serving behind its open gate is closed, whatever the record says
// ("the DC boots fenced").
func (d *Database) Boot(serving bool, wall int64) *DCRecord {
	if d.rec.Phase != Taking && (d.rec.Phase != Serving || serving) {
		return nil
	}
	next := d.rec
	next.Phase, next.Cause, next.Since = Closed, "booted-fenced", wall
	return &next
}

// dcView is what a guard of the database host sees.
type dcView struct {
	*Database
	DCFacts
	next DCRecord
}

type dcRow struct {
	From []DCPhase
	Code string
	When func(*dcView) bool
	To   DCPhase
	Then func(*dcView)
}

// dcRows is the database host's table; the first row whose guard holds is
// taken. The first two stand before all others: a higher term is obeyed first.
var dcRows = []dcRow{
	{[]DCPhase{Closed, Serving, Taking}, "higher-term", func(v *dcView) bool { return v.higher() && v.Heard.Owner != detect.DC }, Fenced, (*dcView).obey},
	{[]DCPhase{Fenced}, "higher-term", func(v *dcView) bool {
		return v.Heard != nil && v.Heard.Owner == detect.Hall && (v.higher() || v.Heard.Term == v.rec.Term && v.rec.Owner != detect.Hall)
	}, Fenced, (*dcView).obey},
	// The town hall called a write order off before anything was promoted.
	{[]DCPhase{Fenced}, "given-back", func(v *dcView) bool { return v.higher() && v.Heard.Owner == detect.DC }, Taking, (*dcView).obey},
	{[]DCPhase{Serving}, "higher-term", func(v *dcView) bool { return v.higher() && v.Heard.Owner == detect.DC }, Serving, (*dcView).obey},
	// A standby of the town hall holds nothing that the town hall doesn't: it
	// follows it through another promotion, and has no orphans to list.
	{[]DCPhase{Following}, "higher-term", func(v *dcView) bool { return v.higher() && v.Heard.Owner == detect.Hall }, Following, (*dcView).obey},
	{[]DCPhase{Keeping, Listing, Awaiting, Rewinding, Copying, Following}, "higher-term", func(v *dcView) bool {
		return v.higher() && v.Heard.Owner != detect.DC
	}, Fenced, (*dcView).obey},

	{[]DCPhase{Closed}, "cleared", func(v *dcView) bool {
		return v.rec.Owner == detect.DC && v.Heard != nil && v.Heard.Owner == detect.DC
	}, Taking, func(v *dcView) { v.next.Term = max(v.rec.Term, v.Heard.Term) }},
	{[]DCPhase{Closed}, "cleared-by-policy", func(v *dcView) bool { return v.rec.Owner == detect.DC && v.never }, Taking, nil},
	{[]DCPhase{Closed}, "not-ours", func(v *dcView) bool { return v.rec.Owner != detect.DC }, Fenced, nil},
	{[]DCPhase{Taking}, "open", func(v *dcView) bool { return v.Local.Role == standby.Primary && v.OpDone }, Serving, func(v *dcView) {
		v.next.Epoch++
		v.next.Orphans, v.next.Accepted, v.next.Kept = -1, -1, ""
	}},

	{[]DCPhase{Keeping}, "kept", func(v *dcView) bool { return v.OpDone }, Listing, func(v *dcView) { v.next.Kept = v.Kept }},
	{[]DCPhase{Listing}, "listed-none", func(v *dcView) bool { return v.OpDone && v.Listed == 0 }, Rewinding, func(v *dcView) { v.next.Orphans = 0 }},
	{[]DCPhase{Listing}, "listed", func(v *dcView) bool { return v.OpDone }, Awaiting, func(v *dcView) { v.next.Orphans = v.Listed }},
	{[]DCPhase{Rewinding}, "rewound", func(v *dcView) bool { return v.OpDone }, Following, nil},
	{[]DCPhase{Rewinding}, "rewind-impossible", func(v *dcView) bool { return v.OpCode == "rewind-impossible" }, Copying, nil},
	{[]DCPhase{Copying}, "copied", func(v *dcView) bool { return v.OpDone }, Following, nil},
}

type dcOrderRow struct {
	Kind   OrderKind
	From   []DCPhase
	Refuse func(*dcView) string
	To     func(*dcView) DCPhase
	Then   func(*dcView)
}

func dcStay(v *dcView) DCPhase { return v.rec.Phase }

func dcTo(p DCPhase) func(*dcView) DCPhase { return func(*dcView) DCPhase { return p } }

// The order's term is checked before these rows: lower than ours is refused.
var dcOrderRows = []dcOrderRow{
	{Kind: Open, From: []DCPhase{Closed}, Refuse: func(v *dcView) string {
		if v.rec.Owner != detect.DC {
			return "refused-not-ours"
		}
		if v.Order.Reason == "" {
			return "refused-no-reason"
		}
		return ""
	}, To: dcTo(Taking), Then: func(v *dcView) {
		v.next.Voucher = &Voucher{Term: v.rec.Term, By: v.Order.By, Reason: v.Order.Reason, Wall: v.Wall}
	}},
	{Kind: Open, From: []DCPhase{Serving, Taking}, To: dcStay},

	{Kind: Fence, From: []DCPhase{Closed, Serving, Taking}, Refuse: func(v *dcView) string {
		if v.Order.Term == v.rec.Term {
			return "refused-stale-term"
		}
		return ""
	}, To: dcTo(Fenced), Then: func(v *dcView) {
		v.next.Term, v.next.Owner, v.next.ClosedAt = v.Order.Term, detect.NoSide, v.Wall
	}},
	{Kind: Fence, From: []DCPhase{Fenced}, To: dcStay, Then: func(v *dcView) { v.next.Term = v.Order.Term }},

	{Kind: Rejoin, From: []DCPhase{Fenced}, Refuse: func(v *dcView) string {
		if v.Order.Term != v.rec.Term || v.rec.Owner != detect.Hall {
			return "refused-stale-term"
		}
		return ""
	}, To: dcTo(Keeping), Then: func(v *dcView) {
		v.next.Fork, v.next.Peer, v.next.Orphans, v.next.Accepted = v.Order.LSN, v.Order.Clients, -1, -1
	}},
	{Kind: Rejoin, From: []DCPhase{Keeping, Listing, Awaiting, Rewinding, Copying, Following}, To: dcStay},

	{Kind: AcceptOrphans, From: []DCPhase{Awaiting}, Refuse: func(v *dcView) string {
		if v.Order.Count != v.rec.Orphans {
			return "refused-orphan-count"
		}
		return ""
	}, To: dcTo(Rewinding), Then: func(v *dcView) { v.next.Accepted = v.Order.Count }},

	{Kind: Promote, From: []DCPhase{Following}, Refuse: func(v *dcView) string {
		switch {
		case v.Order.Term == v.rec.Term:
			return "refused-stale-term"
		case v.Local.Role != standby.Standby || v.Local.Replay < v.Order.LSN:
			return "refused-not-caught-up"
		}
		return ""
	}, To: dcTo(Taking), Then: func(v *dcView) {
		v.next.Term, v.next.Owner, v.next.Voucher = v.Order.Term, detect.DC, nil
	}},
	{Kind: Promote, From: []DCPhase{Taking, Serving}, To: dcStay},
}

// Step decides one move, or none.
func (d *Database) Step(f DCFacts) Outcome[DCRecord] {
	v := &dcView{Database: d, DCFacts: f, next: d.rec}
	if f.Order != nil {
		return v.order()
	}
	for _, r := range dcRows {
		if !dcIn(r.From, d.rec.Phase) || !r.When(v) {
			continue
		}
		v.next.Phase, v.next.Cause, v.next.Since = r.To, r.Code, v.Wall
		if r.Then != nil {
			r.Then(v)
		}
		return Outcome[DCRecord]{Next: &v.next, Row: r.Code}
	}
	return Outcome[DCRecord]{}
}

func (v *dcView) order() Outcome[DCRecord] {
	o := *v.Order
	refuse := func(code string) Outcome[DCRecord] {
		return Outcome[DCRecord]{Replies: []Reply{{ID: o.ID, Code: code, Args: []string{strconv.FormatUint(o.Term, 10), strconv.FormatUint(v.rec.Term, 10)}}}}
	}
	if o.Kind != Open && o.Term < v.rec.Term {
		return refuse("refused-stale-term")
	}
	for _, r := range dcOrderRows {
		if r.Kind != o.Kind || !dcIn(r.From, v.rec.Phase) {
			continue
		}
		if r.Refuse != nil {
			if code := r.Refuse(v); code != "" {
				return refuse(code)
			}
		}
		if p := r.To(v); p != v.rec.Phase {
			v.next.Phase, v.next.Cause, v.next.Since = p, "ordered-"+string(o.Kind), v.Wall
		}
		if r.Then != nil {
			r.Then(v)
		}
		return Outcome[DCRecord]{Next: &v.next, Row: "ordered-" + string(o.Kind), Replies: []Reply{{ID: o.ID, OK: true, Code: "done-" + string(o.Kind), Args: []string{v.rec.Database}}}}
	}
	return refuse("refused-in-phase")
}

// Want is what the present phase asks for.
func (d *Database) Want(now instant.Instant) DCWant {
	switch d.rec.Phase {
	case Closed, Keeping, Listing, Awaiting:
		w := DCWant{Role: standby.Stopped}
		switch d.rec.Phase {
		case Keeping:
			w.Op = OpKeep
		case Listing:
			w.Op = OpList
		}
		return w
	case Fenced:
		// Somebody else is promoted already: seconds count. Before that the
		// rest of our log should reach the town hall: a clean stop ships it.
		return DCWant{Role: standby.Stopped, Immediate: d.rec.Owner == detect.Hall || now.Sub(d.entered) >= cleanStopBound}
	case Rewinding:
		return DCWant{Role: standby.Stopped, Op: OpRewind}
	case Copying:
		return DCWant{Role: standby.Stopped, Op: OpCopy}
	case Following:
		return DCWant{Role: standby.Standby}
	case Taking:
		return DCWant{Role: standby.Primary, Op: OpSlots}
	case Serving:
		return DCWant{Role: standby.Primary, Gate: true}
	}
	return DCWant{Role: standby.Stopped}
}

func (v *dcView) higher() bool { return v.Heard != nil && v.Heard.Term > v.rec.Term }

func (v *dcView) obey() {
	v.next.Term, v.next.Owner = v.Heard.Term, v.Heard.Owner
	if v.rec.Phase == Serving && v.next.Phase == Fenced {
		v.next.ClosedAt = v.Wall
	}
}

func dcIn(set []DCPhase, p DCPhase) bool {
	for _, q := range set {
		if p == q {
			return true
		}
	}
	return false
}

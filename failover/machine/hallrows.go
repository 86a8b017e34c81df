package machine

import (
	"strconv"
	"time"

	"komainu/failover/detect"
	"komainu/failover/standby"
)

// Bounds of the steps. Only the hold-down and the drain are configured.
const (
	fenceBound    = 5 * time.Second  // for the DC's confirmation; then the write order is refused
	catchUpBound  = 3 * time.Second  // for the fenced DC's last log
	handoverBound = 10 * time.Second // from parking to grant, the drain apart
	grantBound    = 5 * time.Second  // clients wait parked for the DC to open, then read here
	settledLag    = 16 << 20         // bytes that may be missing when the hand-over begins
	dampingWindow = time.Hour
	maxDamping    = 5 // the hold-down doubles with every automatic move in the window, at most 2^5 times
)

// view is what a guard sees: the record, the facts, and the record to be.
type view struct {
	*Hall
	Facts
	next Record
}

// row is one line of the table: in phase From, when the guard holds, go to To.
type row struct {
	From []Phase
	Code string // why: shown to people and kept in the record
	When func(*view) bool
	To   Phase
	Then func(*view) // what else changes in the record
}

// hallRows is the town hall's table; the first row whose guard holds is taken.
// Orders have their own rows (orderRows), looked at before these.
var hallRows = []row{
	// Out, fast and by itself: reads only.
	{[]Phase{AtDC}, "dc-unusable", func(v *view) bool {
		return v.Verdict.Unusable && v.reads() && v.Policy.AutoDown && !v.rec.Hold
	}, LocalRead, (*view).moveOut},
	{[]Phase{LeavingRead}, "dc-unusable", func(v *view) bool { return v.Verdict.Unusable && !v.rec.Hold }, LocalRead, (*view).moveOut},

	// Back, slowly and by itself.
	{[]Phase{LocalRead}, "dc-usable", func(v *view) bool {
		return !v.rec.Pinned && !v.rec.Hold && v.stableFor() >= v.HoldDown(v.Wall)
	}, LeavingRead, (*view).leave},
	{[]Phase{LeavingRead}, "drained", func(v *view) bool { return v.ops() }, AtDC, nil},

	// A write order: fence what can be reached, then promote.
	{[]Phase{Fencing}, "fence-confirmed", (*view).fenced, CatchingUp, func(v *view) { v.next.Confirmed = true }},
	{[]Phase{Fencing}, "line-lost-while-fencing", func(v *view) bool { return !v.reachable() }, LocalRead, (*view).giveBack},
	{[]Phase{Fencing}, "fence-not-confirmed", func(v *view) bool { return v.inPhase() >= fenceBound }, LocalRead, (*view).giveBack},
	// A copy that can't be promoted any more: nothing is taken over by halves.
	{[]Phase{Fencing, CatchingUp}, "standby-not-ready", func(v *view) bool { return !v.promotable() && !v.busy() }, LocalRead, (*view).giveBack},
	{[]Phase{CatchingUp}, "caught-up", (*view).caughtUp, Promoting, func(v *view) {
		v.next.Owner = detect.Hall
		v.next.Loss = Loss{Known: true}
	}},
	{[]Phase{CatchingUp}, "log-incomplete", func(v *view) bool { return v.inPhase() >= catchUpBound || !v.reachable() && !v.Listening }, Promoting, func(v *view) {
		v.next.Owner = detect.Hall
		v.next.Loss = v.gap()
	}},
	{[]Phase{Promoting}, "promoted", func(v *view) bool { return v.locals(standby.Primary) && v.ops() }, LocalWrite, func(v *view) {
		v.next.Fork = v.forks()
	}},
	// A heartbeat between the order and the promotion: the voucher is worth
	// nothing while the DC answers and does not confirm.
	{[]Phase{Promoting}, "fence-not-confirmed", func(v *view) bool {
		return !v.mayPromote() && !v.Listening && !v.touched() && !v.busy() && v.inPhase() >= fenceBound
	}, LocalRead, (*view).giveBack},
	{[]Phase{Promoting}, "standby-not-ready", func(v *view) bool {
		return !v.promotable() && !v.touched() && !v.busy() && v.inPhase() >= fenceBound
	}, LocalRead, (*view).giveBack},
	{[]Phase{Promoting}, "fence-confirmed", func(v *view) bool { return !v.rec.Confirmed && v.fenced() }, Promoting, func(v *view) { v.next.Confirmed = true }},

	// The return.
	{[]Phase{LocalWrite}, "dc-usable", func(v *view) bool {
		return v.Policy.AutoBack && !v.rec.Pinned && !v.rec.Hold && v.returnable() && v.stableFor() >= v.HoldDown(v.Wall)
	}, Rejoining, nil},
	{[]Phase{Rejoining}, "dc-follows", func(v *view) bool { return v.ops() && v.following(settledLag) && (!v.rec.Hold || v.pending != nil) }, Settling, nil},
	{[]Phase{Settling}, "settled", func(v *view) bool { return v.ops() && v.following(settledLag) }, Parking, nil},
	{[]Phase{Settling}, "dc-lost-while-returning", func(v *view) bool { return v.inPhase() >= handoverBound }, Rejoining, nil},
	{[]Phase{Parking}, "parked", func(v *view) bool { return v.Steered == ToPark }, Draining, nil},
	{[]Phase{Draining}, "drained", (*view).ops, Stopping, nil},
	{[]Phase{Stopping}, "stopped", func(v *view) bool { return v.locals(standby.Stopped) && v.clean() }, Handing, func(v *view) { v.next.Handover = v.shutdowns() }},
	{[]Phase{Handing}, "dc-has-all", (*view).handed, Granting, func(v *view) {
		v.next.Term++
		v.next.Owner = detect.DC
		v.next.Confirmed, v.next.Voucher = false, nil
	}},
	{[]Phase{Parking, Draining, Stopping, Handing}, "hand-over-given-up", func(v *view) bool {
		bound := handoverBound
		if v.rec.Phase == Draining {
			bound += v.Policy.Drain
		}
		return !v.PathUp || v.inPhase() >= bound
	}, LocalWrite, nil},
	{[]Phase{Granting}, "dc-open", (*view).opened, AtDC, (*view).settleAtDC},
	{[]Phase{Granting}, "dc-lost-while-returning", func(v *view) bool { return v.inPhase() >= grantBound && v.reads() }, LocalRead, (*view).moveOut},
}

// orderRow says what an order leads to.
type orderRow struct {
	Kind OrderKind
	From []Phase
	// Refuse returns the code of a refusal, empty to go on.
	Refuse func(*view) (string, []string)
	To     func(*view) Phase
	Then   func(*view)
	Waits  bool // answered when the group gets there, not at once
}

var everywhere = func() (all []Phase) {
	for p := range phases {
		all = append(all, p)
	}
	return all
}()

var orderRows = []orderRow{
	{Kind: Hold, From: everywhere, To: stay, Then: func(v *view) { v.next.Hold = true }},
	{Kind: Release, From: everywhere, To: stay, Then: func(v *view) { v.next.Hold = false }},

	{Kind: SwitchLocal, From: []Phase{AtDC}, Refuse: (*view).refuseReads, To: to(LocalRead), Then: func(v *view) {
		v.moveByOrder()
		v.next.Pinned = true
	}, Waits: true},
	{Kind: SwitchLocal, From: []Phase{LocalRead, LocalWrite}, To: stay, Then: func(v *view) { v.next.Pinned = true }},
	{Kind: SwitchLocal, From: []Phase{LeavingRead}, Refuse: (*view).refuseReads, To: to(LocalRead), Then: func(v *view) {
		v.moveByOrder()
		v.next.Pinned = true
	}, Waits: true},
	{Kind: SwitchLocal, From: []Phase{Rejoining, Settling, Parking, Draining, Stopping, Handing}, To: to(LocalWrite), Then: func(v *view) { v.next.Pinned = true }, Waits: true},

	{Kind: SwitchDC, From: []Phase{AtDC}, To: stay},
	{Kind: SwitchDC, From: []Phase{LocalRead}, Refuse: func(v *view) (string, []string) {
		if !v.Verdict.Usable {
			return "refused-dc-unusable", []string{v.Verdict.Reason}
		}
		return "", nil
	}, To: to(LeavingRead), Then: (*view).leave, Waits: true},
	{Kind: SwitchDC, From: []Phase{LocalWrite}, Refuse: func(v *view) (string, []string) {
		if !v.reachable() {
			return "refused-dc-unreachable", nil
		}
		return "", nil
	}, To: to(Rejoining), Then: func(v *view) { v.next.Pinned = false }, Waits: true},

	{Kind: Write, From: []Phase{LocalWrite}, To: stay},
	{Kind: Write, From: []Phase{AtDC, LocalRead}, Refuse: (*view).refuseWrite, To: func(v *view) Phase {
		if v.reachable() {
			return Fencing
		}
		return Promoting
	}, Then: (*view).orderWrite, Waits: true},

	{Kind: AcceptOrphans, From: []Phase{Rejoining}, Refuse: (*view).refuseOrphans, To: stay, Then: func(v *view) { v.next.Accepted = v.Order.Count }},
}

func stay(v *view) Phase { return v.rec.Phase }

func to(p Phase) func(*view) Phase { return func(*view) Phase { return p } }

// Step decides one move, or none.
func (h *Hall) Step(f Facts) Outcome[Record] {
	v := &view{Hall: h, Facts: f, next: h.rec}
	v.watchStability()
	if f.Order != nil {
		return v.order()
	}
	for _, r := range hallRows {
		if !in(r.From, h.rec.Phase) || !r.When(v) {
			continue
		}
		v.become(r.To, r.Code, nil)
		if r.Code == "dc-unusable" {
			v.next.Cause, v.next.Args = v.Verdict.Reason, v.Verdict.Args
		}
		if r.Then != nil {
			r.Then(v)
		}
		return Outcome[Record]{Next: &v.next, Row: r.Code, Adopted: v.next.Term == h.rec.Term && v.next.Owner == h.rec.Owner && v.next.Phase <= LeavingRead}
	}
	return Outcome[Record]{}
}

func (v *view) order() Outcome[Record] {
	o := *v.Order
	refuse := func(code string, args ...string) Outcome[Record] {
		return Outcome[Record]{Replies: []Reply{{ID: o.ID, Code: code, Args: args}}}
	}
	if v.pending != nil && o.Kind != Hold && o.Kind != Release && o.Kind != AcceptOrphans && (o.Kind != SwitchLocal || v.pending.Kind != SwitchDC) {
		return refuse("refused-busy", string(v.pending.Kind), v.pending.By)
	}
	for _, r := range orderRows {
		if r.Kind != o.Kind || !in(r.From, v.rec.Phase) {
			continue
		}
		if r.Refuse != nil {
			if code, args := r.Refuse(v); code != "" {
				return refuse(code, args...)
			}
		}
		if p := r.To(v); p != v.rec.Phase {
			v.become(p, "ordered-"+string(o.Kind), []string{o.By, o.Reason})
		}
		if r.Then != nil {
			r.Then(v)
		}
		out := Outcome[Record]{Next: &v.next, Row: "ordered-" + string(o.Kind)}
		if r.Waits {
			if v.pending != nil { // a return that is called back
				out.Replies = append(out.Replies, Reply{ID: v.pending.ID, Code: "ordered-" + string(o.Kind), Args: []string{o.By, o.Reason}})
			}
			v.placed = &o
		} else {
			out.Replies = []Reply{{ID: o.ID, OK: true, Code: "done-" + string(o.Kind), Args: []string{v.rec.Group}}}
		}
		return out
	}
	return refuse("refused-in-phase", v.rec.Phase.Mode().String(), v.rec.Phase.String())
}

// Abandon ends a hand-over that a restart of this agent interrupted: before
// the grant nothing was given away, so the local server goes on.
func (h *Hall) Abandon(wall int64) *Record {
	switch h.rec.Phase {
	case Settling, Parking, Draining, Stopping, Handing:
		next := h.rec
		next.Phase, next.Cause, next.Args, next.Since = LocalWrite, "hand-over-given-up", nil, wall
		return &next
	case LeavingRead:
		next := h.rec
		next.Phase, next.Cause, next.Args, next.Since = LocalRead, "agent-restarted", nil, wall
		next.Epoch++
		next.GateEpoch = next.Epoch
		return &next
	}
	return nil
}

// HoldDown is the stability time now asked for before a move back: the
// configured one, doubled for every automatic move in the last hour but the
// first (RFC 2439 gives the idea; the trial's line flapped for a month, PRB-1).
func (h *Hall) HoldDown(wall int64) time.Duration {
	n := len(recent(h.rec.Moves, wall))
	if n > 0 {
		n--
	}
	return h.Policy.HoldDown << min(n, maxDamping)
}

func recent(moves []int64, wall int64) []int64 {
	var kept []int64
	for _, m := range moves {
		if wall-m < int64(dampingWindow) {
			kept = append(kept, m)
		}
	}
	return kept
}

// Want is what the present phase asks for.
func (h *Hall) Want(f Facts) Want {
	v := &view{Hall: h, Facts: f}
	switch h.rec.Phase {
	case AtDC:
		return Want{Target: ToDC, Retire: true, Role: standby.Standby}
	case LocalRead:
		w := Want{Target: ToLocal, Retire: true, Role: standby.Standby, Gate: true}
		if age := v.readAge(); h.Policy.MaxReadAge > 0 && age > h.Policy.MaxReadAge {
			w.Target, w.Gate = ToNobody, false
		}
		if h.rec.Owner == detect.DC && len(h.rec.Handover) > 0 && v.ungranted() {
			w.Order = Promote // the grant of a hand-over that never arrived
		}
		return w
	case LeavingRead:
		return Want{Target: ToDC, Role: standby.Standby, Gate: true, Op: OpDrain}
	case Fencing:
		return Want{Target: ToLocal, Retire: true, Role: standby.Standby, Gate: true, Order: Fence}
	case CatchingUp:
		return Want{Target: ToLocal, Retire: true, Role: standby.Standby, Gate: true}
	case Promoting:
		w := Want{Target: ToLocal, Retire: true, Role: standby.Standby, Gate: true}
		if v.mayPromote() || v.promoted() {
			w.Role, w.Op = standby.Primary, OpOpenWrites
		} else {
			w.Order = Fence
		}
		return w
	case LocalWrite:
		return Want{Target: ToLocal, Retire: true, Role: standby.Primary, Gate: true}
	case Rejoining:
		w := Want{Target: ToLocal, Retire: true, Role: standby.Primary, Gate: true, Op: OpCheckpoint}
		if v.ops() {
			w.Order = Rejoin
			if v.awaiting() && h.rec.Accepted >= 0 {
				w.Order = AcceptOrphans
			}
		}
		return w
	case Settling:
		return Want{Target: ToLocal, Retire: true, Role: standby.Primary, Gate: true, Op: OpCheckpoint}
	case Parking:
		return Want{Target: ToPark, Role: standby.Primary, Gate: true}
	case Draining:
		return Want{Target: ToPark, Role: standby.Primary, Gate: true, Op: OpDrain}
	case Stopping, Handing:
		return Want{Target: ToPark, Role: standby.Stopped}
	case Granting:
		w := Want{Target: ToPark, Role: standby.Stopped, Order: Promote}
		if v.inPhase() >= grantBound/2 { // the DC doesn't open: be ready to serve reads
			w.Role = standby.Standby
		}
		if v.inPhase() >= 2*grantBound {
			w.Target = ToNobody
		}
		return w
	}
	return Want{}
}

func in(set []Phase, p Phase) bool {
	for _, q := range set {
		if p == q {
			return true
		}
	}
	return false
}

// refuseReads says why the standby could not serve.
func (v *view) refuseReads() (string, []string) {
	for i, l := range v.Local {
		if !l.Ready.Reads {
			return "refused-standby-not-ready", []string{v.Policy.Databases[i], l.Ready.Reason}
		}
	}
	return "", nil
}

func (v *view) refuseWrite() (string, []string) {
	if v.Policy.Write == WriteNever {
		return "refused-write-never", []string{v.rec.Group}
	}
	if len(v.Policy.Databases) == 0 {
		return "refused-no-database", []string{v.rec.Group}
	}
	if v.Order.Reason == "" {
		return "refused-no-reason", nil
	}
	for i, l := range v.Local {
		if !l.Ready.Promote {
			return "refused-standby-not-ready", []string{v.Policy.Databases[i], l.Ready.Reason}
		}
	}
	return "", nil
}

func (v *view) refuseOrphans() (string, []string) {
	var n int32
	for _, r := range v.Remote {
		if !r.Fresh || r.State.Orphans < 0 {
			return "refused-orphans-not-listed", nil
		}
		n += r.State.Orphans
	}
	if n != v.Order.Count {
		return "refused-orphan-count", []string{strconv.Itoa(int(v.Order.Count)), strconv.Itoa(int(n))}
	}
	return "", nil
}

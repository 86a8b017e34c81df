package agent

import (
	"strconv"
	"time"

	"komainu/failover/detect"
	"komainu/failover/machine"
	"komainu/failover/standby"
	"komainu/netstack/steer"
	"komainu/ntp/instant"
)

// slotEvery is how often the slots of a serving primary are moved up to what
// the town hall has.
const slotEvery = 5 * time.Second

// saveRetry is how soon a record that could not be saved is tried again.
const saveRetry = 200 * time.Millisecond

// host is one database on its DC host.
type host struct {
	Database
	machine *machine.Database
	server
	saving   bool
	saveAt   instant.Instant // when the next may be tried
	unsaved  bool            // what is on disk may differ from the machine's record: the last one could not be saved
	kept     string
	listed   int32
	closing  bool               // the record that is being saved closes the gate
	above    *detect.GroupState // a term above ours that the town hall told of; nil: none
	heardAt  instant.Instant    // when the higher term was heard that we are fencing for; 0: none
	fencedIn time.Duration
	flushAt  int64
	slotsAt  instant.Instant
	booted   bool
	serving  bool // found serving behind an open gate at the start
	looked1  bool // looked at since the start
	fault    string
}

func newHost(a *Agent, d Database, s Started) *host {
	rec := machine.FirstDCRecord(d.Group, d.Name)
	rec.Since = a.wall
	for _, r := range s.Databases {
		if r.Group == d.Group && r.Database == d.Name {
			rec = r
		}
	}
	h := &host{Database: d, machine: machine.NewDatabase(d.Never, rec, a.now), listed: -1}
	if epoch, open := s.Gates[d.Name]; open && epoch == rec.Epoch && rec.Phase == machine.Serving {
		h.serving = true
		h.gate, h.gated = steer.Gate{Name: d.Name, Port: d.Port, Open: true, Epoch: epoch, Peers: d.Peers}, true
	}
	return h
}

// pace is how soon the database wants to run again without an event.
func (h *host) pace() time.Duration {
	switch h.machine.Record().Phase {
	case machine.Serving, machine.Closed, machine.Awaiting:
		return time.Second
	}
	return 50 * time.Millisecond
}

func (h *host) looked(a *Agent, e Looked) {
	if h.Name != e.Database || a.lanes.busy["server/"+h.Name] != nil {
		return
	}
	// A hand-over waits for the position of a server that follows.
	if h.obs.Role != e.Observation.Role || h.machine.Record().Phase == machine.Following && h.obs.Replay != e.Observation.Replay {
		a.net.content++
	}
	h.looked1 = true
	h.obs = e.Observation
	h.flushAt = a.wallNow()
}

func (h *host) step(a *Agent, o *machine.Order) bool {
	rec := h.machine.Record()
	h.listen(a, rec)
	if !h.looked1 { // after a start, reality is observed before anything is decided
		if !h.serving || h.overruled(rec) {
			h.setGate(a, false) // closing needs no look
		}
		h.busy(a, o, "starting")
		return false
	}
	if phase := uint8(rec.Phase); h.opPhase != phase {
		h.opPhase, h.opDone, h.opCode, h.retryAt = phase, false, "", 0
	}
	if h.saving {
		if h.closing || h.overruled(rec) { // the gate doesn't wait for a slow disk
			h.setGate(a, false)
		}
		h.busy(a, o, "saving")
		return false
	}
	if !h.booted {
		next := h.machine.Boot(h.serving && h.obs.Role == standby.Primary, a.wallNow())
		h.booted = next == nil
		if next != nil {
			h.decide(a, machine.Outcome[machine.DCRecord]{Next: next})
			h.busy(a, o, "starting")
			return true
		}
	}
	f := machine.DCFacts{Now: a.now, Wall: a.wallNow(), Local: h.obs, Busy: a.lanes.busy["server/"+h.Name] != nil,
		OpDone: h.opDone, OpCode: h.opCode, Kept: h.kept, Listed: h.listed,
		Heard: a.relay.freshGroup(a.now, h.Group), Order: o}
	if h.above != nil && (f.Heard == nil || f.Heard.Term < h.above.Term) {
		f.Heard = h.above
	}
	out := h.machine.Step(f)
	if out.Next != nil {
		h.decide(a, out)
		return true
	}
	for _, r := range out.Replies {
		a.reply(r)
	}
	if h.unsaved && a.now >= h.saveAt {
		h.save(a, rec)
	}
	h.carry(a)
	return false
}

// listen remembers a higher term for as long as it is higher than ours: what
// was heard once stays true, even if the line is lost before it is durable.
func (h *host) listen(a *Agent, rec machine.DCRecord) {
	heard := a.relay.freshGroup(a.now, h.Group)
	if heard != nil && heard.Term > rec.Term && (h.above == nil || heard.Term > h.above.Term || heard.Owner != h.above.Owner) {
		h.above = heard
	}
	if h.above != nil && h.above.Term <= rec.Term {
		h.above = nil
	}
	if h.overruled(rec) && h.heardAt == 0 && (h.gate.Open || !h.gated) {
		h.heardAt = a.now
	}
}

// overruled: somebody else has, or may take, write authority under a higher term.
func (h *host) overruled(rec machine.DCRecord) bool {
	return h.above != nil && h.above.Term > rec.Term && h.above.Owner != detect.DC
}

func (h *host) busy(a *Agent, o *machine.Order, what string) {
	if o != nil {
		a.reply(machine.Reply{ID: o.ID, Code: "refused-busy", Args: []string{what, ""}})
	}
}

// decide makes a decision durable. A gate that it closes is closed at once:
// closing needs no authority, and no reply may leave from here on.
func (h *host) decide(a *Agent, out machine.Outcome[machine.DCRecord]) {
	h.closing = out.Next.Phase != machine.Serving
	if h.closing {
		h.setGate(a, false)
	}
	if len(out.Replies) == 0 && a.now < h.saveAt {
		return
	}
	h.save(a, *out.Next)
	fl := a.lanes.busy["state/"+h.Name]
	for _, r := range out.Replies {
		then := fl.then
		fl.then = func(d Done) {
			then(d)
			if d.Outcome != OK {
				r.OK, r.Code = false, "state-not-saved"
			}
			a.reply(r)
		}
	}
}

func (h *host) save(a *Agent, rec machine.DCRecord) {
	before := h.machine.Record()
	h.saving = a.issue("state/"+h.Name, before.Term, 2*time.Second, SaveDatabase{Record: rec}, func(d Done) {
		h.saving, h.closing = false, false
		h.unsaved = d.Outcome != OK
		if h.unsaved {
			h.saveAt = a.now.Add(saveRetry)
			a.note(h.Name, "state-not-saved", rec.Term, d.Code)
			return
		}
		h.machine.Commit(rec, a.now)
		h.booted = true
		if before.Phase != rec.Phase {
			a.note(h.Name, "dc-"+rec.Phase.String(), rec.Term, rec.Cause, strconv.Itoa(int(rec.Orphans)))
		}
		a.net.content++
	})
}

func (h *host) setGate(a *Agent, open bool) {
	want := steer.Gate{Name: h.Name, Port: h.Port, Open: open, Peers: h.Peers}
	if open {
		want.Epoch = h.machine.Record().Epoch
	}
	if h.gated && h.gate.Open == open && h.gate.Epoch == want.Epoch {
		return
	}
	a.issue("gate/"+h.Name, h.machine.Record().Term, 2*time.Second, SetGate{Gate: want, Sever: !open}, func(d Done) {
		h.gated = d.Outcome == OK
		a.net.content++
		if !h.gated {
			a.note(h.Name, "gate-failed", 0, d.Code)
			return
		}
		h.gate = want
		if open {
			h.fencedIn = 0
		}
		if !open && h.heardAt != 0 {
			h.fencedIn = a.now.Sub(h.heardAt)
			h.heardAt = 0
			a.note(h.Name, "fenced", h.machine.Record().Term, h.fencedIn.Round(time.Microsecond).String())
		}
	})
}

// carry has the phase's wants carried out. A server is started only behind a
// closed gate; the gate opens when it is what it should be.
func (h *host) carry(a *Agent) {
	w := h.machine.Want(a.now)
	h.setGate(a, w.Gate) // once open it stays so through a crash of the server: an epoch is never opened twice
	lane := "server/" + h.Name
	if f := a.lanes.busy[lane]; f != nil {
		s, ok := f.op.(Server)
		if ok && (s.Op == Keep || s.Op == List || s.Op == Rewind || s.Op == Copy) && !h.wants(w, s.Op) || ok && s.Op == StopFast && w.Immediate {
			a.cancel(lane)
		}
		h.percent = f.percent
		return
	}
	if a.now < h.retryAt {
		return
	}
	op, within, ok := h.next(a, w)
	if !ok {
		return
	}
	op.Database = h.Name
	phase := uint8(h.machine.Record().Phase)
	a.serve(&h.server, phase, op, h.machine.Record().Term, within)
	f := a.lanes.busy[lane]
	then := f.then
	f.then = func(d Done) {
		then(d)
		a.net.content++
		if v, ok := d.Value.(Observed); ok && d.Outcome == OK {
			switch op.Op {
			case Keep:
				h.kept = v.Text
			case List:
				h.listed = v.Count
			}
		}
		h.fault = d.Code
		h.slotsAt = a.now.Add(slotEvery)
	}
}

func (h *host) wants(w machine.DCWant, op ServerOp) bool {
	return op == Keep && w.Op == machine.OpKeep || op == List && w.Op == machine.OpList ||
		op == Rewind && w.Op == machine.OpRewind || op == Copy && w.Op == machine.OpCopy
}

// next is the next operation towards the wanted role, if one is needed.
func (h *host) next(a *Agent, w machine.DCWant) (Server, time.Duration, bool) {
	rec := h.machine.Record()
	o := h.obs
	running := o.Role == standby.Primary || o.Role == standby.Standby || o.Role == standby.Starting || o.Role == standby.Hung
	switch w.Role {
	case standby.Stopped:
		if running && w.Immediate {
			return Server{Op: StopImmediate}, quickBound, true
		}
		if running {
			return Server{Op: StopFast}, quickBound, true
		}
	case standby.Primary:
		switch {
		case o.Role == standby.Stopped && o.Signal:
			return Server{Op: StartStandby, Upstream: rec.Peer}, quickBound, true
		case o.Role == standby.Stopped:
			return Server{Op: StartPrimary}, quickBound, true
		case o.Role == standby.Standby:
			return Server{Op: Promote}, quickBound, true
		case o.Role != standby.Primary:
			return Server{}, 0, false
		}
		if rec.Phase == machine.Serving && a.now >= h.slotsAt {
			return Server{Op: Slots}, quickBound, true
		}
	case standby.Standby:
		switch o.Role {
		case standby.Stopped:
			return Server{Op: StartStandby, Upstream: rec.Peer}, quickBound, true
		case standby.Primary:
			return Server{Op: StopFast}, quickBound, true
		}
	}
	if h.opDone {
		return Server{}, 0, false
	}
	switch w.Op {
	case machine.OpKeep:
		return Server{Op: Keep, Text: strconv.FormatUint(rec.Term, 10)}, copyBound, true
	case machine.OpList:
		return Server{Op: List, Text: rec.Kept, Fork: rec.Fork, ClosedAt: rec.ClosedAt}, copyBound, true
	case machine.OpRewind:
		return Server{Op: Rewind, Upstream: rec.Peer, Fork: rec.Fork}, copyBound, true
	case machine.OpCopy:
		return Server{Op: Copy, Upstream: rec.Peer}, copyBound, true
	case machine.OpSlots:
		return Server{Op: Slots}, quickBound, true
	}
	return Server{}, 0, false
}

// say is what the town hall is told: durable terms, observed state.
func (h *host) say(a *Agent) detect.DatabaseState {
	r := h.machine.Record()
	return detect.DatabaseState{Group: r.Group, Database: r.Database, Host: a.spec.Site, Role: h.obs.Role, Term: r.Term, Owner: r.Owner,
		Open: h.gate.Open || !h.gated, Phase: uint8(r.Phase), Timeline: h.obs.Timeline, System: h.obs.System,
		Flush: h.obs.Flush, Replay: h.obs.Replay, FlushAt: h.flushAt, Upstream: h.obs.Upstream, SlotLost: h.obs.SlotLost,
		Orphans: r.Orphans, Percent: h.percent, Fault: h.fault, FencedIn: h.fencedIn}
}

func itoa(n int) string { return strconv.Itoa(n) }

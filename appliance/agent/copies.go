package agent

import (
	"fmt"
	"komainu/failover/machine"
	"komainu/failover/standby"
	"komainu/netstack/steer"
	"komainu/ntp/instant"
	"strconv"
	"time"
)

// Bounds of operations on a server of this box. A copy may take hours; the
// others end in seconds or something is wrong.
const (
	quickBound = 10 * time.Second
	copyBound  = 6 * time.Hour
	retryAfter = 300 * time.Millisecond // after a failure, doubled up to maxRetry
	maxRetry   = 10 * time.Second
	repeatWait = 300 * time.Millisecond // between two sendings of the same order
)

// hosted is one database whose copy this box hosts.
type hosted struct {
	Database
	server
	order   machine.OrderKind
	orderAt instant.Instant // when the order may be sent again
}

// server is what every role keeps of one PostgreSQL server of its own.
type server struct {
	obs      standby.Observation
	opPhase  uint8 // the phase for which opDone holds
	opDone   bool
	opCode   string
	retryAt  instant.Instant
	failures int // in a row
	gate     steer.Gate
	gated    bool // gate is what the kernel last confirmed
	percent  uint8
}

// drive brings a hosted copy to the role that is wanted, then has the phase's
// operation done.
func (g *group) drive(a *Agent, c *hosted, w machine.Want) {
	lane := "server/" + c.Name
	if f := a.lanes.busy[lane]; f != nil {
		if s, ok := f.op.(Server); ok && s.Op == Copy && w.Role != standby.Standby {
			a.cancel(lane)
		}
		return
	}
	if a.now < c.retryAt {
		return
	}
	op, ok := g.next(a, c, w)
	if !ok {
		return
	}
	within := quickBound
	if op.Op == Copy {
		within = copyBound
	}
	op.Database = c.Name
	a.serve(&c.server, uint8(g.machine.Record().Phase), op, g.machine.Record().Term, within)
}

// next is the next operation towards the wanted role, if one is needed.
func (g *group) next(a *Agent, c *hosted, w machine.Want) (Server, bool) {
	remote := g.remote(a, c)
	up := c.Primary.String()
	switch w.Role {
	case standby.Standby:
		switch c.obs.Role {
		case standby.Absent, standby.Unusable:
			if (c.obs.Role == standby.Absent || c.obs.Reason == standby.ReasonCopying) && remote.Fresh && remote.State.Open && g.pathUp(a) {
				return Server{Op: Copy, Upstream: up}, true
			}
		case standby.Stopped:
			return Server{Op: StartStandby, Upstream: up}, true
		case standby.Primary: // no authority of ours stands behind it
			return Server{Op: StopFast}, true
		case standby.Standby, standby.Starting:
			if remote.Fresh && remote.State.Open && remote.State.SlotLost && !c.obs.Upstream && g.machine.Record().Phase == machine.AtDC {
				return Server{Op: Copy, Upstream: up}, true // planned: the DC no longer has the log that we lack
			}
		}
		if c.obs.Role != standby.Standby {
			return Server{}, false
		}
	case standby.Primary:
		switch c.obs.Role {
		case standby.Stopped:
			if c.obs.Signal {
				return Server{Op: StartStandby, Upstream: up}, true
			}
			return Server{Op: StartPrimary}, true
		case standby.Standby, standby.Starting:
			if c.obs.Role == standby.Standby || standby.Ready(c.obs).Promote {
				return Server{Op: Promote}, true
			}
		}
		if c.obs.Role != standby.Primary {
			return Server{}, false
		}
	case standby.Stopped:
		switch c.obs.Role {
		case standby.Standby, standby.Primary, standby.Starting, standby.Hung:
			return Server{Op: StopFast}, true
		}
		return Server{}, false
	}
	if w.Op == machine.NoOp || c.opDone {
		return Server{}, false
	}
	switch w.Op {
	case machine.OpCheckpoint:
		return Server{Op: Checkpoint}, true
	case machine.OpDrain:
		return Server{Op: Drain, Grace: g.machine.Policy.Drain}, true
	case machine.OpOpenWrites:
		op := Server{Op: OpenWrites}
		if l := g.machine.Record().Loss; !l.Known {
			op.Gap = c.SeqGap
		}
		return op, true
	}
	return Server{}, false
}

// serve runs an operation on a server of this box and takes in what it found.
func (a *Agent) serve(s *server, phase uint8, op Server, term uint64, within time.Duration) {
	s.percent = 0
	if op.Op == Copy || op.Op == Rewind { // from here on there is nothing to serve or to promote
		s.obs = standby.Observation{Role: standby.Unusable, Reason: "copy-incomplete"}
	}
	a.issue("server/"+op.Database, term, within, op, func(d Done) {
		v, ok := d.Value.(Observed)
		if ok {
			s.obs = v.Observation
		} else {
			s.obs = standby.Observation{Role: standby.Unknown}
		}
		if d.Outcome != OK {
			s.retryAt = a.now.Add(min(retryAfter<<min(s.failures, 6), maxRetry))
			s.failures++
			s.opCode = d.Code
			if s.failures == 1 { // the rest of the row is in the status
				a.note(op.Database, "server-"+op.Op.String()+"-failed", term, append([]string{d.Code}, d.Args...)...)
			}
			return
		}
		s.failures = 0
		switch op.Op {
		case Checkpoint, Drain, OpenWrites, Keep, List, Rewind, Slots:
			s.opDone = s.opPhase == phase
		case Copy:
			s.opDone = s.opPhase == phase
		}
		if op.Op == Slots { // every few seconds
			return
		}
		var args []string
		if op.Op == Drain {
			args = []string{strconv.Itoa(v.Ended), strconv.Itoa(v.Aborted)}
		}
		a.note(op.Database, "server-"+op.Op.String(), term, args...)
	})
}

// gate opens or closes a hosted copy to its clients.
func (g *group) gate(a *Agent, c *hosted, open bool) {
	want := steer.Gate{Name: c.Name, Port: c.Port, Open: open, Peers: c.Peers}
	if open {
		want.Epoch = g.machine.Record().GateEpoch
	}
	a.setGate(&c.server, want, g.machine.Record().Term)
}

func (a *Agent) setGate(s *server, want steer.Gate, term uint64) {
	if s.gated && s.gate.Open == want.Open && s.gate.Epoch == want.Epoch || a.now < s.retryAt && s.gated {
		return
	}
	a.issue("gate/"+want.Name, term, 2*time.Second, SetGate{Gate: want, Sever: !want.Open}, func(d Done) {
		s.gated = d.Outcome == OK
		if s.gated {
			s.gate = want
		} else {
			a.note(want.Name, "gate-failed", term, d.Code)
		}
	})
}

// remind sends the phase's order to a database host until its state shows the
// effect.
func (g *group) remind(a *Agent, i int, c *hosted, kind machine.OrderKind) {
	if c.order != kind {
		c.order, c.orderAt = kind, 0
	}
	if kind == "" || a.now < c.orderAt || !g.pathUp(a) {
		return
	}
	rec := g.machine.Record()
	o := machine.Order{Kind: kind, Group: c.Group, Database: c.Name, Term: rec.Term}
	remote := g.remote(a, c)
	switch kind {
	case machine.Fence:
		if remote.State.Term >= rec.Term && remote.Fresh {
			return
		}
	case machine.Rejoin:
		if machine.DCPhase(remote.State.Phase) != machine.Fenced {
			return
		}
		o.Clients = c.Server.String()
		if i < len(rec.Fork) {
			o.LSN = rec.Fork[i]
		}
	case machine.AcceptOrphans:
		if machine.DCPhase(remote.State.Phase) != machine.Awaiting {
			return
		}
		o.Count = remote.State.Orphans
	case machine.Promote:
		if remote.State.Term >= rec.Term && remote.Fresh {
			return
		}
		if i < len(rec.Handover) {
			o.LSN = rec.Handover[i]
		}
	}
	o.ID = fmt.Sprintf("%s/%s/%s/%d/%d", c.Group, c.Name, kind, rec.Term, a.now)
	peer := a.edge()
	c.orderAt = a.now.Add(repeatWait)
	a.issue("order/"+c.Name, rec.Term, 2*time.Second, SendOrder{Peer: peer, Order: o}, func(d Done) {
		c.orderAt = a.now.Add(repeatWait)
		r, ok := d.Value.(machine.Reply)
		if ok && r.OK {
			g.noted = ""
			return
		}
		code := d.Code
		if ok {
			code = r.Code
		}
		if g.noted != code { // once per refusal, not per repetition
			g.noted = code
			a.note(c.Name, "order-"+string(kind)+"-refused", rec.Term, code)
		}
	})
}

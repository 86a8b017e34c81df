package machine

import (
	"time"

	"komainu/failover/detect"
	"komainu/failover/standby"
	"komainu/ntp/instant"
)

// The guards' vocabulary: what the facts say, in the words of the table.

func (v *view) inPhase() time.Duration { return v.Now.Sub(v.entered) }

// watchStability keeps since when the DC could take clients back: usable, or,
// while we write, closed under our term and ready to rejoin.
func (v *view) watchStability() {
	ok := v.Verdict.Usable
	if v.rec.Phase == LocalWrite {
		ok = v.returnable()
	}
	switch {
	case !ok:
		v.stable = 0
	case v.stable == 0:
		v.stable = v.Now
	}
}

func (v *view) stableFor() time.Duration {
	if v.stable == 0 {
		return 0
	}
	return v.Now.Sub(v.stable)
}

// StableSince is since when a move back has been possible; 0: it isn't.
func (h *Hall) StableSince() instant.Instant { return h.stable }

// become sets the next phase and what people are told about it.
func (v *view) become(p Phase, code string, args []string) {
	v.next.Phase, v.next.Cause, v.next.Args, v.next.Since = p, code, args, v.Wall
}

// moveOut is a move to the local endpoint that nobody ordered; it counts for
// damping.
func (v *view) moveOut() {
	v.moveByOrder()
	v.next.Pinned = false
	v.next.Moves = append(recent(v.rec.Moves, v.Wall), v.Wall)
	if n := len(v.next.Moves); n > 1<<maxDamping {
		v.next.Moves = v.next.Moves[n-1<<maxDamping:]
	}
}

func (v *view) moveByOrder() {
	v.next.Epoch++
	v.next.GateEpoch = v.next.Epoch
}

// leave sends new connections to the DC while local sessions drain.
func (v *view) leave() {
	v.next.Epoch++
	v.next.Pinned = false
}

// settleAtDC closes the record of an outage.
func (v *view) settleAtDC() {
	v.next.Epoch++
	v.next.Pinned = false
	v.next.Accepted = -1
	v.next.Handover, v.next.Fork = nil, nil
}

// orderWrite begins a write order under a new term.
func (v *view) orderWrite() {
	v.next.Term++
	v.next.Confirmed = false
	v.next.Accepted = -1
	v.next.Pinned = false
	v.next.Handover = nil
	if v.rec.Phase == AtDC {
		v.moveByOrder()
	}
	if v.next.Phase == Fencing {
		v.next.Owner = detect.NoSide
		v.next.Voucher = nil
		return
	}
	v.next.Owner = detect.Hall
	v.next.Voucher = &Voucher{Term: v.next.Term, By: v.Order.By, Reason: v.Order.Reason, Wall: v.Wall}
	v.next.Loss = v.gap()
}

// giveBack ends a write order that came to nothing: the DC may open again,
// under a term that it hasn't seen closed.
func (v *view) giveBack() {
	v.next.Term++
	v.next.Owner = detect.DC
	v.next.Confirmed, v.next.Voucher = false, nil
}

func (v *view) reads() bool {
	for _, l := range v.Local {
		if !l.Ready.Reads {
			return false
		}
	}
	return true
}

func (v *view) promotable() bool {
	for _, l := range v.Local {
		if !l.Ready.Promote {
			return false
		}
	}
	return true
}

func (v *view) locals(r standby.Role) bool {
	for _, l := range v.Local {
		if l.Observation.Role != r {
			return false
		}
	}
	return true
}

func (v *view) busy() bool {
	for _, l := range v.Local {
		if l.Busy {
			return true
		}
	}
	return false
}

// ops: the phase's operation is done on every database.
func (v *view) ops() bool {
	for _, l := range v.Local {
		if !l.OpDone {
			return false
		}
	}
	return true
}

func (v *view) clean() bool {
	for _, l := range v.Local {
		if !l.Observation.Clean || l.Observation.Flush == 0 {
			return false
		}
	}
	return true
}

// reachable: some database host of the group answers through the line.
func (v *view) reachable() bool {
	for _, r := range v.Remote {
		if r.Fresh && v.PathUp {
			return true
		}
	}
	return false
}

// fenced: every database host has made our term durable and is closed.
func (v *view) fenced() bool {
	for _, r := range v.Remote {
		if !r.Fresh || r.State.Term < v.rec.Term || r.State.Open || r.State.Role == standby.Primary || r.State.Role == standby.Hung {
			return false
		}
	}
	return true
}

// mayPromote: authority is ours to use now. A DC that answers must have
// confirmed; one that doesn't answer was vouched for, and after a start it is
// given the time to be heard.
func (v *view) mayPromote() bool {
	return v.rec.Confirmed || v.rec.Voucher != nil && !v.reachable() && !v.Listening
}

// promoted: some local server has left the DC's timeline. Making it a standby
// again and promoting it a second time would hide where it left.
func (v *view) promoted() bool {
	for _, l := range v.Local {
		if o := l.Observation; o.Role == standby.Primary || o.Role == standby.Stopped && !o.Signal {
			return true
		}
	}
	return false
}

// touched: a local server is, or may be, on a timeline of its own already,
// running or not.
func (v *view) touched() bool {
	for _, l := range v.Local {
		switch o := l.Observation; o.Role {
		case standby.Absent, standby.Unusable, standby.Standby:
		default:
			if o.Role == standby.Primary || !o.Signal {
				return true
			}
		}
	}
	return false
}

// caughtUp: we hold all that the cleanly stopped DC ever wrote.
func (v *view) caughtUp() bool {
	for i, r := range v.Remote {
		if !r.Fresh || r.State.Flush == 0 || r.State.Role != standby.Stopped || v.Local[i].Observation.Flush < r.State.Flush {
			return false
		}
	}
	return true
}

// gap is what is known to be missing here; only a lower bound, since the DC
// may have written on after its last word.
func (v *view) gap() Loss {
	var l Loss
	for i, r := range v.Remote {
		if r.Known {
			l.Bytes += v.Local[i].Observation.Flush.Behind(r.State.Flush)
		}
	}
	l.Age = v.readAge()
	return l
}

// readAge is how old the oldest of the local copies is: the time since its
// last replayed commit, bounded below by the time since it stopped streaming.
func (v *view) readAge() time.Duration {
	var worst time.Duration
	for _, l := range v.Local {
		if at := l.Observation.ReplayedAt; at > 0 && (!l.Observation.Upstream || !v.PathUp) { // a receiver notices a cut line only after its timeout
			worst = max(worst, time.Duration(v.Wall-at))
		}
	}
	return worst
}

// forks is where the local servers left the DC's history.
func (v *view) forks() []standby.LSN {
	out := make([]standby.LSN, len(v.Local))
	for i, l := range v.Local {
		out[i] = l.Observation.Fork
	}
	return out
}

func (v *view) shutdowns() []standby.LSN {
	out := make([]standby.LSN, len(v.Local))
	for i, l := range v.Local {
		out[i] = l.Observation.Flush
	}
	return out
}

// returnable: every database host is there, closed, and knows our term.
func (v *view) returnable() bool {
	if !v.PathUp || len(v.Remote) == 0 {
		return false
	}
	for _, r := range v.Remote {
		if !r.Fresh || r.State.Term != v.rec.Term || r.State.Open {
			return false
		}
	}
	return true
}

// following: every database host streams from us with at most lag bytes to go.
func (v *view) following(lag uint64) bool {
	if !v.PathUp {
		return false
	}
	for i, r := range v.Remote {
		if !r.Fresh || r.State.Role != standby.Standby || !r.State.Upstream || r.State.Term != v.rec.Term ||
			r.State.Replay.Behind(v.Local[i].Observation.Flush) > lag {
			return false
		}
	}
	return true
}

// awaiting: a database host waits for the operator to accept its orphans.
func (v *view) awaiting() bool {
	for _, r := range v.Remote {
		if r.Fresh && DCPhase(r.State.Phase) == Awaiting {
			return true
		}
	}
	return false
}

// ungranted: a database host still follows us and hasn't heard that
// authority is its own.
func (v *view) ungranted() bool {
	for _, r := range v.Remote {
		if r.Fresh && DCPhase(r.State.Phase) == Following {
			return true
		}
	}
	return false
}

// handed: every database host has replayed our shutdown checkpoint.
func (v *view) handed() bool {
	for i, r := range v.Remote {
		if !r.Fresh || r.State.Role != standby.Standby || r.State.Replay < v.rec.Handover[i] {
			return false
		}
	}
	return len(v.rec.Handover) == len(v.Remote)
}

// opened: every database host serves under our grant.
func (v *view) opened() bool {
	for _, r := range v.Remote {
		if !r.Fresh || r.State.Role != standby.Primary || !r.State.Open || r.State.Term != v.rec.Term {
			return false
		}
	}
	return true
}

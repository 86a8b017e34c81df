package agent

import (
	"time"

	"komainu/failover/machine"
	"komainu/ntp/instant"
)

// flight is one action whose result is awaited.
type flight struct {
	id       uint64
	lane     string
	op       Work
	deadline instant.Instant
	percent  uint8
	canceled bool
	then     func(Done)
}

// lanes keeps at most one action in flight per resource.
type lanes struct {
	last uint64
	busy map[string]*flight
}

// issue starts work on a lane and has its result given to then, unless the
// lane is busy.
func (a *Agent) issue(lane string, term uint64, within time.Duration, w Work, then func(Done)) bool {
	if a.lanes.busy[lane] != nil {
		return false
	}
	a.lanes.last++
	f := &flight{id: a.lanes.last, lane: lane, op: w, deadline: a.now.Add(within), then: then}
	a.lanes.busy[lane] = f
	a.out = append(a.out, Action{ID: f.id, Lane: lane, Term: term, Deadline: f.deadline, Do: w})
	return true
}

// cancel asks for the end of what a lane is doing; its result comes as Unknown.
func (a *Agent) cancel(lane string) {
	if f := a.lanes.busy[lane]; f != nil && !f.canceled {
		f.canceled = true
		a.do("", 0, 0, Cancel{Target: f.id})
	}
}

func (l *lanes) end(id uint64) *flight {
	for lane, f := range l.busy {
		if f.id == id {
			delete(l.busy, lane)
			return f
		}
	}
	return nil
}

func (l *lanes) progress(e Progress) {
	for _, f := range l.busy {
		if f.id == e.ID {
			f.percent = e.Percent
		}
	}
}

// answers remembers what was replied to which order, so that an order sent
// twice is carried out once.
type answers struct {
	byID  map[string]machine.Reply // empty ID inside: not answered yet
	order []string
}

const answersKept = 256

func (n *answers) known(id string) (machine.Reply, bool) {
	r, ok := n.byID[id]
	return r, ok
}

func (n *answers) open(id string) {
	if n.byID == nil {
		n.byID = map[string]machine.Reply{}
	}
	n.byID[id] = machine.Reply{}
	n.order = append(n.order, id)
	if len(n.order) > answersKept {
		delete(n.byID, n.order[0])
		n.order = n.order[1:]
	}
}

func (n *answers) close(r machine.Reply) bool {
	if old, ok := n.byID[r.ID]; !ok || old.ID != "" {
		return false
	}
	n.byID[r.ID] = r
	return true
}

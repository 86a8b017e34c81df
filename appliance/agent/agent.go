package agent

import (
	"strings"
	"time"

	"komainu/failover/detect"
	"komainu/failover/machine"
	"komainu/ntp/instant"
)

// maxRounds bounds how often the parts may react to each other within one
// step; more would be a loop between them.
const maxRounds = 8

// Agent decides for one box. Not for concurrent use.
type Agent struct {
	spec    Spec
	started instant.Instant // 0: Started hasn't come
	boot    uint64
	wall    int64 // Unix ns at wallAt
	wallAt  instant.Instant
	now     instant.Instant

	lanes   lanes
	ground  ground
	certs   certificates
	tunnels tunnels
	net     network
	probes  probing
	lines   sharing
	groups  []*group // town hall
	hosts   []*host  // database host
	relay   relay    // DC edge, and what every box remembers of the others
	steer   steering // town hall
	answer  answers
	alarms  alarms
	out     []Action
}

// New returns an agent that waits for Started.
func New(s Spec) *Agent {
	a := &Agent{spec: s, lanes: lanes{busy: map[string]*flight{}}, relay: newRelay(), alarms: alarms{raised: map[alarmKey]instant.Instant{}, severity: map[alarmKey]Severity{}}}
	a.ground.init(&s)
	a.tunnels.init(&s)
	a.net.init(&s)
	a.steer.init(&s)
	return a
}

// Step is the whole of the agent: what happened goes in, what must be done
// comes out, in this order.
func (a *Agent) Step(now instant.Instant, ev Event) []Action {
	a.now, a.out = now, nil
	if s, ok := ev.(Started); ok {
		a.start(s)
	}
	if a.started == 0 {
		return nil
	}
	a.take(ev)
	for range maxRounds {
		if !a.settle() {
			break
		}
	}
	a.steerAll()
	a.probes.step(a)
	a.net.route(a)
	a.ground.step(a)
	a.lines.step(a)
	a.tunnels.step(a)
	a.beat()
	a.watch()
	a.net.due = a.Next()
	return a.out
}

// Next is when the agent wants a Tick at the latest.
func (a *Agent) Next() instant.Instant {
	next := min(a.now.Add(time.Second), a.net.next(a.now), a.probes.next(a.now))
	for i := range a.net.paths {
		next = min(next, a.net.paths[i].session.Next())
	}
	for _, g := range a.groups {
		next = min(next, a.now.Add(g.pace()))
	}
	for _, h := range a.hosts {
		next = min(next, a.now.Add(h.pace()))
	}
	return next
}

func (a *Agent) start(s Started) {
	a.started, a.boot, a.wall, a.wallAt = max(a.now, 1), s.Boot, s.Wall, a.now
	a.net.start(a)
	a.probes.start(a)
	if a.spec.Role == TownHall {
		for _, p := range a.spec.Groups {
			a.groups = append(a.groups, newGroup(a, p, s.Groups))
		}
	}
	if a.spec.Role == DCDB {
		for _, d := range a.spec.Databases {
			a.hosts = append(a.hosts, newHost(a, d, s))
		}
	}
	a.steer.start(a)
	a.note(a.spec.Site, "agent-started", 0)
}

// take routes an event to its part.
func (a *Agent) take(ev Event) {
	switch e := ev.(type) {
	case Tick:
		a.wall, a.wallAt = e.Wall, a.now
	case Beat:
		a.heard(e)
	case Stopping:
		for i := range a.net.paths {
			a.net.paths[i].session.AdminDown(a.now, true)
			a.net.paths[i].moved()
		}
		a.net.content++
	case Carrier:
		a.net.carrier(e, a.now)
	case Drifted:
		a.ground.drift()
		a.lines.drift(a.now)
	case Reload:
		a.ground.reload(a, e)
	case DaemonChanged, TunnelChanged, TunnelRefused, TunnelEmptied, KeysChanged:
		a.tunnels.take(a, e)
	case Certificates:
		a.certs.all = e.All
	case Echoed:
		a.probes.echoed(a, e)
	case ProbeTooBig:
		a.probes.tooBig(a, e)
	case Trained:
		a.probes.trained(e)
	case Probed:
		for _, g := range a.groups {
			g.probed(e)
		}
	case Looked:
		for _, g := range a.groups {
			g.looked(a, e)
		}
		for _, h := range a.hosts {
			h.looked(a, e)
		}
	case Ordered:
		a.order(e)
	case Done:
		a.done(e)
	case Progress:
		a.lanes.progress(e)
	}
	a.net.expire(a)
}

// settle lets every group and database move once; true if one did.
func (a *Agent) settle() bool {
	moved := false
	for _, g := range a.groups {
		moved = g.step(a, nil) || moved
	}
	for _, h := range a.hosts {
		moved = h.step(a, nil) || moved
	}
	return moved
}

// order takes an order from an operator or another box.
func (a *Agent) order(e Ordered) {
	if r, ok := a.answer.known(e.Order.ID); ok { // idempotent by ID
		if r.ID != "" {
			a.do("", 0, 0, Answer{Reply: r})
		}
		return
	}
	o := e.Order
	if !strings.Contains(o.Group, "/") {
		o.Group = a.spec.Site + "/" + o.Group
	}
	a.answer.open(o.ID)
	for _, g := range a.groups {
		if g.machine.Policy.Group == o.Group {
			g.step(a, &o)
			return
		}
	}
	for _, h := range a.hosts {
		if r := h.machine.Record(); r.Group == o.Group && (o.Database == "" || r.Database == o.Database) {
			h.step(a, &o)
			return
		}
	}
	if a.spec.Role == DCEdge && a.relay.forward(a, e.From, o) {
		return
	}
	a.reply(machine.Reply{ID: o.ID, Code: "refused-no-such-group", Args: []string{o.Group}})
}

func (a *Agent) reply(r machine.Reply) {
	if a.answer.close(r) {
		a.do("", 0, 0, Answer{Reply: r})
	}
}

// done routes the result of an action to whoever asked for it.
func (a *Agent) done(e Done) {
	f := a.lanes.end(e.ID)
	if f == nil || f.then == nil {
		return
	}
	f.then(e)
}

// do issues an action without a result.
func (a *Agent) do(lane string, term uint64, within time.Duration, w Work) {
	a.out = append(a.out, Action{Lane: lane, Term: term, Deadline: a.now.Add(within), Do: w})
}

// note writes a line of the journal.
func (a *Agent) note(subject, code string, term uint64, args ...string) {
	a.do("", 0, 0, Note{Wall: a.wallNow(), Subject: subject, Code: code, Args: args, Term: term})
}

// wallNow is the wall clock as last told, carried on by the boot clock.
func (a *Agent) wallNow() int64 { return a.wall + int64(a.now.Sub(a.wallAt)) }

// jitter is a fraction 0..1 that spreads heartbeats (RFC 5880, 6.8.7): a hash
// of what makes this message unique, so that a replay sends the same.
func jitter(boot, seq uint64) float64 {
	x := boot + seq*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64((x^x>>31)>>11) / (1 << 53)
}

// judge is the configuration of the verdict: times that follow from the
// heartbeat's.
func (a *Agent) judge() detect.JudgeConfig {
	detection := a.net.detection()
	return detect.JudgeConfig{BootGrace: 2*detection + time.Second, HostSilent: max(2*detection, time.Second), Settle: 3 * detection, LANSettle: max(3*detection, 5*time.Second)}
}

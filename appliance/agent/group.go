package agent

import (
	"slices"
	"strconv"
	"time"

	"komainu/failover/detect"
	"komainu/failover/machine"
	"komainu/failover/standby"
	"komainu/ntp/instant"
)

// group is one group of the town hall: its machine, its copies, its services.
type group struct {
	machine  *machine.Hall
	services []*service
	copies   []*hosted
	verdict  detect.Verdict
	judged   instant.Instant // since when the verdict says what it says
	saving   bool
	booted   bool // a hand-over that a restart interrupted has been dealt with
	unsaved  bool // what is on disk may differ from the machine's record: the last one could not be saved
	retryAt  instant.Instant
	proved   uint16          // epoch whose steering was proved
	opened   instant.Instant // when local writes began, for the dual-write window
	window   bool            // the window is still open
	noted    string          // last refusal of an order to a database host

	// Memory that every step uses anew.
	local    []machine.Local
	remotes  []machine.Remote
	evidence detect.Evidence
}

type service struct {
	Service
	probes detect.ProbeCount
	last   Probed
}

func newGroup(a *Agent, p machine.Policy, found []machine.Record) *group {
	rec := machine.FirstRecord(p.Group)
	rec.Since = a.wall
	for _, r := range found {
		if r.Group == p.Group {
			rec = r
		}
	}
	g := &group{machine: machine.NewHall(p, rec, a.now), judged: a.now}
	for _, s := range a.spec.Services {
		if s.Group == p.Group {
			g.services = append(g.services, &service{Service: s})
		}
	}
	for _, name := range p.Databases {
		for _, d := range a.spec.Databases {
			if d.Name == name {
				g.copies = append(g.copies, &hosted{Database: d})
			}
		}
	}
	return g
}

// pace is how soon the group wants to run again without an event.
func (g *group) pace() time.Duration {
	switch g.machine.Record().Phase {
	case machine.AtDC:
		return time.Second
	case machine.LocalRead, machine.LocalWrite, machine.Rejoining:
		return 200 * time.Millisecond
	}
	return 20 * time.Millisecond
}

func (g *group) probed(e Probed) {
	for _, s := range g.services {
		if s.Name == e.Service {
			s.probes.Add(e.OK)
			s.last = e
		}
	}
}

func (g *group) looked(a *Agent, e Looked) {
	for _, c := range g.copies {
		if c.Name == e.Database && a.lanes.busy["server/"+c.Name] == nil {
			c.obs = e.Observation
		}
	}
}

// facts is what the machine is told.
func (g *group) facts(a *Agent, o *machine.Order) machine.Facts {
	f := machine.Facts{Now: a.now, Wall: a.wallNow(), Verdict: g.verdict, PathUp: g.pathUp(a), Order: o}
	f.Steered = a.steer.of(g)
	f.Local, f.Remote = g.local[:0], g.remotes[:0]
	phase := uint8(g.machine.Record().Phase)
	for _, c := range g.copies {
		if c.opPhase != phase {
			c.opPhase, c.opDone, c.opCode, c.retryAt, c.failures = phase, false, "", 0, 0
		}
		f.Local = append(f.Local, machine.Local{Observation: c.obs, Ready: standby.Ready(c.obs), OpDone: c.opDone, Busy: a.lanes.busy["server/"+c.Name] != nil})
		f.Remote = append(f.Remote, g.remote(a, c))
	}
	f.Listening = !a.net.contact && a.now.Sub(a.started) < a.judge().BootGrace
	g.local, g.remotes = f.Local, f.Remote
	return f
}

func (g *group) remote(a *Agent, c *hosted) machine.Remote {
	s, ok := a.relay.databases[c.Group+"/"+c.Name]
	return machine.Remote{Known: ok, Fresh: ok && a.now.Sub(s.at) < a.judge().HostSilent, State: s.state}
}

// pathUp: some path to a data centre is up.
func (g *group) pathUp(a *Agent) bool {
	for i := range a.net.paths {
		if a.net.paths[i].session.State() == detect.Up {
			return true
		}
	}
	return false
}

// judge renews the verdict and notes a change of it.
func (g *group) judge(a *Agent) {
	e := detect.Evidence{Now: a.now, Started: a.started, Contact: a.net.contact, StalledAt: a.net.stalled,
		Paths: g.evidence.Paths[:0], Services: g.evidence.Services[:0], Databases: g.evidence.Databases[:0]}
	for i := range a.net.paths {
		p := &a.net.paths[i]
		e.Paths = append(e.Paths, detect.PathEvidence{Name: p.Name, State: p.session.Seen(), Since: p.session.Since(), NoCarrier: a.net.links[p.Link]})
	}
	for _, s := range g.services {
		if s.Fail > 0 {
			e.Services = append(e.Services, detect.ServiceEvidence{Name: s.Name, Probes: s.probes, Fail: s.Fail, OK: s.OK})
		}
		e.LANDown = e.LANDown || a.net.links[s.Link]
		e.LANBackAt = max(e.LANBackAt, a.net.back[s.Link])
	}
	for _, c := range g.copies {
		s, ok := a.relay.databases[c.Group+"/"+c.Name]
		e.Databases = append(e.Databases, detect.DatabaseEvidence{Name: c.Name, Heard: ok, Age: a.now.Sub(s.at), State: s.state})
	}
	g.evidence = e
	v := a.judge().Judge(e)
	if v.Usable != g.verdict.Usable || v.Unusable != g.verdict.Unusable || v.Reason != g.verdict.Reason || !slices.Equal(v.Args, g.verdict.Args) {
		if v.Unusable != g.verdict.Unusable {
			a.note(g.machine.Policy.Group, v.Reason, 0, v.Args...)
		}
		g.judged = a.now
	}
	g.verdict = v
}

// step moves the group once, and has its phase's wants carried out.
func (g *group) step(a *Agent, o *machine.Order) bool {
	if !g.booted {
		g.booted = true
		if next := g.machine.Abandon(a.wallNow()); next != nil {
			g.save(a, *next, true) // no authority moves
		}
	}
	g.judge(a)
	f := g.facts(a, o)
	if g.saving {
		if o != nil { // one decision at a time
			a.reply(machine.Reply{ID: o.ID, Code: "refused-busy", Args: []string{"saving", ""}})
		}
		return false
	}
	if a.now >= g.retryAt || o != nil {
		out := g.machine.Step(f)
		if out.Next != nil {
			g.adopt(a, out)
			return true
		}
		for _, r := range out.Replies {
			a.reply(r)
		}
		if g.unsaved && o == nil {
			g.save(a, g.machine.Record(), true)
		}
	}
	g.carry(a, g.machine.Want(f))
	return false
}

// adopt makes a decision durable, then takes it.
func (g *group) adopt(a *Agent, out machine.Outcome[machine.Record]) {
	g.save(a, *out.Next, out.Adopted)
	for _, r := range out.Replies {
		if r.OK {
			g.after(a, r)
			continue
		}
		a.reply(r)
	}
}

// after sends a reply once the record that is being saved is durable, or its
// refusal.
func (g *group) after(a *Agent, r machine.Reply) {
	if fl := a.lanes.busy["state/"+g.machine.Policy.Group]; fl != nil {
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

// save makes rec durable and commits it. harmless: no authority moves, so the
// counter may go on reading even if the disk refuses.
func (g *group) save(a *Agent, rec machine.Record, harmless bool) {
	before := g.machine.Record()
	g.saving = a.issue("state/"+rec.Group, before.Term, 2*time.Second, SaveGroup{Record: rec}, func(d Done) {
		g.saving = false
		g.unsaved = d.Outcome != OK
		if d.Outcome != OK {
			g.retryAt = a.now.Add(time.Second)
			if !harmless {
				a.note(rec.Group, "state-not-saved", rec.Term, d.Code)
				for _, r := range g.machine.Discard() {
					a.reply(r)
				}
				return
			}
		}
		for _, r := range g.machine.Commit(rec, a.now) {
			a.reply(r)
		}
		if before.Phase != rec.Phase {
			a.note(rec.Group, "phase-"+rec.Phase.String(), rec.Term, append([]string{rec.Cause}, rec.Args...)...)
		}
		if rec.Phase == machine.LocalWrite && before.Phase == machine.Promoting {
			g.opened, g.window = a.now, rec.Voucher != nil
		}
		if rec.Phase == machine.AtDC && before.Phase != machine.AtDC {
			for _, s := range g.services { // what was asked while the DC was closed says nothing now
				s.probes = detect.ProbeCount{}
			}
		}
		if rec.Hold != before.Hold {
			a.note(rec.Group, "hold-"+strconv.FormatBool(rec.Hold), 0)
		}
		a.net.content++
	})
}

// carry has the phase's wants carried out.
func (g *group) carry(a *Agent, w machine.Want) {
	rec := g.machine.Record()
	for i, c := range g.copies {
		g.drive(a, c, w)
		g.gate(a, c, w.Gate && (w.Role == standby.Primary || c.obs.Role != standby.Primary))
		g.remind(a, i, c, w.Order)
		if r := g.remote(a, c); g.window && r.Fresh && r.State.Term >= rec.Term && !r.State.Open {
			g.window = false
			if r.State.FencedIn > 0 { // else it was closed when it heard of us
				a.note(rec.Group, "dual-write-window", rec.Term, a.now.Sub(g.opened).Round(time.Millisecond).String(), r.State.FencedIn.Round(time.Millisecond).String())
			}
		}
	}
}

// edge is the box that orders go through.
func (a *Agent) edge() string {
	for _, p := range a.spec.Peers {
		if p.Role == DCEdge {
			return p.Name
		}
	}
	return ""
}

// say is what other boxes are told: durable things only.
func (g *group) say() detect.GroupState {
	r := g.machine.Record()
	return detect.GroupState{Group: r.Group, Term: r.Term, Owner: r.Owner, Mode: uint8(r.Phase.Mode())}
}

package agent

import (
	"time"

	"komainu/failover/detect"
	"komainu/failover/machine"
	"komainu/failover/standby"
	"komainu/netstack/spec"
	"komainu/netstack/steer"
	"komainu/ntp/instant"
)

// View is a picture of the agent for people and monitoring: values only,
// nothing in it is shared with the agent.
type View struct {
	Started, Now instant.Instant
	Wall         int64
	Paths        []PathView
	Groups       []GroupView
	Hosts        []HostView
	Alarms       []Alarm
	Ground       GroundView
	Tunnels      TunnelsView
	Lines        LinesView
}

// GroundView is the network that everything stands on.
type GroundView struct {
	Ground   Ground // as configured
	Settled  bool   // the kernel is so
	Applied  Applied
	Code     string // why the last try failed; empty: it didn't
	Args     []string
	Gateways []GatewayView
}

// GatewayView is a route that follows what it leads over.
type GatewayView struct {
	Route spec.Tracked
	Works bool
	Used  bool
}

// PathView is one path.
type PathView struct {
	Name, Peer, Link string
	State            detect.SessionState
	RTT, Jitter      time.Duration
	Loss             float64
	Since            instant.Instant
	Carrier, Carries bool
	Width            CarriesView // of a tunnel
}

// GroupView is one group of the town hall.
type GroupView struct {
	Policy   machine.Policy
	Record   machine.Record
	Entered  instant.Instant
	Pending  *machine.Order
	Verdict  detect.Verdict
	Judged   instant.Instant
	HoldDown time.Duration // asked for before a move back
	Stable   instant.Instant
	Services []ServiceView
	Copies   []CopyView
}

// ServiceView is one service.
type ServiceView struct {
	Name   string
	Steer  steer.Entry
	Probes detect.ProbeCount
	Last   Probed
}

// CopyView is one hosted database.
type CopyView struct {
	Name        string
	Observation standby.Observation
	Ready       standby.Readiness
	Remote      machine.Remote
	RemoteAge   time.Duration
	Lag         time.Duration
	Percent     uint8
	Busy        string // operation in flight, "" none
	GateOpen    bool
}

// HostView is one database on its DC host.
type HostView struct {
	Record      machine.DCRecord
	Entered     instant.Instant
	Observation standby.Observation
	Heard       *detect.GroupState
	GateOpen    bool
	Percent     uint8
	Busy        string
	FencedIn    time.Duration
}

// View takes the picture.
func (a *Agent) View() View {
	v := View{Started: a.started, Now: a.now, Wall: a.wallNow()}
	for i := range a.net.paths {
		p := &a.net.paths[i]
		v.Paths = append(v.Paths, PathView{Name: p.Name, Peer: p.Peer, Link: p.Link, State: p.session.Seen(), RTT: p.session.RTT(), Jitter: p.session.Jitter(), Width: a.probes.view(p.Name),
			Loss: p.session.Loss(), Since: p.session.Since(), Carrier: !a.net.links[p.Link], Carries: a.net.carries[p.Peer] == p.Name})
	}
	for _, g := range a.groups {
		v.Groups = append(v.Groups, g.view(a))
	}
	for _, h := range a.hosts {
		busy, percent := a.flying("server/" + h.Name)
		v.Hosts = append(v.Hosts, HostView{Record: h.machine.Record(), Entered: h.machine.Entered(), Observation: h.obs,
			Heard: a.relay.freshGroup(a.now, h.Group), GateOpen: h.gate.Open, Percent: percent, Busy: busy, FencedIn: h.fencedIn})
	}
	g := &a.ground
	v.Ground = GroundView{Ground: g.spec, Settled: g.settled, Applied: g.applied, Code: g.code, Args: g.args}
	for _, r := range g.spec.Tracked {
		v.Ground.Gateways = append(v.Ground.Gateways, GatewayView{Route: r, Works: a.tracks(r), Used: !g.left(r)})
	}
	v.Tunnels = a.tunnels.views()
	v.Lines = a.lines.view()
	for k, since := range a.alarms.raised {
		v.Alarms = append(v.Alarms, Alarm{ID: k.id, Subject: k.subject, Severity: a.alarms.severity[k], Raised: true, Since: since})
	}
	return v
}

func (g *group) view(a *Agent) GroupView {
	out := GroupView{Policy: g.machine.Policy, Record: g.machine.Record(), Entered: g.machine.Entered(), Pending: g.machine.Pending(),
		Verdict: g.verdict, Judged: g.judged, HoldDown: g.machine.HoldDown(a.wallNow()), Stable: g.machine.StableSince()}
	for _, s := range g.services {
		sv := ServiceView{Name: s.Name, Probes: s.probes, Last: s.last}
		for _, e := range a.steer.table.Entries {
			if e.Name == s.Name {
				sv.Steer = e
				break
			}
		}
		if sv.Steer.Name == "" && len(s.Steer) > 0 {
			sv.Steer.Service = s.Steer[0]
		}
		out.Services = append(out.Services, sv)
	}
	for _, c := range g.copies {
		busy, percent := a.flying("server/" + c.Name)
		said := a.relay.databases[c.Group+"/"+c.Name]
		out.Copies = append(out.Copies, CopyView{Name: c.Name, Observation: c.obs, Ready: standby.Ready(c.obs), Remote: g.remote(a, c),
			RemoteAge: a.now.Sub(said.at), Lag: g.lag(a, c), Percent: percent, Busy: busy, GateOpen: c.gate.Open})
	}
	return out
}

func (a *Agent) flying(lane string) (op string, percent uint8) {
	if f := a.lanes.busy[lane]; f != nil {
		if s, ok := f.op.(Server); ok {
			return s.Op.String(), f.percent
		}
	}
	return "", 0
}

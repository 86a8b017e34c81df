package config

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"komainu/appliance/agent"
	"komainu/failover/machine"
	"komainu/netstack/steer"
)

// lookEvery is how often servers are looked at: several times within the
// second after which a database host's word is stale.
const lookEvery = 200 * time.Millisecond

// Agent is what the agent is told.
func (f *File) Agent() agent.Spec {
	s := agent.Spec{Site: f.Site.Name, Role: f.Site.Role, LookEvery: lookEvery, Ground: f.Ground()}
	for _, p := range f.Peers {
		s.Peers = append(s.Peers, agent.Peer{Name: p.Name, Role: p.Role, Networks: p.Networks, Sources: p.Source})
	}
	for _, p := range f.Paths {
		s.Paths = append(s.Paths, agent.Path{Name: p.Name, Peer: p.Peer, Link: f.face(p.Interface).Link, Tunnel: f.vpn(p.Interface) != nil, MTU: f.fixedMTU(p.Interface),
			Interval: f.Heartbeat.Interval, Mult: f.Heartbeat.Multiplier, Gateways: p.Gateway})
	}
	for i, v := range f.Services {
		s.Services = append(s.Services, f.steered(v, uint8(i+1)))
	}
	for _, g := range f.Groups {
		p := machine.Policy{Group: f.Site.Name + "/" + g.Name, AutoDown: g.AutoDown, AutoBack: g.AutoBack, Write: machine.WriteOperator,
			HoldDown: g.HoldDown, Drain: g.Drain, MaxReadAge: g.MaxReadAge}
		if g.Write == "never" {
			p.Write = machine.WriteNever
		}
		for _, d := range f.Databases {
			if d.Group == g.Name {
				p.Databases = append(p.Databases, d.Name)
			}
		}
		s.Groups = append(s.Groups, p)
	}
	for _, d := range f.Databases {
		s.Databases = append(s.Databases, agent.Database{Name: d.Name, Group: f.groupOf(d), Primary: f.upstream(d), Server: d.Server,
			Port: d.Port(), Peers: d.Peers, Never: f.never(d), MaxLag: d.MaxLag, SeqGap: d.SequenceGap})
	}
	return s
}

// steered is a service with its endpoints in each family of its stable address.
func (f *File) steered(v Service, mark uint8) agent.Service {
	face := f.face(v.Interface)
	out := agent.Service{Name: v.Name, Group: f.Site.Name + "/" + v.Group, Link: face.Link, Fail: v.Probe.Fail, OK: v.Probe.OK, Locked: v.Database != ""}
	for _, vip := range v.VIP {
		x := steer.Service{Name: v.Name, Mark: mark, Protocol: v.Protocol, Stable: vip, DC: ofFamily(v.DC, vip.Addr()), Local: ofFamily(v.Local, vip.Addr())}
		if v.Database != "" {
			d := f.db(v.Database)
			x.Local = ofFamily(d.Listen, vip.Addr())
			x.Locked = netip.AddrPortFrom(x.Local.Addr(), d.LockedPort)
			if own := face.Own(vip.Addr()); own.IsValid() {
				x.Direct = netip.AddrPortFrom(own, vip.Port())
			}
		}
		out.Steer = append(out.Steer, x)
	}
	return out
}

// groupOf is "site/group", alike on both sides.
func (f *File) groupOf(d Database) string {
	if strings.Contains(d.Group, "/") {
		return d.Group
	}
	return f.Site.Name + "/" + d.Group
}

// upstream is the DC's server; on the database host its own.
func (f *File) upstream(d Database) netip.AddrPort {
	if len(d.Primary) > 0 {
		return d.Primary[0]
	}
	return d.Server
}

func (f *File) never(d Database) bool {
	return d.Write == "never" ||
		slices.ContainsFunc(f.Groups, func(g Group) bool { return g.Name == d.Group && g.Write == "never" })
}

// Beat is one path's heartbeat socket.
type Beat struct {
	Path, Peer    string
	Local, Remote netip.AddrPort
	Link          string // the kernel's name
	Key           string // "secret:NAME"
}

// Beats are the heartbeat sockets, one per path.
func (f *File) Beats() []Beat {
	var out []Beat
	for _, p := range f.Paths {
		key := f.Heartbeat.Key
		for _, x := range f.Peers {
			if x.Name == p.Peer && x.Key != "" {
				key = x.Key
			}
		}
		out = append(out, Beat{Path: p.Name, Peer: p.Peer, Local: netip.AddrPortFrom(p.Local, p.Port),
			Remote: netip.AddrPortFrom(p.Remote, p.Port), Link: f.face(p.Interface).Link, Key: key})
	}
	return out
}

// Cluster is a database with what follows from the rest of the file.
type Cluster struct {
	Database
	Tenant   string         // "site/database" of the municipality, alike on both sides
	Upstream netip.AddrPort // town hall: the DC's server
	Slot     string         // the town hall's physical slot on the DC's server, alike on both sides
	Hall     bool           // this box is the town hall: the server streams from Upstream by Slot; else Slot is its peer's
}

// Clusters are the databases of this box.
func (f *File) Clusters() []Cluster {
	var out []Cluster
	for _, d := range f.Databases {
		site, _, _ := strings.Cut(f.groupOf(d), "/")
		out = append(out, Cluster{Database: d, Tenant: site + "/" + d.Name, Upstream: f.upstream(d), Hall: f.Site.Role == agent.TownHall,
			Slot: strings.ReplaceAll("komainu_"+site+"_"+d.Name, "-", "_")}) // 63 characters at most: names have 27
	}
	return out
}

// ServiceProbe is how one service's endpoint at the DC is asked.
type ServiceProbe struct {
	Service string
	Targets []netip.AddrPort // of the DC, in the families of the stable address
	Probe
	Password string // postgres: "secret:NAME" of the probe role
	CA       string // postgres: "secret:NAME" or a path; empty: certificates aren't checked
}

// Probes are the probes of all services.
func (f *File) Probes() []ServiceProbe {
	var out []ServiceProbe
	for _, s := range f.Services {
		p := ServiceProbe{Service: s.Name, Targets: s.DC, Probe: s.Probe}
		if s.Probe.Kind == "postgres" {
			d := f.db(s.Database)
			p.Password, p.CA = d.ProbePassword, d.CA
		}
		out = append(out, p)
	}
	return out
}

// Refusal is the listener that answers for a locked database.
type Refusal struct {
	Database         string
	Services         []string
	Listen           []netip.AddrPort
	Certificate, Key string // "secret:NAME" or a path; empty: no TLS
}

// Refusals are the refusing listeners of a town-hall box, one per database
// that a service leads to.
func (f *File) Refusals() []Refusal {
	var out []Refusal
	for _, d := range f.Databases {
		x := Refusal{Database: d.Name, Certificate: d.Certificate, Key: d.Key}
		for _, s := range f.Services {
			if s.Database == d.Name {
				x.Services = append(x.Services, s.Name)
			}
		}
		for _, l := range d.Listen {
			x.Listen = append(x.Listen, netip.AddrPortFrom(l.Addr(), d.LockedPort))
		}
		if len(x.Services) > 0 {
			out = append(out, x)
		}
	}
	return out
}

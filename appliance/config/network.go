package config

import (
	"net/netip"
	"slices"

	"komainu/appliance/agent"
	"komainu/netstack/firewall"
	"komainu/netstack/spec"
)

// Routing tables and the priorities of rules of this box. Below 1000 stand
// those of drivers/park, above 1999 nothing of ours.
const (
	vrfTable       = 999  // of the management interface
	lineTable      = 1000 // + n: the n-th interface of side wan with a gateway
	linePriority   = 1100 // + n
	policyTable    = 1200 // + n: the n-th [[route]] with from
	policyPriority = 1200 // + n
	maxLines       = 99
	maxPolicies    = 700
)

// Ground is the network that everything else stands on.
func (f *File) Ground() agent.Ground {
	n, tracked := f.Network()
	return agent.Ground{Network: n, Tracked: tracked, Firewall: f.Firewall(), Tunnels: f.Tunnels(), ClassPaths: f.classPaths(), Sharing: f.Sharing()}
}

// Network is what the kernel should have: links, addresses, routes and rules;
// and, in the order of the file, routes that follow their path or carrier.
// Ports by PCI path stand there by their place, for plan.Resolve. Addresses of
// services and routes to peers are the agent's to add.
func (f *File) Network() (spec.Network, []spec.Tracked) {
	if f.Site.Role == agent.DCDB {
		return f.external(), nil
	}
	b := builder{f: f}
	b.links()
	b.tunnels()
	for _, i := range f.Interfaces {
		for _, a := range i.Addresses {
			b.n.Addresses = append(b.n.Addresses, spec.Address{Link: i.Link, Prefix: a})
		}
	}
	b.gateways()
	b.routes()
	b.classRules()
	return b.n, b.tracked
}

// external is the network of an ordinary server: its own links with our
// addresses.
func (f *File) external() spec.Network {
	var n spec.Network
	for _, i := range f.Interfaces {
		n.Links = append(n.Links, spec.Link{Name: i.Link, Kind: spec.External, Label: i.Name, Up: true})
		for _, a := range i.Addresses {
			n.Addresses = append(n.Addresses, spec.Address{Link: i.Link, Prefix: a})
		}
	}
	return n
}

type builder struct {
	f       *File
	n       spec.Network
	tracked []spec.Tracked
}

// link is the one called name, made as a port if there is none yet. The
// pointer is good until the next call.
func (b *builder) link(name string) *spec.Link {
	i := slices.IndexFunc(b.n.Links, func(l spec.Link) bool { return l.Name == name })
	if i < 0 {
		i = len(b.n.Links)
		b.n.Links = append(b.n.Links, spec.Link{Name: name, Kind: spec.Port, Label: name, Up: true})
	}
	return &b.n.Links[i]
}

// at is the link at p, with what carries it.
func (b *builder) at(p place) *spec.Link {
	if p.vlan == 0 {
		return b.link(p.base)
	}
	b.link(p.base)
	l := b.link(p.link())
	l.Kind, l.Parent, l.VLAN = spec.VLAN, p.base, p.vlan
	return l
}

func (b *builder) links() {
	for _, x := range b.f.Bonds {
		l := b.link(x.Name)
		l.Kind, l.Bond = spec.Bond, x.Options
		for _, p := range x.Ports {
			b.link(p).Master = x.Name
		}
	}
	for _, x := range b.f.Bridges {
		l := b.link(x.Name)
		l.Kind, l.STP = spec.Bridge, x.STP
		for _, p := range x.Ports {
			at, _ := parsePlace(p) // read before
			b.at(at).Master = x.Name
		}
	}
	for _, i := range b.f.Interfaces {
		if i.Side == firewall.Management {
			l := b.link(i.vrf())
			l.Kind, l.Label, l.Table = spec.VRF, i.Name, vrfTable
		}
		var l *spec.Link
		if i.place.dummy {
			l = b.link(i.Link)
			l.Kind = spec.Dummy
		} else {
			l = b.at(i.place)
		}
		l.Label, l.MTU, l.Master = i.Name, i.MTU, i.vrf()
	}
	b.mtus()
}

// mtus gives what carries a VLAN, or is a port of a bridge, the MTU that this
// needs. A bond gives its own to its ports, in the kernel.
func (b *builder) mtus() {
	below := func() {
		for _, l := range b.n.Links {
			if l.Kind != spec.VLAN || l.MTU <= usualMTU {
				continue
			}
			if p := b.link(l.Parent); p.MTU < l.MTU {
				p.MTU = l.MTU
			}
		}
	}
	below()
	for _, l := range b.n.Links {
		for i := range b.n.Links {
			if p := &b.n.Links[i]; l.Kind == spec.Bridge && p.Master == l.Name && l.MTU != 0 {
				p.MTU = l.MTU
			}
		}
	}
	below() // what carries ports of bridges
}

// usualMTU is what the kernel gives to Ethernet.
const usualMTU = 1500

// vrf is the kernel's name of the VRF that i has for itself; empty: none.
func (i Interface) vrf() string {
	if i.Side != firewall.Management {
		return ""
	}
	return madeLink(vrfPrefix, i.Name)
}

// VRF is the device of the VRF in which own address a stands, to which a
// listener there must be bound; empty: none.
func (f *File) VRF(a netip.Addr) string {
	for _, i := range f.Interfaces {
		if i.has(a) && f.Site.Role != agent.DCDB {
			return i.vrf()
		}
	}
	return ""
}

// gateways are default routes, and for each line a table of its own with which
// replies leave by the line they came in.
func (b *builder) gateways() {
	line := uint32(0)
	for _, i := range b.f.Interfaces {
		if len(i.Gateways) == 0 {
			continue
		}
		var table uint32
		if i.Side == firewall.Management {
			table = vrfTable
		}
		var paths []string
		for _, p := range b.f.Paths {
			if b.f.lineOf(p.Interface) == i.Name {
				paths = append(paths, p.Name)
			}
		}
		for _, g := range i.Gateways {
			b.tracked = append(b.tracked, spec.Tracked{Route: spec.Route{To: everything(g), Via: g, Link: i.Link, Table: table, Metric: i.Metric}, Paths: paths})
		}
		if i.Side != firewall.WAN {
			continue
		}
		line++
		for _, g := range i.Gateways {
			to := everything(g)
			b.n.Routes = append(b.n.Routes, spec.Route{To: to, Via: g, Link: i.Link, Table: lineTable + line, Metric: i.Metric})
			b.connected(to, lineTable+line)
		}
		for _, a := range i.Addresses {
			if slices.ContainsFunc(i.Gateways, func(g netip.Addr) bool { return g.Is4() == a.Addr().Is4() }) {
				b.n.Rules = append(b.n.Rules, spec.Rule{Priority: linePriority + line, From: netip.PrefixFrom(a.Addr(), a.Addr().BitLen()), Table: lineTable + line})
			}
		}
	}
}

// everything is the default route's prefix in the family of a.
func everything(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// connected puts the attached networks inside to into a table that stands
// before the main one, else their hosts would be sought behind its gateway.
func (b *builder) connected(to netip.Prefix, table uint32) {
	for _, i := range b.f.Interfaces {
		if i.Side == firewall.Management {
			continue
		}
		for _, a := range i.Addresses {
			b.attached(i.Link, a, to, table)
		}
	}
	for _, v := range b.f.VPNs {
		for _, a := range v.Addresses {
			b.attached(v.Link, a, to, table)
		}
	}
}

func (b *builder) attached(link string, a, to netip.Prefix, table uint32) {
	r := spec.Route{To: a.Masked(), Link: link, Table: table, Metric: defaultMetric}
	if inside(a.Masked(), to) && !slices.Contains(b.n.Routes, r) {
		b.n.Routes = append(b.n.Routes, r)
	}
}

// inside tells whether all of p is in to, of one family.
func inside(p, to netip.Prefix) bool {
	return to.Bits() <= p.Bits() && to.Contains(p.Addr())
}

func (b *builder) routes() {
	policy := uint32(0)
	for _, x := range b.f.Routes {
		i := b.f.face(x.Interface)
		r := spec.Route{To: x.To, Via: x.Via, Link: i.Link, Metric: x.Metric}
		switch {
		case i.Side == firewall.Management:
			r.Table = vrfTable
		case x.From.IsValid():
			policy++
			r.Table = policyTable + policy
			b.connected(x.To, r.Table)
			b.n.Rules = append(b.n.Rules, spec.Rule{Priority: policyPriority + policy, From: x.From, Table: r.Table})
		}
		// Where there is no other way, nothing can take its place.
		other := slices.ContainsFunc(b.f.Routes, func(o Route) bool { return o.Name != x.Name && o.To == x.To && !o.From.IsValid() }) || x.To.Bits() == 0
		if !x.From.IsValid() && (x.Track != "" || other) {
			t := spec.Tracked{Route: r}
			if x.Track != "" {
				t.Paths = []string{x.Track}
			}
			b.tracked = append(b.tracked, t)
			continue
		}
		b.n.Routes = append(b.n.Routes, r)
	}
}

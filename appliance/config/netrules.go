package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"komainu/appliance/agent"
	"komainu/netstack/firewall"
)

// sides gives interfaces without a zone theirs: a line if a path to a box
// beyond it leads over it, or a tunnel. A database host stands on the edge's own network.
func (f *File) sides() {
	for i := range f.Interfaces {
		x := &f.Interfaces[i]
		if x.Side != "" {
			continue
		}
		x.Side = firewall.Service
		if slices.ContainsFunc(f.VPNs, func(v VPN) bool { return v.Interface == x.Name }) {
			x.Side = firewall.WAN
		}
		for _, p := range f.Paths {
			if p.Interface == x.Name && (f.Site.Role != agent.DCEdge || f.peer(p.Peer).Role != agent.DCDB) {
				x.Side = firewall.WAN
			}
		}
	}
}

// network checks links, routes and what the firewall lets pass.
func (r *reader) ground(f *File) {
	if f.Site.Role == agent.DCDB {
		r.ordinary(f)
		return
	}
	r.links(f)
	r.mtus(f)
	r.gateways(f)
	r.routed(f)
	r.management(f)
	r.allows(f)
	r.reachable(f)
}

// ordinary notes what a database host leaves to its own system.
func (r *reader) ordinary(f *File) {
	for i := range f.Interfaces {
		x := &f.Interfaces[i]
		for _, key := range []string{"gateway", "metric", "mtu", "zone"} {
			if v := x.src.vals[key]; v != nil {
				r.bad(v.key, "config-key-not-in-role", key, string(f.Site.Role))
			}
		}
		if strings.HasPrefix(x.On, "pci:") || x.place.dummy || x.On != "" && !linkForm.MatchString(x.On) {
			r.bad(x.src.place("on"), "config-link-of-system", x.On)
		}
		x.Link = x.On // "eth0.110" is the system's own here
	}
	if f.Console.src != nil {
		r.bad(f.Console.src.at, "config-not-in-role", f.Console.src.name, string(f.Site.Role))
	}
}

// links: what they stand on exists, and nothing is used twice.
func (r *reader) links(f *File) {
	made := map[string]string{} // kernel's name: who
	used := map[string]string{} // link: bond or bridge whose port it is
	kinds := map[string]string{}
	declare := func(kind, name string, t *table) {
		if other := made[name]; name != "" && other != "" && other != "[["+kind+"]] "+name {
			r.bad(t.place("name"), "config-link-name", name, other)
		}
		made[name], kinds[name] = "[["+kind+"]] "+name, kind
	}
	for _, b := range f.Bonds {
		declare("bond", b.Name, b.src)
	}
	for _, b := range f.Bridges {
		declare("bridge", b.Name, b.src)
	}
	take := func(t *table, i int, link, who string) {
		if other := used[link]; other != "" {
			r.bad(t.item("ports", i), "config-port-twice", link, other)
			return
		}
		used[link] = who
	}
	for _, b := range f.Bonds {
		for i, p := range b.Ports {
			if kinds[p] != "" {
				r.bad(b.src.item("ports", i), "config-port-made", p, made[p])
				continue
			}
			take(b.src, i, p, "[[bond]] "+b.Name)
		}
	}
	for _, b := range f.Bridges {
		for i, s := range b.Ports {
			p, _ := parsePlace(s) // read before
			if who := used[p.base]; p.vlan != 0 && strings.HasPrefix(who, "[[bond]]") {
				r.bad(b.src.item("ports", i), "config-port-twice", p.base, who)
			} else if kinds[p.base] == "bridge" {
				r.bad(b.src.item("ports", i), "config-port-made", s, made[p.base])
			} else if r.stands(f, "ports", b.src.item("ports", i), p) {
				take(b.src, i, p.link(), "[[bridge]] "+b.Name)
			}
		}
	}
	for _, x := range f.Interfaces {
		if x.On == "" || !x.place.dummy && !r.stands(f, "on", x.src.place("on"), x.place) {
			continue
		}
		for _, link := range []string{x.Link, x.place.base} {
			if who := used[link]; who != "" && (link == x.Link || strings.HasPrefix(who, "[[bond]]")) {
				r.bad(x.src.place("on"), "config-port-not-interface", link, who)
				break
			}
		}
	}
}

// stands notes a place on a bond or bridge that the file doesn't have.
func (r *reader) stands(f *File, key string, at int, p place) bool {
	for kind, prefix := range map[string]string{"bond": "bond", "bridge": "br"} {
		number, ok := strings.CutPrefix(p.base, prefix)
		if !ok || strings.Trim(number, "0123456789") != "" || slices.Contains(append(f.names("bond"), f.names("bridge")...), p.base) {
			continue
		}
		if len(f.names(kind)) > 0 {
			r.bad(at, "config-refers", key, p.base, "[["+kind+"]]", strings.Join(f.names(kind), ", "))
		} else {
			r.bad(at, "config-refers-none", key, p.base, "[["+kind+"]]")
		}
		return false
	}
	return true
}

// mtus: a VLAN's fits into what carries it, and IPv6 into all (RFC 8200: 1280).
func (r *reader) mtus(f *File) {
	for _, x := range f.Interfaces {
		if _, v6 := families(x.Addresses); v6 && x.MTU != 0 && x.MTU < 1280 {
			r.bad(x.src.place("mtu"), "config-mtu-ipv6", fmt.Sprint(x.MTU))
		}
		for _, y := range f.Interfaces {
			below := y.MTU
			if below == 0 {
				below = usualMTU
			}
			if x.place.vlan != 0 && x.On != "" && y.Link == x.place.base && x.MTU > below {
				r.bad(x.src.place("mtu"), "config-mtu-vlan", fmt.Sprint(x.MTU), fmt.Sprint(below), y.Name)
			}
		}
	}
}

// gateways stand in a network of their interface, and can be told apart.
func (r *reader) gateways(f *File) {
	type rank struct {
		v4     bool
		vrf    bool
		metric uint32
	}
	seen := map[rank]string{}
	lines := 0
	for _, x := range f.Interfaces {
		if len(x.Gateways) > 0 && x.Side == firewall.WAN {
			if lines++; lines == maxLines+1 {
				r.bad(x.src.at, "config-too-many", "[[interface]] with gateway", fmt.Sprint(maxLines))
			}
		}
		clash := ""
		for j, g := range x.Gateways {
			at := x.src.item("gateway", j)
			switch {
			case f.own(g):
				r.bad(at, "config-hop-own", "gateway", g.String())
			case len(x.Addresses) > 0 && !x.hop(g):
				r.bad(at, "config-not-in-network", "gateway", g.String(), x.Name)
			}
			k := rank{g.Is4(), x.Side == firewall.Management, x.Metric}
			if other := seen[k]; other != "" && other != x.Name && clash != other {
				clash = other // once, for both families
				r.bad(x.src.place("metric"), "config-metric-twice", x.Name, other, fmt.Sprint(x.Metric))
			}
			seen[k] = x.Name
		}
	}
}

// routed: [[route]] leads over a neighbour on an interface that is there.
func (r *reader) routed(f *File) {
	type key struct {
		to, from netip.Prefix
		metric   uint32
	}
	seen := map[key]string{}
	policies := 0
	for k := range f.Routes {
		x := &f.Routes[k]
		if x.Interface == "" && x.Via.IsValid() {
			if i := slices.IndexFunc(f.Interfaces, func(i Interface) bool { return i.reaches(x.Via) }); i >= 0 {
				x.Interface = f.Interfaces[i].Name
			} else if i := slices.IndexFunc(f.VPNs, func(v VPN) bool { return v.face().reaches(x.Via) }); i >= 0 {
				x.Interface = f.VPNs[i].Name
			} else {
				r.bad(x.src.place("via"), "config-via-nowhere", x.Via.String())
			}
		} else {
			r.refer(x.src, "interface", "interface", x.Interface, f.faces())
		}
		if f.vpn(x.Interface) != nil && x.Via.IsValid() {
			r.bad(x.src.vals["via"].key, "config-vpn-hop", "via", x.Interface)
			x.Via = netip.Addr{}
		}
		r.refer(x.src, "track", "path", x.Track, f.names("path"))
		if !x.To.IsValid() {
			continue
		}
		if face := f.face(x.Interface); x.Via.IsValid() && face != nil {
			switch {
			case x.Via.Is4() != x.To.Addr().Is4():
				r.bad(x.src.place("via"), "config-families", "via", "to")
			case f.own(x.Via):
				r.bad(x.src.place("via"), "config-hop-own", "via", x.Via.String())
			case len(face.Addresses) > 0 && !face.hop(x.Via):
				r.bad(x.src.place("via"), "config-not-in-network", "via", x.Via.String(), x.Interface)
			}
		}
		if x.From.IsValid() {
			if v := x.src.vals["track"]; v != nil {
				r.bad(v.key, "config-not-beside", "track", "from")
			}
			if policies++; policies == maxPolicies+1 {
				r.bad(x.src.at, "config-too-many", "[[route]] with from", fmt.Sprint(maxPolicies))
			}
			if x.From.Addr().Is4() != x.To.Addr().Is4() {
				r.bad(x.src.place("from"), "config-families", "from", "to")
			}
			if face := f.face(x.Interface); face != nil && face.Side == firewall.Management {
				r.bad(x.src.place("from"), "config-management-use", x.Interface, "[[route]] with from")
			}
		}
		if other := seen[key{x.To, x.From, x.Metric}]; other != "" {
			r.bad(x.src.at, "config-route-twice", x.To.String(), other, fmt.Sprint(x.Metric))
		}
		seen[key{x.To, x.From, x.Metric}] = x.Name
		for _, i := range f.Interfaces {
			if slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool { return p.Masked() == x.To }) && !x.From.IsValid() {
				r.bad(x.src.place("to"), "config-route-attached", x.To.String(), i.Name)
			}
			if x.To.Bits() == 0 && !x.From.IsValid() && i.Metric == x.Metric &&
				slices.ContainsFunc(i.Gateways, func(g netip.Addr) bool { return g.Is4() == x.To.Addr().Is4() }) {
				r.bad(x.src.place("metric"), "config-metric-twice", x.Name, i.Name, fmt.Sprint(x.Metric))
			}
		}
	}
}

// management stands apart: one interface, and nothing of the service's on it
// (VIR-21).
func (r *reader) management(f *File) {
	first := ""
	apart := map[string]bool{}
	for _, x := range f.Interfaces {
		if x.Side != firewall.Management {
			continue
		}
		if first != "" {
			r.bad(x.src.place("zone"), "config-management-twice", first)
		}
		first, apart[x.Name] = x.Name, true
	}
	for _, p := range f.Paths {
		if apart[p.Interface] {
			r.bad(p.src.place("interface"), "config-management-use", p.Interface, "[[path]]")
		}
	}
	for _, s := range f.Services {
		if apart[s.Interface] {
			r.bad(s.src.place("interface"), "config-management-use", s.Interface, "[[service]]")
		}
	}
}

// allows: both ends exist, and sources belong where they are said to be.
func (r *reader) allows(f *File) {
	ends := append(f.faces(), toBox)
	for _, x := range f.Interfaces {
		if x.Name == toBox {
			r.bad(x.src.place("name"), "config-name-reserved", toBox)
		}
	}
	for _, a := range f.Allows {
		if r.refer(a.src, "from", "interface", a.From, f.faces()) {
			face := f.face(a.From)
			behind := f.behind(*face)
			for i, s := range a.Source {
				if len(behind) > 0 && !slices.ContainsFunc(behind, func(n netip.Prefix) bool { return inside(s, n) }) {
					r.bad(a.src.item("source", i), "config-source-elsewhere", s.String(), a.From)
				}
			}
			if face.Side == firewall.Management && a.To != toBox && a.To != "" {
				r.bad(a.src.place("from"), "config-management-use", a.From, "[[allow]]")
			}
		}
		if r.refer(a.src, "to", "interface", a.To, ends) && a.To != toBox && f.face(a.To).Side == firewall.Management {
			r.bad(a.src.place("to"), "config-management-use", a.To, "[[allow]]")
		}
		if a.From == a.To && a.From != "" {
			r.bad(a.src.place("to"), "config-allow-same", a.To)
		}
		for i, d := range a.Destination {
			if a.To == toBox && (!d.IsSingleIP() || !f.own(d.Addr())) {
				r.bad(a.src.item("destination", i), "config-not-own", "destination", d.String())
			}
		}
	}
}

// reachable: some network, route or path leads to what services and orders need.
func (r *reader) reachable(f *File) {
	reached := func(a netip.Addr) bool {
		for _, i := range f.Interfaces {
			if i.Side != firewall.Management && (i.reaches(a) || slices.ContainsFunc(i.Gateways, func(g netip.Addr) bool { return g.Is4() == a.Is4() })) {
				return true
			}
		}
		for _, x := range f.Routes {
			if x.To.IsValid() && x.To.Contains(a) && !x.From.IsValid() {
				return true
			}
		}
		for _, v := range f.VPNs {
			if v.face().reaches(a) {
				return true
			}
		}
		for _, p := range f.Paths {
			if f.vpn(p.Interface) != nil && slices.ContainsFunc(f.peer(p.Peer).Networks, func(n netip.Prefix) bool { return n.Contains(a) }) {
				return true
			}
			if sameFamily(p.Gateway, a).IsValid() && slices.ContainsFunc(f.peer(p.Peer).Networks, func(n netip.Prefix) bool { return n.Contains(a) }) {
				return true
			}
		}
		return false
	}
	for _, s := range f.Services {
		for i, e := range s.DC {
			if !reached(e.Addr()) {
				r.bad(s.src.item("dc", i), "config-unreached", "dc", e.Addr().String())
			}
		}
	}
	for _, p := range f.Peers {
		if p.Orders.IsValid() && !reached(p.Orders.Addr()) {
			r.bad(p.src.place("orders"), "config-unreached", "orders", p.Orders.Addr().String())
		}
	}
}

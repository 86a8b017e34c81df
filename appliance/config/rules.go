package config

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"komainu/appliance/agent"
)

// rules checks what concerns several tables. Lines that could not be read may
// hold what seems to be missing, so then only the single tables were checked.
func (r *reader) rules(f *File) {
	if r.cut {
		return
	}
	f.sides()
	r.names(f)
	if f.Site.Role != "" {
		r.allowed(f)
	}
	r.interfaces(f)
	r.peers(f)
	r.paths(f)
	r.sharing(f)
	r.services(f)
	r.databases(f)
	r.vpns(f)
	r.closed(f)
	r.time(f)
	r.listeners(f)
	r.ground(f)
}

// all calls do with every table of f that has a name.
func all(f *File, do func(kind, name string, t *table)) {
	for _, x := range f.Bonds {
		do("bond", x.Name, x.src)
	}
	for _, x := range f.Bridges {
		do("bridge", x.Name, x.src)
	}
	for _, x := range f.Routes {
		do("route", x.Name, x.src)
	}
	for _, x := range f.Allows {
		do("allow", x.Name, x.src)
	}
	for _, x := range f.Users {
		do("user", x.Name, x.src)
	}
	for _, x := range f.Interfaces {
		do("interface", x.Name, x.src)
	}
	for _, x := range f.VPNs {
		do("vpn", x.Name, x.src)
	}
	for _, x := range f.Peers {
		do("peer", x.Name, x.src)
	}
	for _, x := range f.Paths {
		do("path", x.Name, x.src)
	}
	for _, x := range f.Classes {
		do("class", x.Name, x.src)
	}
	for _, x := range f.Services {
		do("service", x.Name, x.src)
	}
	for _, x := range f.Groups {
		do("group", x.Name, x.src)
	}
	for _, x := range f.Databases {
		do("database", x.Name, x.src)
	}
}

func (r *reader) names(f *File) {
	seen := map[string]*table{}
	all(f, func(kind, name string, t *table) {
		if first := seen[kind+"/"+name]; name != "" && first != nil {
			r.bad(t.place("name"), "config-name-twice", name, t.name, r.row(first.at))
		} else if name != "" {
			seen[kind+"/"+name] = t
		}
	})
	for _, p := range f.Peers {
		if p.Name == f.Site.Name && p.Name != "" {
			r.bad(p.src.place("name"), "config-peer-self", p.Name)
		}
	}
}

// row is the row of an offset, for people.
func (r *reader) row(at int) string {
	return strconv.Itoa(strings.Count(string(r.data[:at]), "\n") + 1)
}

// allowed notes tables that a box of this role doesn't have.
func (r *reader) allowed(f *File) {
	role := f.Site.Role
	all(f, func(kind, _ string, t *table) {
		network := slices.Contains([]string{"bond", "bridge", "route", "allow", "user", "class", "vpn"}, kind)
		if role != agent.TownHall && (kind == "service" || kind == "group") || role == agent.DCEdge && kind == "database" || role == agent.DCDB && network {
			r.bad(t.at, "config-not-in-role", t.name, string(role))
		}
	})
	for _, q := range f.QoS {
		if role == agent.DCDB { // its queues are its own
			r.bad(q.src.at, "config-not-in-role", q.src.name, string(role))
		}
	}
}

// refer notes a name that no table of the kind has; "" was noted before.
func (r *reader) refer(t *table, key, kind, name string, names []string) bool {
	if name == "" || slices.Contains(names, name) {
		return name != ""
	}
	at := t.place(key)
	switch n := near(name, names); {
	case n != "":
		r.bad(at, "config-refers-near", key, name, "[["+kind+"]]", n)
	case len(names) == 0:
		r.bad(at, "config-refers-none", key, name, "[["+kind+"]]")
	default:
		r.bad(at, "config-refers", key, name, "[["+kind+"]]", strings.Join(names, ", "))
	}
	return false
}

func (f *File) names(kind string) []string {
	var out []string
	all(f, func(k, name string, _ *table) {
		if k == kind && name != "" {
			out = append(out, name)
		}
	})
	return out
}

// face is the interface called name, or the inside of the tunnel; nil if none.
func (f *File) face(name string) *Interface {
	for i := range f.Interfaces {
		if f.Interfaces[i].Name == name {
			return &f.Interfaces[i]
		}
	}
	if v := f.vpn(name); v != nil {
		return v.face()
	}
	return nil
}

// vpn is the tunnel called name, nil if none.
func (f *File) vpn(name string) *VPN {
	for i := range f.VPNs {
		if f.VPNs[i].Name == name {
			return &f.VPNs[i]
		}
	}
	return nil
}

// faces are the names of everything that a path or a route can lead over.
func (f *File) faces() []string { return append(f.names("interface"), f.names("vpn")...) }

// own tells whether a is an address of this box.
func (f *File) own(a netip.Addr) bool {
	return slices.ContainsFunc(f.Interfaces, func(i Interface) bool { return i.has(a) }) ||
		slices.ContainsFunc(f.VPNs, func(v VPN) bool { return v.face().has(a) })
}

// interfaces: no two networks overlap, here or behind peers.
func (r *reader) interfaces(f *File) {
	type network struct {
		prefix netip.Prefix
		name   string
		t      *table
		key    string
		item   int
	}
	var seen []network
	for i, x := range f.Interfaces {
		for j := range i {
			if x.Link != "" && f.Interfaces[j].Link == x.Link {
				r.bad(x.src.place("on"), "config-link-twice", x.On, f.Interfaces[j].Name)
			}
		}
		for j, p := range x.Addresses {
			seen = append(seen, network{p, x.Name, x.src, "address", j})
		}
	}
	for _, x := range f.VPNs {
		for j, p := range x.Addresses {
			seen = append(seen, network{p, x.Name, x.src, "address", j})
		}
	}
	for _, x := range f.Peers {
		for j, p := range x.Networks {
			seen = append(seen, network{p, x.Name, x.src, "networks", j})
		}
	}
	for i, b := range seen {
		for _, a := range seen[:i] {
			if a.t == b.t && (b.key == "networks" || a.prefix.Addr() != b.prefix.Addr()) {
				continue // two addresses in one network, and two networks of one peer, are allowed
			}
			if !a.prefix.Overlaps(b.prefix) {
				continue
			}
			if a.t != b.t && a.t.name == b.t.name && a.t.name != "[[interface]]" {
				r.bad(b.t.item(b.key, b.item), "config-same-inside", b.prefix.String(), b.t.name, b.name, a.name, r.row(a.t.item(a.key, a.item)), a.prefix.String())
			} else {
				r.bad(b.t.item(b.key, b.item), "config-overlap", b.prefix.String(), a.prefix.String(), a.t.name+" "+a.name, r.row(a.t.item(a.key, a.item)))
			}
			break
		}
	}
}

// peers: each has a way to it, and the next box towards the database takes orders.
func (r *reader) peers(f *File) {
	next := map[agent.Role]agent.Role{agent.TownHall: agent.DCEdge, agent.DCDB: agent.DCEdge}[f.Site.Role]
	found := next == ""
	for _, p := range f.Peers {
		found = found || p.Role == next
		if p.Name != "" && !slices.ContainsFunc(f.Paths, func(x Path) bool { return x.Peer == p.Name }) {
			r.bad(p.src.at, "config-peer-without-path", p.Name)
		}
		ordered := f.Site.Role == agent.TownHall && p.Role == agent.DCEdge || f.Site.Role == agent.DCEdge && p.Role == agent.DCDB
		if ordered && p.src.vals["orders"] == nil {
			r.bad(p.src.at, "config-peer-without-orders", p.Name)
		}
		for i, a := range p.Source {
			if !f.own(a) {
				r.bad(p.src.item("source", i), "config-not-own", "source", a.String())
			}
		}
	}
	if !found {
		r.bad(len(r.data), "config-no-peer", string(next))
	}
}

// paths: both ends fit, and no two share a socket.
func (r *reader) paths(f *File) {
	sockets := map[netip.AddrPort]string{}
	peers, faces := f.names("peer"), f.faces()
	for i := range f.Paths {
		p := &f.Paths[i]
		if p.Port == 0 {
			p.Port = f.Heartbeat.Port
		}
		r.refer(p.src, "peer", "peer", p.Peer, peers)
		if !r.refer(p.src, "interface", "interface", p.Interface, faces) {
			continue
		}
		tunnel := f.vpn(p.Interface)
		on := f.face(p.Interface)
		switch {
		case !p.Local.IsValid():
		case !on.has(p.Local):
			r.bad(p.src.place("local"), "config-not-on-interface", "local", p.Local.String(), p.Interface)
		case p.Remote.IsValid() && p.Remote.Is4() != p.Local.Is4():
			r.bad(p.src.place("remote"), "config-families", "remote", "local")
		case tunnel != nil && p.Remote.IsValid() && !on.reaches(p.Remote):
			r.bad(p.src.place("remote"), "config-not-in-network", "remote", p.Remote.String(), p.Interface)
		}
		if f.own(p.Remote) {
			r.bad(p.src.place("remote"), "config-remote-own", p.Remote.String())
		}
		if tunnel != nil && len(p.Gateway) > 0 {
			r.bad(p.src.vals["gateway"].key, "config-vpn-hop", "gateway", p.Interface)
		}
		for j, g := range p.Gateway {
			if tunnel == nil && !on.reaches(g) {
				r.bad(p.src.item("gateway", j), "config-not-in-network", "gateway", g.String(), p.Interface)
			}
		}
		if !p.Local.IsValid() {
			continue
		}
		socket := netip.AddrPortFrom(p.Local, p.Port)
		if other, ok := sockets[socket]; ok {
			r.bad(p.src.place("local"), "config-path-socket", socket.String(), other)
		}
		sockets[socket] = p.Name
	}
}

// services: everything that they name exists, and the families agree.
func (r *reader) services(f *File) {
	stable := map[netip.AddrPort]string{}
	for _, s := range f.Services {
		if s.src.vals["group"] != nil {
			r.refer(s.src, "group", "group", s.Group, f.names("group"))
		}
		face := f.face(s.Interface)
		r.refer(s.src, "interface", "interface", s.Interface, f.names("interface"))
		var local []netip.AddrPort
		if local = s.Local; s.Database != "" && r.refer(s.src, "local", "database", s.Database, f.names("database")) {
			d := f.db(s.Database)
			local = d.Listen
			if s.Group != "" && d.Group != "" && s.Group != d.Group {
				r.bad(s.src.place("group"), "config-groups-differ", s.Group, s.Database, d.Group)
			}
		}
		for i, v := range s.VIP {
			at := s.src.item("vip", i)
			if other, ok := stable[v]; ok {
				r.bad(at, "config-vip-twice", v.String(), other)
			}
			stable[v] = s.Name
			if f.own(v.Addr()) {
				r.bad(at, "config-vip-own", v.Addr().String())
			} else if face != nil && len(face.Addresses) > 0 && !face.reaches(v.Addr()) {
				r.bad(at, "config-not-in-network", "vip", v.Addr().String(), s.Interface)
			}
			if len(s.DC) > 0 && !ofFamily(s.DC, v.Addr()).IsValid() {
				r.bad(s.src.place("dc"), "config-family-missing", "dc", v.String())
			}
			if len(local) > 0 && !ofFamily(local, v.Addr()).IsValid() {
				r.bad(s.src.place("local"), "config-family-missing", "local", v.String())
			}
		}
	}
	if len(f.Services) > 254 { // the low byte of the connection mark
		r.bad(f.Services[254].src.at, "config-too-many", "[[service]]", "254")
	}
	for _, g := range f.Groups {
		if g.Name != "" && !slices.ContainsFunc(f.Services, func(s Service) bool { return s.Group == g.Name }) &&
			!slices.ContainsFunc(f.Databases, func(d Database) bool { return d.Group == g.Name }) {
			r.bad(g.src.at, "config-group-empty", g.Name)
		}
	}
}

func (f *File) db(name string) *Database {
	for i := range f.Databases {
		if f.Databases[i].Name == name {
			return &f.Databases[i]
		}
	}
	return nil
}

func (r *reader) databases(f *File) {
	folders := map[string]string{}
	for _, d := range f.Databases {
		if f.Site.Role == agent.TownHall && d.src.vals["group"] != nil {
			r.refer(d.src, "group", "group", d.Group, f.names("group"))
		}
		if site, _, _ := strings.Cut(d.Group, "/"); f.Site.Role == agent.DCDB && site != "" && site == f.Site.Name {
			r.bad(d.src.place("group"), "config-own-group", d.Group)
		}
		if other, ok := folders[d.Base]; ok && d.Name != "" && other != d.Name {
			r.bad(d.src.place("base"), "config-base-twice", d.Base, other)
		}
		folders[d.Base] = d.Name
		for i, l := range d.Listen {
			if !f.own(l.Addr()) && !l.Addr().IsLoopback() {
				r.bad(d.src.item("listen", i), "config-not-own", "listen", l.Addr().String())
			}
			if l.Port() != d.Port() {
				r.bad(d.src.item("listen", i), "config-one-port", l.String(), strconv.Itoa(int(d.Port())))
			}
		}
	}
}

// listeners: no two of this box's listeners share an address and port.
func (r *reader) listeners(f *File) {
	taken := map[netip.AddrPort]string{}
	take := func(e netip.AddrPort, at int, who string) {
		if e.Port() == 0 || !e.Addr().IsValid() {
			return
		}
		if other, ok := taken[e]; ok && other != who {
			r.bad(at, "config-port-taken", e.String(), other)
			return
		}
		taken[e] = who
	}
	for _, d := range f.Databases {
		for i, l := range d.Listen {
			take(l, d.src.item("listen", i), "[[database]] "+d.Name)
			if f.Site.Role == agent.TownHall {
				take(netip.AddrPortFrom(l.Addr(), d.LockedPort), d.src.place("locked-port"), "[[database]] "+d.Name+" locked-port")
			}
		}
	}
	for _, s := range f.Services {
		face := f.face(s.Interface)
		for i, v := range s.VIP {
			if s.Database != "" && face != nil {
				take(netip.AddrPortFrom(face.Own(v.Addr()), v.Port()), s.src.item("vip", i), "[[service]] "+s.Name+" vip")
			}
		}
		for i, l := range s.Local {
			if f.own(l.Addr()) {
				take(l, s.src.item("local", i), "[[service]] "+s.Name+" local")
			}
		}
	}
	for i, l := range f.Orders.Listen {
		if !f.own(l.Addr()) {
			r.bad(f.Orders.src.item("listen", i), "config-not-own", "listen", l.Addr().String())
		}
		take(l, f.Orders.src.item("listen", i), "[orders]")
	}
	if f.NTP != nil {
		for _, l := range f.NTP.NTS.Listen {
			take(l, f.NTP.src.place("nts"), "[ntp] nts")
		}
	}
	f.Health.Listen = append(f.Health.Listen, r.named(f, f.Health.src, "listen", f.Health.named)...)
	for i, l := range f.Health.Listen {
		if !f.own(l.Addr()) && !l.Addr().IsLoopback() {
			r.bad(f.Health.src.item("listen", i), "config-not-own", "listen", l.Addr().String())
		}
		take(l, f.Health.src.item("listen", i), "[health]")
	}
	f.Console.SSH = append(f.Console.SSH, r.named(f, f.Console.src, "ssh", f.Console.named)...)
	for i, l := range f.Console.SSH {
		at := 0
		if at = f.Console.src.place("ssh"); i < len(f.Console.at) {
			at = f.Console.at[i]
		}
		if !f.own(l.Addr()) {
			r.bad(at, "config-not-own", "ssh", l.Addr().String())
		}
		take(l, at, "[console]")
	}
}

// named are the addresses of the interfaces that listeners name.
func (r *reader) named(f *File, t *table, key string, names []listenOn) (out []netip.AddrPort) {
	for _, n := range names {
		face := f.face(n.name)
		if face == nil {
			r.refer(t, key, "interface", n.name, f.names("interface"))
			continue
		}
		for _, p := range face.Addresses {
			out = append(out, netip.AddrPortFrom(p.Addr(), n.port))
		}
	}
	return out
}

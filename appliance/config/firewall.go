package config

import (
	"net/netip"
	"slices"

	"komainu/appliance/agent"
	"komainu/netstack/firewall"
)

// Firewall is what follows from the file: heartbeats, orders, replication, time
// and the like for those who are named for them, clients to peers' networks,
// and what [[allow]] says. Stable addresses need nothing here: connections that
// the steering leads elsewhere pass by that. Empty on a database host.
func (f *File) Firewall() firewall.Policy {
	if f.Site.Role == agent.DCDB {
		return firewall.Policy{}
	}
	p := firewall.Policy{Own: []string{"komainu-park"}}
	for _, i := range f.Interfaces {
		p.Zones = append(p.Zones, firewall.Zone{Name: i.Name, Side: i.Side, Link: i.Link, VRF: i.vrf(), Networks: f.behind(i), Addresses: i.Addresses})
	}
	for _, v := range f.VPNs {
		p.Zones = append(p.Zones, f.zone(v))
	}
	p.Accept = slices.Concat(f.outer(), f.accepts(), f.probes())
	for _, a := range f.Allows {
		for _, s := range byProto(a.Service) {
			if a.To == toBox {
				p.Accept = append(p.Accept, firewall.Accept{Name: a.Name, Zone: a.From, From: a.Source, To: hosts(a.Destination), Proto: s.proto, Ports: s.ports})
				continue
			}
			p.Forward = append(p.Forward, firewall.Forward{Name: a.Name, FromZone: a.From, From: a.Source, ToZone: a.To, To: a.Destination, Proto: s.proto, Ports: s.ports})
		}
	}
	p.Forward = append(p.Forward, f.forwards()...)
	return p
}

// behind are the networks of senders on i: attached, routed there, and peers'.
// None on a line, and where a default route leads: any but those of the others.
func (f *File) behind(i Interface) []netip.Prefix {
	if i.Side == firewall.WAN || len(i.Gateways) > 0 {
		return nil
	}
	var out []netip.Prefix
	if f.vpn(i.Name) != nil {
		if out = f.inside(i.Name); slices.ContainsFunc(out, func(p netip.Prefix) bool { return p.Bits() == 0 }) {
			return nil
		}
		return out
	}
	for _, a := range i.Addresses {
		out = append(out, a.Masked())
	}
	for _, r := range f.Routes {
		if r.Interface == i.Name {
			if r.To.Bits() == 0 {
				return nil
			}
			out = append(out, r.To)
		}
	}
	for _, p := range f.Paths {
		if p.Interface == i.Name {
			out = append(append(out, single(p.Remote)), f.peer(p.Peer).Networks...)
		}
	}
	return sorted(out)
}

// sorted is ps in order, each once.
func sorted(ps []netip.Prefix) []netip.Prefix {
	slices.SortFunc(ps, netip.Prefix.Compare)
	return slices.Compact(ps)
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// hosts are the addresses of prefixes that are each of one host.
func hosts(ps []netip.Prefix) (out []netip.Addr) {
	for _, p := range ps {
		out = append(out, p.Addr())
	}
	return out
}

// registered is where peers' own packets come from: their ends of paths, the
// addresses where they take orders, and the networks behind them.
func (f *File) registered() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range f.Peers {
		out = append(out, f.senders(p)...)
	}
	return sorted(out)
}

func (f *File) senders(p Peer) []netip.Prefix {
	out := slices.Clone(p.Networks)
	if p.Orders.IsValid() {
		out = append(out, single(p.Orders.Addr()))
	}
	for _, x := range f.Paths {
		if x.Peer == p.Name {
			out = append(out, single(x.Remote))
		}
	}
	return sorted(out)
}

func (f *File) accepts() []firewall.Accept {
	var out []firewall.Accept
	tcp := func(name, zone string, from []netip.Prefix, to netip.AddrPort) {
		if !to.Addr().IsLoopback() { // the firewall lets loopback be
			out = append(out, firewall.Accept{Name: name, Zone: zone, From: from, To: []netip.Addr{to.Addr()}, Proto: "tcp", Ports: []uint16{to.Port()}})
		}
	}
	// reachable: for the zone of the address, and for peers and the networks
	// behind them; on a line for these only.
	reachable := func(name string, to netip.AddrPort) {
		if i := f.faceOf(to.Addr()); i != nil && i.Side != firewall.WAN {
			tcp(name, i.Name, nil, to)
			if i.Side == firewall.Management {
				return
			}
		}
		if from := f.registered(); len(from) > 0 {
			tcp(name+" from peers", "", from, to)
		}
	}
	for _, p := range f.Paths {
		out = append(out, firewall.Accept{Name: "heartbeat " + p.Name, Zone: p.Interface, From: []netip.Prefix{single(p.Remote)}, To: []netip.Addr{p.Local},
			Proto: "udp", Ports: []uint16{p.Port}})
	}
	for _, l := range f.Orders.Listen {
		if from := f.registered(); len(from) > 0 {
			tcp("orders", "", from, l)
		}
	}
	for _, l := range f.Health.Listen {
		reachable("health", l)
	}
	for _, l := range f.Console.SSH {
		reachable("ssh", l)
	}
	for _, d := range f.Databases {
		// Clients use the stable address; here they meet the fence, or the refusal.
		from := slices.Clone(d.Clients)
		for _, p := range d.Peers {
			from = append(from, single(p))
		}
		if from = sorted(from); len(from) == 0 {
			continue
		}
		for _, l := range d.Listen {
			tcp("database "+d.Name, "", from, l)
			if d.LockedPort != 0 {
				tcp("locked "+d.Name, "", from, netip.AddrPortFrom(l.Addr(), d.LockedPort))
			}
		}
	}
	if f.NTP != nil && len(f.NTP.Serve) > 0 {
		from := sorted(slices.Clone(f.NTP.Serve))
		for _, l := range f.NTP.Listen {
			out = append(out, firewall.Accept{Name: "ntp", From: from, To: []netip.Addr{l.Addr()}, Proto: "udp", Ports: []uint16{l.Port()}, Stateless: true})
		}
		if f.NTP.NTS.Certificate != "" {
			for _, l := range f.NTP.NTS.Listen {
				tcp("nts", "", from, l)
			}
		}
	}
	return out
}

// forwards: at a town hall clients reach the networks of peers over every line;
// at the edge town halls reach the services, and database hosts the town halls'
// servers, from which they rejoin.
func (f *File) forwards() []firewall.Forward {
	var out []firewall.Forward
	type ends struct{ name, from, to string }
	there := map[ends]bool{}
	add := func(x firewall.Forward) {
		if e := (ends{x.Name, x.FromZone, x.ToZone}); !there[e] {
			there[e] = true
			out = append(out, x)
		}
	}
	var hosts []Path // ways to database hosts: few, where town halls are many
	for _, p := range f.Paths {
		if f.peer(p.Peer).Role == agent.DCDB {
			hosts = append(hosts, p)
		}
	}
	for _, path := range f.Paths {
		peer := f.peer(path.Peer)
		for _, i := range f.Interfaces {
			if i.Side != firewall.Service || i.place.dummy || i.Name == path.Interface || len(peer.Networks) == 0 {
				continue
			}
			if f.Site.Role == agent.TownHall {
				add(firewall.Forward{Name: peer.Name, FromZone: i.Name, ToZone: path.Interface, To: peer.Networks})
			} else if peer.Role == agent.TownHall {
				add(firewall.Forward{Name: peer.Name, FromZone: path.Interface, From: peer.Networks, ToZone: i.Name})
			}
		}
		if f.Site.Role != agent.DCEdge || peer.Role != agent.TownHall || len(peer.Networks) == 0 {
			continue
		}
		for _, x := range hosts {
			if host := f.peer(x.Peer); x.Interface != path.Interface {
				add(firewall.Forward{Name: host.Name + " to " + peer.Name, FromZone: x.Interface, From: f.senders(host), ToZone: path.Interface, To: peer.Networks})
			}
		}
	}
	return out
}

// peer is the one called name; rules made sure that it exists.
func (f *File) peer(name string) Peer {
	for i := range f.Peers {
		if f.Peers[i].Name == name {
			return f.Peers[i]
		}
	}
	return Peer{}
}

// faceOf is the interface with address a; nil if none.
func (f *File) faceOf(a netip.Addr) *Interface {
	for i := range f.Interfaces {
		if f.Interfaces[i].has(a) {
			return &f.Interfaces[i]
		}
	}
	return nil
}

type protoPorts struct {
	proto string
	ports []uint16
}

// byProto gathers ports; without any there is one item, for every protocol.
func byProto(ports []Port) []protoPorts {
	if len(ports) == 0 {
		return []protoPorts{{}}
	}
	var out []protoPorts
	for _, p := range ports {
		i := slices.IndexFunc(out, func(x protoPorts) bool { return x.proto == p.Proto })
		if i < 0 {
			i = len(out)
			out = append(out, protoPorts{proto: p.Proto})
		}
		if p.Port != 0 {
			out[i].ports = append(out[i].ports, p.Port)
		}
	}
	return out
}

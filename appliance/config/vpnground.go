package config

import (
	"net/netip"
	"slices"

	"komainu/netstack/firewall"
	"komainu/netstack/spec"
)

// This file makes of tunnels what they are to the kernel's network: links,
// zones and permissions. What is inside them is charon's and the agent's to know.

const (
	// What a tunnel adds to a packet at the least: the outer header, ESP with its
	// IV and tag as AES-GCM has them (RFC 4303, RFC 4106), and UDP where it is
	// asked for (RFC 3948). Padding to four bytes and its two last ones follow.
	outer4    = 20
	outer6    = 40
	espLeast  = 8 + 8 + 16
	espInUDP  = 8
	espAlign  = 4
	espTail   = 2
	leastIPv6 = 1280 // RFC 8200 section 5
	// probePort is where both ends of a path look for the packets that fit.
	probePort = 4796
)

// tunnels makes the insides of tunnels, with addresses.
func (b *builder) tunnels() {
	for _, v := range b.f.VPNs {
		b.n.Links = append(b.n.Links, spec.Link{Name: v.Link, Kind: spec.XFRM, Label: v.Name, IfID: v.IfID, MTU: b.f.insideMTU(v), Up: true})
		for _, a := range v.Addresses {
			b.n.Addresses = append(b.n.Addresses, spec.Address{Link: v.Link, Prefix: a})
		}
	}
}

// insideMTU is the most that can pass v where nothing on the way is narrower than
// its line: what the search begins with. A suite that adds more, or NAT on the
// way, is for the search to find; the kernel refuses packets that are too large
// for the line.
func (f *File) insideMTU(v VPN) int {
	if v.MTU != 0 {
		return v.MTU
	}
	line := f.face(v.Interface).MTU
	if line == 0 {
		line = usualMTU
	}
	heads := outer4 + espLeast
	if v.Local.Is6() {
		heads = outer6 + espLeast
	}
	if v.Encap {
		heads += espInUDP
	}
	return max(leastIPv6, (line-heads)/espAlign*espAlign-espTail)
}

// zone is v to the firewall.
func (f *File) zone(v VPN) firewall.Zone {
	z := firewall.Zone{Name: v.Name, Side: firewall.Tunnel, Link: v.Link, Addresses: v.Addresses}
	for _, n := range f.inside(v.Name) {
		if z.Any = z.Any || n.Bits() == 0; n.Bits() > 0 {
			z.Networks = append(z.Networks, n)
		}
	}
	return z
}

// inside are the networks that belong into the tunnel called name: those on it,
// those that it protects or that are routed into it, and all of each peer that
// a path leads to over it. The peer's packets may come by each of its tunnels,
// also while ours go by another.
func (f *File) inside(name string) []netip.Prefix {
	v := f.vpn(name)
	var out []netip.Prefix
	for _, a := range v.Addresses {
		out = append(out, a.Masked())
	}
	for _, p := range v.Protect {
		out = append(out, p.Remote)
	}
	for _, r := range f.Routes {
		if r.Interface == name {
			out = append(out, r.To)
		}
	}
	for _, p := range f.Paths {
		if p.Interface != name {
			continue
		}
		out = append(out, f.peer(p.Peer).Networks...)
		for _, o := range f.Paths {
			if o.Peer == p.Peer && f.vpn(o.Interface) != nil {
				out = append(out, single(o.Remote))
			}
		}
	}
	return sorted(out)
}

// outer are the permissions for tunnels themselves, by line: IKE and ESP (also in
// UDP, RFC 7296 section 2, RFC 3948) from their peers, and from anybody if one
// may call from anywhere.
func (f *File) outer() []firewall.Accept {
	var out []firewall.Accept
	for _, i := range f.Interfaces {
		var from []netip.Prefix
		var to []netip.Addr
		anybody := false
		for _, v := range f.VPNs {
			if v.Interface != i.Name {
				continue
			}
			if to = append(to, v.Local); v.Remote.IsValid() {
				from = append(from, single(v.Remote))
			} else {
				anybody = true
			}
		}
		to = hosts(sorted(singles(to)))
		accept := func(from []netip.Prefix) {
			out = append(out,
				firewall.Accept{Name: "ike " + i.Name, Zone: i.Name, From: from, To: to, Proto: "udp", Ports: []uint16{500, 4500}, Outer: true, Stateless: true},
				firewall.Accept{Name: "esp " + i.Name, Zone: i.Name, From: from, To: to, Proto: "esp", Outer: true, Stateless: true})
		}
		if len(from) > 0 {
			accept(sorted(from))
		}
		if anybody {
			accept(nil)
		}
	}
	return out
}

func singles(as []netip.Addr) (out []netip.Prefix) {
	for _, a := range as {
		out = append(out, single(a))
	}
	return out
}

// probes are the permissions for who looks for the packets that fit into v.
func (f *File) probes() []firewall.Accept {
	var out []firewall.Accept
	for _, v := range f.VPNs {
		var from []netip.Prefix
		for _, a := range v.Addresses {
			from = append(from, a.Masked())
		}
		if len(from) > 0 {
			out = append(out, firewall.Accept{Name: "probe " + v.Name, Zone: v.Name, From: sorted(from), To: hosts(v.Addresses), Proto: "udp", Ports: []uint16{probePort}})
		}
	}
	return out
}

// closed notes paths that would lead in clear where a tunnel leads. The firewall
// lets nothing through there (AT-173), and a peer that only such a path reaches
// would seem usable.
func (r *reader) closed(f *File) {
	for _, p := range f.Paths {
		beside := slices.IndexFunc(f.Paths, func(o Path) bool { return o.Peer == p.Peer && f.vpn(o.Interface) != nil })
		if f.vpn(p.Interface) == nil && beside >= 0 {
			r.bad(p.src.place("interface"), "config-path-clear", p.Name, p.Peer, f.Paths[beside].Name)
		}
	}
}

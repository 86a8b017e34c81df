package firewall

import (
	"net/netip"
	"slices"
)

// first is what is decided about packets of z before it is known whether they
// belong there.
func (b *builder) first(z Zone, spoofed string) []Rule {
	var rules []Rule
	if z.Side != Management {
		for _, s := range b.both("management", b.management()) {
			rules = append(rules, each(refuse("management", z), func(r *Rule) { r.Dst, r.DstSet = s.one, s.set })...)
		}
	}
	rules = append(rules,
		// These live on one link only.
		Rule{Src: prefix("fe80::/10")},
		// Duplicate detection (RFC 4862, 5.4) and DHCP (RFC 2131, 4.1) come before an address.
		Rule{Src: prefix("::/128"), Proto: "icmpv6", ICMP: []uint8{neighbourSolicitation, listenerReport}},
		Rule{Src: prefix("0.0.0.0/32"), Proto: "udp", SrcPorts: []uint16{68}, DstPorts: []uint16{67}},
	)
	return append(rules, whose(b.both("nobody", nobody()), false, spoofed)...)
}

// whose jumps where the source is, or is not, in a network.
func whose(all []some, not bool, to string) []Rule {
	var rules []Rule
	for _, s := range all {
		rules = append(rules, Rule{Src: s.one, SrcSet: s.set, SrcNot: not, Action: Jump, Chain: to})
	}
	return rules
}

// outer lets tunnels themselves pass, whoever their ends are, by those of all that
// are for z.
func (b *builder) outer(z Zone, all []Accept) []Rule {
	var rules []Rule
	for _, a := range all {
		if !a.Outer || len(a.From) == 0 || !a.from(z) {
			continue
		}
		for _, e := range b.ends(a.Name, a.From, nil) {
			e.Proto, e.DstPorts = a.Proto, a.Ports
			rules = append(rules, e)
		}
	}
	return rules
}

// belongs decides whether a packet may come from z, by its source.
func (b *builder) belongs(z Zone, spoofed string) []Rule {
	if z.any() {
		return whose(b.both("not_"+z.Name, b.elsewhere(z)), false, spoofed)
	}
	var rules []Rule
	for _, v6 := range []bool{false, true} {
		here := merge(family(z.Networks, v6))
		if len(here) == 0 { // nobody there speaks it
			rules = append(rules, Rule{V4: !v6, V6: v6, Action: Jump, Chain: spoofed})
			continue
		}
		// A set also of one: where a set takes the place of a network, it
		// is empty for an instant, and everybody would be spoofed.
		rules = append(rules, whose([]some{{set: b.set("net_"+z.Name, here)}}, true, spoofed)...)
	}
	return rules
}

// untracked keeps stateless packets that come from z out of connection tracking.
func (b *builder) untracked(z Zone, all []Accept) []Rule {
	var rules []Rule
	for _, a := range all {
		if !a.Stateless || !a.from(z) {
			continue
		}
		for _, e := range b.ends(a.Name, nil, single(a.To)) {
			e.Proto, e.DstPorts, e.DstLocal, e.Action = a.Proto, a.Ports, len(a.To) == 0, NoTrack
			rules = append(rules, e)
		}
	}
	return rules
}

// last is what is decided about packets that belong where they come from.
func (b *builder) last(spoofed string) []Rule {
	// What the box itself says to everybody comes back to it as if from the link.
	rules := []Rule{{Dst: prefix("224.0.0.0/4")}, {Dst: prefix("ff00::/8")}}
	return append(append(rules, whose(b.both("own", b.own()), false, spoofed)...), Rule{})
}

// nobody are sources that no packet from outside can have (RFC 6890).
func nobody() []netip.Prefix {
	return prefixes("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "::ffff:0:0/96", "ff00::/8")
}

// own are the addresses of the box.
func (b *builder) own() []netip.Prefix {
	var all []netip.Prefix
	for _, z := range b.Zones {
		for _, a := range z.Addresses {
			all = append(all, whole(a.Addr()))
		}
	}
	return all
}

// management are the networks that only the management's own link may reach.
func (b *builder) management() []netip.Prefix {
	var all []netip.Prefix
	for _, z := range b.Zones {
		if z.Side == Management {
			all = append(all, attached(z)...)
		}
	}
	return all
}

// any says whether every source may come from z that belongs to no other zone.
func (z Zone) any() bool { return z.Any || len(z.Networks) == 0 }

// elsewhere are the networks that belong to other zones than z, but for smaller
// ones inside them that permissions expect in z. Lines may lie in each other's
// networks: providers join them.
func (b *builder) elsewhere(z Zone) []netip.Prefix {
	var all, here []netip.Prefix
	for _, o := range b.Zones {
		if o.Name != z.Name && (o.Side != WAN || z.Side != WAN) && o.Side != Tunnel {
			all = append(append(all, o.Networks...), attached(o)...)
		}
	}
	here = attached(z)
	for _, a := range b.Accept {
		if a.Zone == z.Name && !a.Outer {
			here = append(here, a.From...)
		}
	}
	for _, f := range b.Forward {
		if f.FromZone == z.Name {
			here = append(here, f.From...)
		}
		if f.ToZone == z.Name {
			here = append(here, f.To...)
		}
	}
	return append(without(all, here), b.inside(z)...)
}

// inside are the networks behind tunnels, but for those that belong to z: no
// permission opens them to a line.
func (b *builder) inside(z Zone) []netip.Prefix {
	var all []netip.Prefix
	for _, o := range b.Zones {
		if o.Side == Tunnel && o.Name != z.Name {
			all = append(append(all, o.Networks...), attached(o)...)
		}
	}
	here := attached(z)
	if z.Side == Tunnel {
		here = append(here, z.Networks...)
	}
	all = without(all, here)
	return slices.DeleteFunc(all, func(p netip.Prefix) bool {
		return slices.ContainsFunc(here, func(h netip.Prefix) bool { return covers(h.Masked(), p) })
	})
}

// attached are the networks on the link itself.
func attached(z Zone) []netip.Prefix {
	var all []netip.Prefix
	for _, a := range z.Addresses {
		if a.Addr().Is4() || !a.Addr().IsLinkLocalUnicast() {
			all = append(all, a.Masked())
		}
	}
	return all
}

// Types of ICMP messages (RFC 792) and of ICMPv6 (RFC 4443, 4861, 2710, 3810).
const (
	unreachable  = 3 // with "fragmentation needed", which finds the path's MTU
	echoRequest  = 8
	timeExceeded = 11
	badParameter = 12

	unreachable6          = 1
	packetTooBig6         = 2
	timeExceeded6         = 3
	badParameter6         = 4
	echoRequest6          = 128
	listenerQuery         = 130
	listenerReport1       = 131
	listenerDone          = 132
	neighbourSolicitation = 135
	neighbourAdvert       = 136
	listenerReport        = 143
)

const icmpChain = "control"

// icmp is what every zone may tell and ask the box. Errors about connections
// that are tracked have passed before; these are about those that aren't.
func icmp() []Rule {
	errors4 := Rule{Name: "icmp errors", Proto: "icmp", ICMP: []uint8{unreachable, timeExceeded, badParameter}, Rate: errorRate, Burst: errorBurst}
	errors6 := Rule{Name: "icmp errors", Proto: "icmpv6", ICMP: []uint8{unreachable6, packetTooBig6, timeExceeded6, badParameter6}, Rate: errorRate, Burst: errorBurst}
	echo4 := Rule{Name: "echo", Proto: "icmp", ICMP: []uint8{echoRequest}, V4: true, Rate: echoRate, Burst: echoBurst, PerSource: true}
	echo6 := Rule{Name: "echo", Proto: "icmpv6", ICMP: []uint8{echoRequest6}, V6: true, Rate: echoRate, Burst: echoBurst, PerSource: true}
	return []Rule{
		{Name: "neighbours", Proto: "icmpv6", ICMP: []uint8{
			listenerQuery, listenerReport1, listenerDone, neighbourSolicitation, neighbourAdvert, listenerReport,
		}},
		errors4, flood("error flood", errors4), errors6, flood("error flood", errors6),
		echo4, flood("echo flood", echo4), echo6, flood("echo flood", echo6),
	}
}

// flood is for what is above the rate of r.
func flood(name string, r Rule) Rule {
	return Rule{Name: name, Proto: r.Proto, ICMP: r.ICMP, Action: Discard, Log: true}
}

package firewall

import (
	"net/netip"
	"slices"
	"strings"
)

// Priorities of the chains. What is refused for its source is refused before
// the steering (-300) answers or parks it, and before connection tracking
// (-200), of which stateless packets are kept out.
const (
	beforeTracking = -310
	filter         = 0
)

// Limits on what strangers can make the box do.
const (
	echoRate     = 10  // echo requests per second and source that are answered
	echoBurst    = 20  // of them at once
	errorRate    = 100 // ICMP errors per second and kind that are believed
	errorBurst   = 200
	answersRate  = 50 // refusals per second and rule that are answered; others are dropped
	answersBurst = 50
)

// Rules are the rules that p comes to; none at all if p has no zones, as on a
// database host, whose own administrators guard it.
//
// Every packet passes "prerouting", where its link's zone decides whether the
// source may come from there, then "input" or "forward", where the zone's list
// of permissions is looked through. Names of rules, by which refusals are
// counted and logged, end with the name of the zone that a packet came from:
//
//	no zone            the link belongs to no zone
//	spoofed ZONE       the source belongs elsewhere
//	management ZONE    it wanted to reach the management network (VIR-21, AT-177)
//	invalid ZONE       connection tracking can't make sense of it
//	broadcast ZONE     to everybody, and nobody here listens (not logged)
//	echo flood         more echo requests than are answered
//	error flood        more ICMP errors than are believed
//	input ZONE         to the box, and nothing allows it
//	forward ZONE       through the box, and nothing allows it
//	in clear ZONE      for a network behind a tunnel, by ZONE instead: from the
//	                   box itself, or through it
//
// A hub has hundreds of tunnels, which differ in their networks only. What is the
// same for all of them stands once, in chains that theirs jump to, and ZONE there
// is "tunnels"; log lines tell them apart by the link.
//
// What is refused is dropped without a word if it came by a line, since an
// answer tells strangers something and clerks nothing; else it is answered, so
// that whoever sits there sees an error at once (AT-140). What would leave in
// clear is dropped without a word too: sessions outlive a moment without tunnel.
//
// Segments of TCP that connection tracking calls invalid reach the box's own
// TCP, but from lines: the failover deletes connections from tracking, and
// what comes of them afterwards has to be answered with a reset by who knows,
// while a segment of a connection that lives must not kill it.
func Rules(p Policy) Ruleset {
	if len(p.Zones) == 0 {
		return Ruleset{}
	}
	b := builder{Policy: p, names: map[string]bool{}, known: map[string]string{}, accept: map[string][]Accept{}, forwarded: map[string][]Forward{}}
	for _, a := range p.Accept {
		b.accept[a.Zone] = append(b.accept[a.Zone], a)
	}
	for _, f := range p.Forward {
		b.forwarded[f.FromZone] = append(b.forwarded[f.FromZone], f)
	}
	all := []Chain{{Name: icmpChain, Rules: icmp()}}
	var shared *sharedChains
	for _, z := range p.Zones {
		if z.absent() {
			b.chains = append(b.chains, zoneChains{})
			continue
		}
		name := func(what string) string { return b.unique(what + "_" + slug(z.Name)) }
		c := zoneChains{from: name("from"), in: name("in"), through: name("through")}
		b.chains = append(b.chains, c)
		if z.Side == Tunnel {
			if shared == nil {
				var chains []Chain
				shared, chains = b.share()
				all = append(all, chains...)
			}
			all = append(all, b.tunnel(z, c, *shared)...)
			continue
		}
		spoofed, invalid := name("spoofed"), name("invalid")
		all = append(all,
			Chain{Name: spoofed, Rules: []Rule{{Name: "spoofed " + z.Name, Action: Discard, Log: true}}},
			Chain{Name: c.from, Rules: slices.Concat(b.first(z, spoofed), b.untracked(z, b.Accept), b.outer(z, b.Accept), b.belongs(z, spoofed), b.last(spoofed))},
			Chain{Name: invalid, Rules: []Rule{{Name: "invalid " + z.Name, Action: Discard, Log: true}}},
			Chain{Name: c.in, Rules: slices.Concat(b.steered(z), control(), b.accepts(z, b.Accept), b.refused(z, invalid))},
			Chain{Name: c.through, Rules: slices.Concat(b.steered(z), b.managed(z), b.forwards(z), refuse("forward", z))})
	}
	all = append(all,
		Chain{Name: "prerouting", Hook: Prerouting, Priority: beforeTracking, Rules: b.prerouting()},
		Chain{Name: "input", Hook: Input, Priority: filter, Drop: true, Rules: b.input()},
		Chain{Name: "forward", Hook: Forwarding, Priority: filter, Drop: true, Rules: b.forward()},
		Chain{Name: "output_raw", Hook: Output, Priority: beforeTracking, Rules: b.untrackedReplies()},
		Chain{Name: "output", Hook: Output, Priority: filter, Rules: b.output()})
	return Ruleset{Sets: b.sets, Chains: all}
}

type builder struct {
	Policy
	chains []zoneChains // one for each of Zones
	sets   []Set
	names  map[string]bool   // of sets and chains, given already
	known  map[string]string // name of the set with this content

	accept    map[string][]Accept  // by zone; "": any
	forwarded map[string][]Forward // by the zone that they come from
}

// zoneChains are the names of a zone's chains.
type zoneChains struct{ from, in, through string }

// absent says that the link's port isn't there: Link is still the port's place,
// "pci:0000:02:00.0", which no link of the kernel's is called.
func (z Zone) absent() bool { return strings.ContainsAny(z.Link, ":/") }

// arriving are the names under which packets of the i-th zone come in. Those of a
// VRF pass prerouting twice, as the link's and as the VRF's; then they are the
// VRF's, but for neighbour discovery (kernel: drivers/net/vrf.c).
func (b *builder) arriving(i int) []string {
	if z := b.Zones[i]; z.VRF != "" {
		return []string{z.Link, z.VRF}
	}
	return []string{b.Zones[i].Link}
}

// dispatch leads packets to the chain of their zone. The first zone of a VRF
// decides about all of it.
func (b *builder) dispatch(links func(zone int) []string, chain func(zoneChains) string) []Rule {
	to := map[string]string{}
	for i, z := range b.Zones {
		if z.absent() {
			continue
		}
		for _, l := range links(i) {
			if to[l] == "" {
				to[l] = chain(b.chains[i])
			}
		}
	}
	if len(to) == 0 {
		return nil
	}
	return []Rule{{Action: Jump, ByIn: to}}
}

// steered says whether clients of services are in the zone.
func (z Zone) steered() bool { return z.Side == Service }

func (b *builder) prerouting() []Rule {
	rules := []Rule{{In: "lo"}}
	for _, link := range b.Own {
		rules = append(rules, Rule{In: link})
	}
	for _, z := range b.Zones {
		if z.VRF != "" && !z.absent() {
			rules = append(rules, Rule{In: z.VRF}) // was looked at as the link's
		}
	}
	rules = append(rules, b.dispatch(func(i int) []string { return []string{b.Zones[i].Link} }, func(c zoneChains) string { return c.from })...)
	return append(rules, Rule{Name: "no zone", Action: Discard, Log: true})
}

func (b *builder) input() []Rule {
	rules := []Rule{{State: Established | Related}, {In: "lo"}}
	for _, link := range b.Own {
		rules = append(rules, Rule{Name: "steered", In: link})
	}
	rules = append(rules, b.dispatch(b.arriving, func(c zoneChains) string { return c.in })...)
	return append(rules, Rule{Name: "input", Action: Discard, Log: true})
}

func (b *builder) forward() []Rule {
	var rules []Rule
	for _, z := range b.Zones {
		for _, own := range b.Own {
			if z.steered() && !z.absent() { // the steering leads first packets there that have to wait
				rules = append(rules, Rule{Name: "parked", In: z.Link, Out: own})
			}
		}
	}
	for _, z := range b.Zones { // also of connections that began when there was a tunnel
		rules = append(rules, b.unclear(z)...)
	}
	rules = append(rules, Rule{Name: "mss", SYN: true, Action: ClampMSS}, Rule{State: Established | Related})
	for _, link := range b.Own {
		rules = append(rules, Rule{Name: "steered", In: link, DNAT: true})
	}
	rules = append(rules, b.dispatch(b.arriving, func(c zoneChains) string { return c.through })...)
	return append(rules, Rule{Name: "forward", Action: Discard, Log: true})
}

// output is what the box itself may send: everything, but nothing in clear to
// what is behind tunnels.
func (b *builder) output() []Rule {
	var rules []Rule
	for _, z := range b.Zones {
		closed, outer := b.unclear(z), map[string]bool{}
		for _, a := range b.Accept {
			if a.Outer && a.from(z) && len(closed) > 0 && !outer[a.Proto] {
				outer[a.Proto] = true
				rules = append(rules, Rule{Out: z.Link, Proto: a.Proto, SrcPorts: a.Ports})
			}
		}
		rules = append(rules, closed...)
	}
	return append(rules, Rule{Name: "mss", SYN: true, Action: ClampMSS})
}

// unclear refuses what leaves by z but belongs into a tunnel.
func (b *builder) unclear(z Zone) []Rule {
	if !z.any() || z.absent() || z.Side == Management || z.Side == Tunnel {
		return nil
	}
	var rules []Rule
	for _, s := range b.both("inside", b.inside(z)) {
		rules = append(rules, Rule{Name: "in clear " + z.Name, Out: z.Link, Dst: s.one, DstSet: s.set, Action: Discard, Log: true})
	}
	return rules
}

// steered lets clients of services pass: the steering has decided about them.
func (*builder) steered(z Zone) []Rule {
	if !z.steered() {
		return nil
	}
	return []Rule{{Name: "steered", DNAT: true}}
}

// control looks at ICMP to the box.
func control() []Rule {
	return []Rule{{Proto: "icmp", Action: Jump, Chain: icmpChain}, {Proto: "icmpv6", Action: Jump, Chain: icmpChain}}
}

// accepts is what z may reach on the box by those of all that are for it.
func (b *builder) accepts(z Zone, all []Accept) []Rule {
	var rules []Rule
	for _, a := range all {
		if !a.from(z) {
			continue
		}
		for _, e := range b.ends(a.Name, a.From, single(a.To)) {
			e.Name, e.Proto, e.DstPorts = a.Name, a.Proto, a.Ports
			rules = append(rules, e)
		}
	}
	return rules
}

// refused is what becomes of packets of z to the box that nothing accepts.
func (b *builder) refused(z Zone, invalid string) []Rule {
	var rules []Rule
	if z.Side != WAN {
		rules = append(rules,
			Rule{State: Invalid, SYN: true, Action: Jump, Chain: invalid},
			Rule{Name: "old connections", State: Invalid, Proto: "tcp"})
	}
	rules = append(rules, Rule{State: Invalid, Action: Jump, Chain: invalid})
	for _, s := range b.both("everybody", b.everybody()) {
		rules = append(rules, Rule{Name: "broadcast " + z.Name, Dst: s.one, DstSet: s.set, Action: Discard})
	}
	return append(rules, refuse("input", z)...)
}

// managed refuses what would pass from z to the management network.
func (b *builder) managed(z Zone) []Rule {
	var rules []Rule
	for _, m := range b.Zones {
		if m.Side == Management && z.Side != Management && !m.absent() {
			rules = append(rules, each(refuse("management", z), func(r *Rule) { r.Out = m.Link })...)
		}
	}
	return rules
}

// forwards is what may pass from z to others.
func (b *builder) forwards(z Zone) []Rule {
	var rules []Rule
	for _, f := range b.forwarded[z.Name] {
		out := b.link(f.ToZone)
		if out == "" && f.ToZone != "" {
			continue
		}
		for _, e := range b.ends(f.Name, f.From, f.To) {
			e.Name, e.Out, e.DstPorts = f.Name, out, f.Ports
			for _, e.Proto = range protocols(f.Proto, e) {
				rules = append(rules, e)
			}
		}
	}
	return rules
}

// protocols are those that a permission's word names, within the family of e.
func protocols(word string, e Rule) []string {
	switch {
	case word != "icmp":
		return []string{word}
	case e.V4:
		return []string{"icmp"}
	case e.V6:
		return []string{"icmpv6"}
	}
	return []string{"icmp", "icmpv6"}
}

// link is the kernel's name of a zone's link; empty: there is no such zone,
// or its link isn't there.
func (b *builder) link(zone string) string {
	i := slices.IndexFunc(b.Zones, func(z Zone) bool { return z.Name == zone })
	if i < 0 || b.Zones[i].absent() {
		return ""
	}
	return b.Zones[i].Link
}

// from says whether a lets somebody in from z. Management reaches only what is
// allowed for it by name.
func (a Accept) from(z Zone) bool {
	return a.Zone == z.Name || a.Zone == "" && z.Side != Management
}

// refuse ends a list of permissions.
func refuse(what string, z Zone) []Rule {
	r := Rule{Name: what + " " + z.Name, Action: Discard, Log: true}
	if z.Side == WAN {
		return []Rule{r}
	}
	answered := r
	answered.Action, answered.Rate, answered.Burst = Refuse, answersRate, answersBurst
	r.Log = false // the first ones of a flood were
	return []Rule{answered, r}
}

func each(rules []Rule, edit func(*Rule)) []Rule {
	for i := range rules {
		edit(&rules[i])
	}
	return rules
}

// everybody are the destinations of broadcasts and multicasts.
func (b *builder) everybody() []netip.Prefix {
	all := prefixes("224.0.0.0/4", "255.255.255.255/32", "ff00::/8")
	for _, z := range b.Zones {
		for _, a := range z.Addresses {
			if a.Addr().Is4() && a.Bits() < 31 {
				all = append(all, whole(last(a)))
			}
		}
	}
	return all
}

// untrackedReplies keeps the replies to stateless packets out of connection
// tracking too.
func (b *builder) untrackedReplies() []Rule {
	var rules []Rule
	for _, a := range b.Accept {
		if !a.Stateless {
			continue
		}
		for _, e := range b.ends(a.Name, nil, single(a.To)) {
			e.Src, e.SrcSet, e.Dst, e.DstSet = e.Dst, e.DstSet, netip.Prefix{}, ""
			e.Proto, e.SrcPorts, e.Action = a.Proto, a.Ports, NoTrack
			rules = append(rules, e)
		}
	}
	return rules
}

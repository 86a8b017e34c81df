package firewall

import "slices"

// This file makes the chains of tunnels. Those of one tunnel hold only what is
// its own, so that a hub's table grows by a few rules with each.

// sharedChains are the names of what stands once for all tunnels.
type sharedChains struct {
	spoofed     string
	first, last string // of "from", around what a tunnel's networks are
	in          string // behind what one tunnel may reach
	managed     string // before what one tunnel may pass; empty: there is no management network
	through     string // behind it
}

// everyTunnel stands for each tunnel, by what they have in common. Limits of its
// rules count by link: no tunnel's flood hides what is refused to another.
func everyTunnel() Zone { return Zone{Name: "tunnels", Side: Tunnel} }

// share makes the chains that all tunnels jump to.
func (b *builder) share() (*sharedChains, []Chain) {
	z := everyTunnel()
	name := func(what string) string { return b.unique(what + "_tunnels") }
	c := &sharedChains{spoofed: name("spoofed"), first: name("first"), last: name("last"), in: name("in"), through: name("through")}
	invalid := name("invalid")
	anywhere := b.accept[""]
	chains := []Chain{
		{Name: c.spoofed, Rules: []Rule{{Name: "spoofed " + z.Name, Action: Discard, Log: true}}},
		{Name: invalid, Rules: []Rule{{Name: "invalid " + z.Name, Action: Discard, Log: true}}},
		{Name: c.first, Rules: slices.Concat(b.first(z, c.spoofed), b.untracked(z, anywhere), b.outer(z, anywhere))},
		{Name: c.last, Rules: b.last(c.spoofed)},
		{Name: c.in, Rules: slices.Concat(control(), b.accepts(z, anywhere), b.refused(z, invalid))},
		{Name: c.through, Rules: refuse("forward", z)},
	}
	if rules := b.managed(z); len(rules) > 0 {
		c.managed = name("managed")
		chains = append(chains, Chain{Name: c.managed, Rules: rules})
	}
	for i := range chains {
		each(chains[i].Rules, func(r *Rule) { r.PerLink = r.Log || r.Action == Refuse })
	}
	return c, chains
}

// tunnel makes the chains of z.
func (b *builder) tunnel(z Zone, c zoneChains, s sharedChains) []Chain {
	own := b.accept[z.Name]
	to := func(chain string) Rule { return Rule{Action: Jump, Chain: chain} }
	through := append(b.forwards(z), to(s.through))
	if s.managed != "" {
		through = slices.Insert(through, 0, to(s.managed))
	}
	return []Chain{
		{Name: c.from, Rules: slices.Concat([]Rule{to(s.first)}, b.untracked(z, own), b.outer(z, own), b.belongs(z, s.spoofed), []Rule{to(s.last)})},
		{Name: c.in, Rules: append(b.accepts(z, own), to(s.in))},
		{Name: c.through, Rules: through},
	}
}

// Package plan compares the network that is with the network that should be,
// and says what to change, in order. It touches nothing; drivers/rtnl does.
// Start reading at Diff.
package plan

import (
	"net/netip"
	"slices"

	"komainu/netstack/spec"
)

// Diff returns the changes from have to want, in the order in which the kernel
// takes them: links, addresses, routes, rules; then what isn't wanted any more,
// last the links. A prefix that moves is replaced and never deleted before, so
// no packet finds a gap. Where the kernel drops something on the way (routes of
// a link that goes down, the secondary addresses of a primary), later changes
// put back what is wanted. The changes may be broken off anywhere: a new Diff of
// what is then leads to want.
//
// have is what the kernel has: Routes and Rules only the caller's own, Addresses
// all, since all but link-local and loopback ones are deleted on links that are
// ours (spec.Link.Ours, or wanted and not spec.External). Links of others, and
// all upon them, stay; but wanted ports, and made links of a wanted name and
// kind, become ours. Ports that were ours are released: no master, no address,
// without our mark, up. If Links are left out on both sides, only what the other
// fields name is compared.
//
// A wanted port that have doesn't know is left out with its addresses and
// routes, as are routes over a link that is down, until they are there, and IPv6
// on a link whose MTU is below 1280 (RFC 8200 section 5), where the kernel has
// none. A link whose MTU is 0 keeps the one that it has; a bond's ports have the
// bond's.
//
// want may be what an earlier look saw, to restore it: there, links that weren't
// ours (spec.Link.Index set, Ours not) lose our mark.
func Diff(have, want spec.Network) []Change {
	p := planner{state: observed(have), have: map[string]spec.Link{}, want: map[string]spec.Link{}}
	for _, l := range have.Links {
		p.have[l.Name] = l
	}
	p.wish(want)
	p.setLinks()
	p.addAddresses(want.Addresses)
	p.replaceRoutes(want.Routes)
	p.setRules(have.Rules, want.Rules)
	p.deleteRoutes(have.Routes, want.Routes)
	p.deleteAddresses(have.Addresses, want.Addresses)
	p.addAddresses(want.Addresses)
	p.replaceRoutes(want.Routes)
	if p.deleteLinks() {
		p.addAddresses(want.Addresses)
		p.replaceRoutes(want.Routes)
	}
	p.release()
	return p.changes
}

type planner struct {
	*state
	have    map[string]spec.Link // before any change
	want    map[string]spec.Link // links that are ours to set
	order   []string             // names of want, what carries a VLAN before it
	absent  map[string]bool      // wanted links that aren't there and can't be made
	changes []Change
}

// wish takes the wanted links that concern us, and ports to be released.
func (p *planner) wish(want spec.Network) {
	named := map[string]bool{}
	p.absent = map[string]bool{}
	var names []string
	for _, l := range want.Links {
		named[l.Name] = true
		h, there := p.have[l.Name]
		foreign := l.Kind == spec.External || l.Index != 0 && !l.Ours
		stands := there && (l.Kind == h.Kind || !h.Ours || !made(h.Kind))
		if (foreign || l.Kind == spec.Port) && !stands {
			p.absent[l.Name] = true
			continue
		}
		if foreign && !h.Ours {
			continue
		}
		switch {
		case foreign:
			l.Label = ""
			if l.Kind == spec.External { // it keeps how it stands
				l = *p.links[l.Name]
				l.Label = ""
			}
		case l.Label == "":
			l.Label = l.Name
		}
		l.Bond = options(l.Bond)
		l.Ours, l.Index, l.Carrier = l.Label != "", 0, false
		p.want[l.Name] = l
		names = append(names, l.Name)
	}
	for _, n := range p.names {
		if l := *p.links[n]; p.have[n].Ours && !named[n] && !made(l.Kind) {
			l.Label, l.Master, l.Up, l.Ours = "", "", true, false
			p.want[n] = l
			names = append(names, n)
		}
	}
	done := map[string]bool{}
	var visit func(string)
	visit = func(n string) {
		l, ok := p.want[n]
		if !ok || done[n] {
			return
		}
		done[n] = true
		if l.Kind == spec.VLAN {
			visit(l.Parent)
			if p.absent[l.Parent] {
				p.absent[n] = true
				delete(p.want, n)
				return
			}
		}
		p.order = append(p.order, n)
	}
	for _, n := range names {
		visit(n)
	}
}

func made(k spec.Kind) bool {
	switch k {
	case spec.Bond, spec.VLAN, spec.Bridge, spec.Dummy, spec.VRF, spec.XFRM:
		return true
	}
	return false
}

// ours says whether addresses of a link that nobody wants are deleted.
func (p *planner) ours(link string) bool {
	w, ok := p.want[link]
	return p.have[link].Ours || ok && w.Label != ""
}

func (p *planner) addAddresses(want []spec.Address) {
	for _, a := range want {
		if p.has(a) || p.absent[a.Link] || !p.carries(a.Link, a.Prefix) {
			continue
		}
		if a.Prefix.Addr().Is6() {
			// IPv6 has an address once per link, whatever its length.
			i := slices.IndexFunc(p.addrs[a.Link], func(b spec.Address) bool { return b.Prefix.Addr() == a.Prefix.Addr() })
			if i >= 0 && !p.ours(a.Link) {
				continue
			} else if i >= 0 {
				old := p.addrs[a.Link][i]
				p.changes = append(p.changes, Change{Kind: DeleteAddress, Address: old})
				p.unaddress(old)
			}
		}
		a.Tentative, a.Duplicate = false, false
		p.changes = append(p.changes, Change{Kind: AddAddress, Address: a})
		p.address(a)
	}
}

// deleteAddresses goes backwards: the first IPv4 address of a subnet would take
// the later ones along, or not, as the kernel is set.
func (p *planner) deleteAddresses(have, want []spec.Address) {
	type id struct {
		link   string
		prefix netip.Prefix
	}
	wanted := map[id]bool{}
	for _, a := range want {
		wanted[id{a.Link, a.Prefix}] = true
	}
	for _, a := range slices.Backward(have) {
		ip := a.Prefix.Addr()
		kernels := ip.Is6() && ip.IsLinkLocalUnicast() || ip.IsLoopback()
		if wanted[id{a.Link, a.Prefix}] || kernels || !p.ours(a.Link) || !p.has(a) || p.unwanted(a.Link) {
			continue // the last: it goes with its link
		}
		p.changes = append(p.changes, Change{Kind: DeleteAddress, Address: a})
		p.unaddress(a)
	}
}

// possible says whether the kernel takes a route over a link.
func (p *planner) possible(r spec.Route) bool {
	l := p.links[r.Link]
	return !p.absent[r.Link] && (l == nil || l.Up) && p.carries(r.Link, r.To)
}

// carries says whether a link speaks the family of a prefix.
func (p *planner) carries(link string, prefix netip.Prefix) bool {
	l := p.links[link]
	return l == nil || prefix.Addr().Is4() || !narrow(l.MTU)
}

func (p *planner) replaceRoutes(want []spec.Route) {
	done := map[routeKey]bool{}
	for _, r := range want {
		q := plain(r)
		if done[key(q)] || !p.possible(r) {
			continue
		}
		done[key(q)] = true
		if slices.ContainsFunc(p.routes[key(q)], func(o spec.Route) bool { return plain(o) == q }) {
			continue
		}
		r.To = q.To
		p.changes = append(p.changes, Change{Kind: ReplaceRoute, Route: r})
		p.route(r)
	}
}

func (p *planner) deleteRoutes(have, want []spec.Route) {
	wanted := map[routeKey]spec.Route{}
	for _, r := range want {
		q := plain(r)
		if _, twice := wanted[key(q)]; !twice && p.possible(r) {
			wanted[key(q)] = q
		}
	}
	for _, r := range have {
		q := plain(r)
		same := func(o spec.Route) bool { return o.Via == r.Via && o.Link == r.Link }
		i := slices.IndexFunc(p.routes[key(q)], same)
		if w, ok := wanted[key(q)]; i < 0 || ok && same(w) {
			continue
		}
		p.changes = append(p.changes, Change{Kind: DeleteRoute, Route: r})
		p.routes[key(q)] = slices.Delete(slices.Clone(p.routes[key(q)]), i, i+1)
	}
}

func (p *planner) setRules(have, want []spec.Rule) {
	there, wanted := map[spec.Rule]bool{}, map[spec.Rule]bool{}
	for _, r := range have {
		there[r] = true
	}
	for _, r := range want {
		r.From, r.Mark = r.From.Masked(), r.Mark&r.Mask
		wanted[r] = true
		if !there[r] {
			there[r] = true
			p.changes = append(p.changes, Change{Kind: AddRule, Rule: r})
		}
	}
	for _, r := range have {
		if !wanted[r] {
			p.changes = append(p.changes, Change{Kind: DeleteRule, Rule: r})
		}
	}
}

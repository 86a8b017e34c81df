package shell

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"komainu/appliance/agent"
	"komainu/drivers/announce"
	"komainu/drivers/clock"
	"komainu/drivers/nft"
	"komainu/drivers/rtnl"
	"komainu/netstack/firewall"
	"komainu/netstack/plan"
	"komainu/netstack/spec"
)

// grounding makes the kernel's links, addresses, routes and firewall so as the
// agent says. The configuration, the agent's routes to peers and its stable
// addresses are three requests into one wanted state.
type grounding struct {
	places
	rt     *rtnl.Conn
	filter *nft.Filter // nil: an ordinary server, whose firewall is its own

	changing  sync.Mutex // held over a change; it guards the rest
	ground    agent.Ground
	guarded   *firewall.Policy    // the filter's; nil: not known
	routes    []spec.Route        // to peers
	routed    bool                // routes are known
	addresses []spec.Address      // stable
	addressed bool                // addresses are known
	contested map[netip.Addr]bool // in use, and somebody else was heard to have them
	asking    *asking             // tells of those
}

// verifyRounds is how often what is left after a change is tried again: the
// kernel drops some things by itself when others change.
const verifyRounds = 3

// set carries out one SetNetwork.
func (g *grounding) set(ctx context.Context, w agent.SetNetwork) agent.Done {
	g.changing.Lock()
	defer g.changing.Unlock()
	applied, err := g.bring(ctx, w.Ground, w.Whole)
	var taken *conflictError
	switch {
	case errors.As(err, &taken):
		return agent.Done{Outcome: agent.Failed, Code: "address-conflict", Args: []string{taken.Address, taken.Holder}}
	case err == nil || !w.Whole:
		g.ground = w.Ground
	}
	d := result(ctx, err, "network-refused")
	d.Value = applied
	return d
}

// conflictError says that a new address is somebody else's.
type conflictError struct{ agent.Conflict }

func (e *conflictError) Error() string { return e.Address + " is in use by " + e.Holder }

// bring makes the kernel so. whole: all of it, or as it was.
func (g *grounding) bring(ctx context.Context, ground agent.Ground, whole bool) (agent.Applied, error) {
	var applied agent.Applied
	var duplicates []agent.Conflict
	if err := g.look(); err != nil {
		return applied, err
	}
	have, err := g.rt.Observe()
	if err != nil {
		return applied, err
	}
	want, missing := g.wanted(ground, have)
	for _, m := range missing {
		applied.Missing = append(applied.Missing, m.Place)
	}
	for _, a := range have.Addresses { // IPv6, as the kernel found out by itself
		if a.Duplicate {
			duplicates = append(duplicates, agent.Conflict{Address: a.Prefix.Addr().String()})
		}
	}
	for _, l := range want.Links {
		found := slices.ContainsFunc(have.Links, func(h spec.Link) bool { return h.Name == l.Name })
		if (l.Kind == spec.Port || l.Kind == spec.External) && !found {
			applied.Missing = append(applied.Missing, l.Name)
		}
	}
	if err := g.guard(ground.Firewall, &applied); err != nil {
		return applied, err
	}
	if applied.Conflicts, err = g.carryOut(ctx, have, &want, whole, &applied); err == nil {
		if len(applied.Changes) > 0 {
			err = g.verify(want, &applied)
		}
		g.asking.own(clock.Now(), slices.DeleteFunc(slices.Clone(want.Addresses), func(a spec.Address) bool {
			return slices.ContainsFunc(g.addresses, func(s spec.Address) bool { return s.Prefix == a.Prefix })
		}))
	}
	applied.Conflicts = append(applied.Conflicts, duplicates...)
	if err != nil && whole {
		err = errors.Join(err, g.restore(have))
	}
	return applied, err
}

// wanted is all that the kernel should have. What the agent hasn't asked for yet
// since its start may be there from before, and stays.
func (g *grounding) wanted(ground agent.Ground, have spec.Network) (spec.Network, []plan.Missing) {
	want := ground.Network
	want.Routes = slices.Concat(want.Routes, g.routes)
	want.Addresses = slices.Concat(want.Addresses, g.addresses)
	want, missing := plan.Resolve(want, g.port)
	if !g.routed {
		for _, r := range have.Routes {
			if !slices.ContainsFunc(want.Routes, func(w spec.Route) bool { return w.To == r.To && w.Table == r.Table && w.Metric == r.Metric }) {
				want.Routes = append(want.Routes, r)
			}
		}
	}
	if !g.addressed {
		for _, a := range have.Addresses {
			if !slices.ContainsFunc(want.Addresses, a.Is) {
				want.Addresses = append(want.Addresses, a)
			}
		}
	}
	return want, missing
}

// carryOut makes the changes. New IPv4 addresses are asked for on their links
// first (RFC 5227); what somebody else has is left out of want, or fails the
// whole.
func (g *grounding) carryOut(ctx context.Context, have spec.Network, want *spec.Network, whole bool, applied *agent.Applied) ([]agent.Conflict, error) {
	changes := plan.Diff(have, *want)
	first := slices.IndexFunc(changes, func(c plan.Change) bool { return c.Kind == plan.AddAddress })
	if first < 0 {
		first = len(changes)
	}
	if err := g.apply(changes[:first], whole, applied); err != nil {
		return nil, err
	}
	taken, err := g.inUse(ctx, changes[first:], have, *want)
	if err != nil {
		return nil, err
	}
	var conflicts []agent.Conflict
	for _, t := range taken {
		if whole && !t.used {
			return nil, &conflictError{t.Conflict}
		}
		conflicts = append(conflicts, t.Conflict)
		want.Addresses = slices.DeleteFunc(want.Addresses, t.address.Is)
		want.Routes = slices.DeleteFunc(want.Routes, func(r spec.Route) bool { return r.Source == t.address.Prefix.Addr() })
	}
	if len(taken) > 0 { // routes may have hung on them
		if have, err = g.rt.Observe(); err != nil {
			return conflicts, err
		}
		changes, first = plan.Diff(have, *want), 0
	}
	if err := g.apply(changes[first:], whole, applied); err != nil {
		return conflicts, err
	}
	var all []spec.Address
	for _, c := range changes {
		if c.Kind == plan.AddAddress {
			all = append(all, c.Address)
		}
	}
	return conflicts, announceAll(all)
}

// apply makes changes; unless whole it goes on behind one that fails.
func (g *grounding) apply(changes []plan.Change, whole bool, applied *agent.Applied) error {
	for _, c := range changes {
		applied.Changes = append(applied.Changes, c.String())
	}
	err := g.rt.Apply(changes)
	if err == nil || whole {
		return err
	}
	var errs []error
	for _, c := range changes {
		errs = append(errs, g.rt.Apply([]plan.Change{c}))
	}
	return errors.Join(errs...)
}

// taken is an address that cannot be used.
type taken struct {
	agent.Conflict
	address spec.Address
	used    bool // it was: nobody could be asked before
}

// inUse asks for the new IPv4 addresses among changes, and for contested ones,
// all links at once. What the link has already, with another prefix, and what
// another port of this box answers, is no conflict; who only asks for an address
// that is in use doesn't get it. A stable address is kept whoever has it, too:
// without it nobody would be served.
func (g *grounding) inUse(ctx context.Context, changes []plan.Change, have, want spec.Network) ([]taken, error) {
	byLink := map[string][]taken{}
	for _, u := range have.Addresses {
		if g.contested[u.Prefix.Addr()] && slices.ContainsFunc(want.Addresses, u.Is) {
			byLink[u.Link] = append(byLink[u.Link], taken{address: u, used: true})
		}
	}
	g.contested = map[netip.Addr]bool{}
	for _, c := range changes {
		if c.Kind != plan.AddAddress {
			continue
		}
		if a := c.Address.Prefix.Addr(); a.Is4() && !slices.ContainsFunc(have.Addresses, func(h spec.Address) bool {
			return h.Link == c.Address.Link && h.Prefix.Addr() == a
		}) {
			byLink[c.Address.Link] = append(byLink[c.Address.Link], taken{address: c.Address})
		}
	}
	if len(byLink) == 0 {
		return nil, nil
	}
	ours, err := hardware()
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var all []taken
	var errs []error
	var links sync.WaitGroup
	for link, asked := range byLink {
		links.Go(func() {
			var addrs []netip.Addr
			for _, x := range asked {
				addrs = append(addrs, x.address.Prefix.Addr())
			}
			conflicts, err := announce.Probe(ctx, link, addrs)
			mu.Lock()
			defer mu.Unlock()
			if err != nil && !errors.Is(err, announce.ErrNoCarrier) {
				errs = append(errs, err)
			}
			for _, x := range asked {
				if i := slices.IndexFunc(conflicts, func(c announce.Conflict) bool {
					return c.Addr == x.address.Prefix.Addr() && !ours[c.MAC.String()] && (!c.Probed || !x.used)
				}); i >= 0 {
					x.Conflict = agent.Conflict{Address: conflicts[i].Addr.String(), Holder: conflicts[i].MAC.String()}
					all = append(all, x)
				}
			}
		})
	}
	links.Wait()
	slices.SortFunc(all, func(a, b taken) int { return a.address.Prefix.Addr().Compare(b.address.Prefix.Addr()) })
	return all, errors.Join(errs...)
}

// hardware are the MAC addresses of this box.
func hardware() (map[string]bool, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	ours := map[string]bool{}
	for _, l := range links {
		ours[l.HardwareAddr.String()] = true
	}
	return ours, nil
}

// announceAll tells the neighbours where addresses are.
func announceAll(all []spec.Address) error {
	byLink := map[string][]netip.Addr{}
	for _, a := range all {
		byLink[a.Link] = append(byLink[a.Link], a.Prefix.Addr())
	}
	return announce.Announce(byLink)
}

// verify reads the kernel back and makes up for what it dropped by itself.
func (g *grounding) verify(want spec.Network, applied *agent.Applied) error {
	for range verifyRounds {
		have, err := g.rt.Observe()
		if err != nil {
			return err
		}
		left := plan.Diff(have, want)
		if len(left) == 0 {
			return nil
		}
		for _, c := range left {
			applied.Changes = append(applied.Changes, c.String())
		}
		if err := g.rt.Apply(left); err != nil {
			return err
		}
	}
	return fmt.Errorf("the kernel still differs after %d rounds", verifyRounds)
}

// restore puts back what the kernel had, after a failure. Where nothing was set
// before, the new firewall stays: none at all would be worse.
func (g *grounding) restore(was spec.Network) error {
	var errs []error
	if len(g.ground.Firewall.Zones) > 0 {
		errs = append(errs, g.guard(g.ground.Firewall, &agent.Applied{}))
	}
	now, err := g.rt.Observe()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, c := range plan.Diff(now, was) {
		errs = append(errs, g.rt.Apply([]plan.Change{c}))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("put back what was: %w", err)
	}
	return nil
}

// places are where the ports are: "pci:0000:02:00.0" → the kernel's name.
type places struct {
	mu    sync.Mutex
	names map[string]string
}

// look finds the ports.
func (p *places) look() error {
	names, err := rtnl.Ports()
	if err == nil {
		p.mu.Lock()
		p.names = names
		p.mu.Unlock()
	}
	return err
}

func (p *places) port(place string) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, ok := p.names[place]
	return n, ok
}

// link is the kernel's name of a link of the configuration.
func (p *places) link(name string) string {
	if n, ok := p.port(name); ok {
		return n
	}
	return name
}

// configured are the names that the configuration may have for a link.
func (p *places) configured(link string) []string {
	all := []string{link}
	p.mu.Lock()
	defer p.mu.Unlock()
	for place, n := range p.names {
		if n == link {
			all = append(all, place)
		}
	}
	return all
}

// setRoutes makes the routes to peers so, moving a prefix in one message.
func (g *grounding) setRoutes(want []spec.Route) error {
	g.changing.Lock()
	defer g.changing.Unlock()
	g.routes, g.routed = want, true
	have, err := g.rt.Observe()
	if err != nil {
		return err
	}
	only := func(routes []spec.Route) (n spec.Network) {
		for _, r := range routes {
			r.Link = g.link(r.Link)
			n.Routes = append(n.Routes, r)
		}
		return n
	}
	base := only(g.ground.Network.Routes).Routes
	have.Routes = slices.DeleteFunc(have.Routes, func(r spec.Route) bool { return slices.Contains(base, r) })
	// One by one where some can't be: the kernel refuses a route whose IPv6 source
	// is still in duplicate detection, for a second or two.
	return g.apply(plan.Diff(spec.Network{Routes: have.Routes}, only(want)), false, &agent.Applied{})
}

// setAddresses adds the stable addresses that are missing and tells the
// neighbours about all of them. What is left of others goes with the next look.
func (g *grounding) setAddresses(want []spec.Address) error {
	g.changing.Lock()
	defer g.changing.Unlock()
	g.addresses, g.addressed = want, true
	have, err := g.rt.Observe()
	if err != nil {
		return err
	}
	var add []plan.Change
	var all []spec.Address
	for _, a := range want {
		a.Link = g.link(a.Link)
		all = append(all, a)
		if !slices.ContainsFunc(have.Addresses, a.Is) {
			add = append(add, plan.Change{Kind: plan.AddAddress, Address: a})
		}
	}
	if err := g.rt.Apply(add); err != nil {
		return err
	}
	return announceAll(all)
}

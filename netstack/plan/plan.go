// Package plan compares the network that is with the network that should be,
// and says what to change, in order. It touches nothing; drivers/rtnl does.
package plan

import (
	"fmt"
	"slices"

	"komainu/netstack/spec"
)

// Net is addresses and routes: what a box has, or should have. Each prefix has
// one route.
type Net struct {
	Addresses []spec.Address
	Routes    []spec.Route
}

// Kind says what a change does.
type Kind uint8

// The kinds, in the order in which a plan holds them.
const (
	AddAddress Kind = iota
	ReplaceRoute
	DeleteRoute
	DeleteAddress
)

// Change is one step. Address or Route is meant, by Kind.
type Change struct {
	Kind    Kind
	Address spec.Address
	Route   spec.Route
}

func (c Change) String() string {
	r := c.Route
	switch c.Kind {
	case AddAddress:
		return fmt.Sprintf("add address %s on %s", c.Address.Prefix, c.Address.Link)
	case DeleteAddress:
		return fmt.Sprintf("delete address %s on %s", c.Address.Prefix, c.Address.Link)
	case ReplaceRoute:
		return "replace route " + routeText(r)
	default:
		return "delete route " + routeText(r)
	}
}

func routeText(r spec.Route) string {
	s := r.To.String()
	if r.Via.IsValid() {
		s += " via " + r.Via.String()
	}
	s += " on " + r.Link
	if r.Source.IsValid() {
		s += " from " + r.Source.String()
	}
	return s
}

// Diff returns the changes from have to want. Addresses come first, since
// routes name them as sources, and go last. A prefix that moves is replaced and
// never deleted before, so no packet finds a gap; what is left of the old route
// is deleted after it (IPv6 keeps both where one has a gateway and the other
// none).
//
// have.Addresses may hold other people's: only those in ours, the addresses
// that the caller ever manages, are deleted. have.Routes are the caller's own.
func Diff(have, want Net, ours []spec.Address) []Change {
	var changes []Change
	for _, a := range want.Addresses {
		if !slices.Contains(have.Addresses, a) {
			changes = append(changes, Change{Kind: AddAddress, Address: a})
		}
	}
	for _, r := range want.Routes {
		if !slices.Contains(have.Routes, r) {
			changes = append(changes, Change{Kind: ReplaceRoute, Route: r})
		}
	}
	for _, r := range have.Routes {
		i := slices.IndexFunc(want.Routes, func(w spec.Route) bool { return w.To == r.To })
		// Link and next hop are what the kernel tells routes apart by.
		if i < 0 || want.Routes[i].Via != r.Via || want.Routes[i].Link != r.Link {
			changes = append(changes, Change{Kind: DeleteRoute, Route: r})
		}
	}
	for _, a := range have.Addresses {
		if slices.Contains(ours, a) && !slices.Contains(want.Addresses, a) {
			changes = append(changes, Change{Kind: DeleteAddress, Address: a})
		}
	}
	return changes
}

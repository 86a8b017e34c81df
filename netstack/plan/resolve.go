package plan

import (
	"net/netip"
	"slices"
	"strings"

	"komainu/netstack/spec"
)

// Missing is a port that the configuration names and the box doesn't have.
type Missing struct {
	Place string // "pci:0000:02:00.0"
	Label string // spec.Link.Label of the port
}

// Resolve puts the kernel's names where want names ports by place. ports gives
// the name of the port at a place; ok is false if there is none.
//
// What stands on a missing port (VLANs, addresses, routes) is left out, a bond
// or bridge that has lost it stays, rules stay. A route over another link whose
// preferred source was an address that is left out stays without it, since the
// kernel refuses a source that isn't there. want isn't changed.
func Resolve(want spec.Network, ports func(place string) (name string, ok bool)) (spec.Network, []Missing) {
	r := resolver{ports: ports, names: map[string]string{}, gone: map[string]bool{}}
	out := spec.Network{Rules: slices.Clone(want.Rules)}
	var missing []Missing
	for _, l := range want.Links {
		if r.name(l.Name) == "" && !slices.ContainsFunc(missing, func(m Missing) bool { return m.Place == l.Name }) {
			missing = append(missing, Missing{Place: l.Name, Label: l.Label})
		}
	}
	// A VLAN may stand before its parent in the list, and on another VLAN.
	for again := true; again; {
		again = false
		for _, l := range want.Links {
			if l.Parent != "" && r.name(l.Parent) == "" && !r.gone[l.Name] {
				r.gone[l.Name], again = true, true
			}
		}
	}
	for _, l := range want.Links {
		if l.Name, l.Parent = r.name(l.Name), r.name(l.Parent); l.Name == "" {
			continue
		}
		l.Master, l.Bond.Primary = r.name(l.Master), r.name(l.Bond.Primary)
		l.Bond.Targets = slices.Clone(l.Bond.Targets)
		out.Links = append(out.Links, l)
	}
	stay, left := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, a := range want.Addresses {
		if a.Link = r.name(a.Link); a.Link == "" {
			left[a.Prefix.Addr()] = true
			continue
		}
		stay[a.Prefix.Addr()] = true
		out.Addresses = append(out.Addresses, a)
	}
	for _, t := range want.Routes {
		if t.Link = r.name(t.Link); t.Link == "" {
			continue
		}
		if left[t.Source] && !stay[t.Source] {
			t.Source = netip.Addr{}
		}
		out.Routes = append(out.Routes, t)
	}
	return out, missing
}

type resolver struct {
	ports func(string) (string, bool)
	names map[string]string // by place; empty: missing
	gone  map[string]bool   // links on missing ports
}

// name is the kernel's name of a link; empty if it can't be there.
func (r *resolver) name(s string) string {
	if r.gone[s] {
		return ""
	}
	if !strings.HasPrefix(s, "pci:") {
		return s
	}
	name, asked := r.names[s]
	if !asked {
		if n, ok := r.ports(s); ok {
			name = n
		}
		r.names[s] = name
	}
	return name
}

package plan_test

import (
	"net/netip"
	"strings"
	"testing"

	"komainu/netstack/plan"
	"komainu/netstack/spec"
)

func address(link, prefix string) spec.Address {
	return spec.Address{Link: link, Prefix: netip.MustParsePrefix(prefix)}
}

func route(to, via, link, source string) spec.Route {
	r := spec.Route{To: netip.MustParsePrefix(to), Link: link}
	if via != "" {
		r.Via = netip.MustParseAddr(via)
	}
	if source != "" {
		r.Source = netip.MustParseAddr(source)
	}
	return r
}

func TestDiff(t *testing.T) {
	stable := address("lan", "192.0.2.100/32")
	foreign := address("lan", "192.0.2.1/24")
	ours := []spec.Link{{Name: "lan", Kind: spec.Port, Label: "lan", Ours: true, Up: true}}
	port := []spec.Link{{Name: "lan", Kind: spec.Port, Label: "lan", Up: true}}
	main := route("10.1.0.0/16", "10.20.7.1", "main", "192.0.2.1")
	alt := route("10.1.0.0/16", "10.30.7.1", "alt", "192.0.2.1")
	for _, c := range []struct {
		name       string
		have, want spec.Network
		text       string
	}{
		{name: "nothing to do", have: spec.Network{Links: ours, Addresses: []spec.Address{stable}, Routes: []spec.Route{main}},
			want: spec.Network{Links: port, Addresses: []spec.Address{stable}, Routes: []spec.Route{main}}},
		{name: "from nothing", have: spec.Network{Addresses: []spec.Address{foreign}}, want: spec.Network{Addresses: []spec.Address{stable}, Routes: []spec.Route{main}},
			text: "add address 192.0.2.100/32 on lan\nreplace route 10.1.0.0/16 via 10.20.7.1 on main from 192.0.2.1"},
		{name: "a prefix moves", have: spec.Network{Routes: []spec.Route{main}}, want: spec.Network{Routes: []spec.Route{alt}},
			text: "replace route 10.1.0.0/16 via 10.30.7.1 on alt from 192.0.2.1"},
		{name: "another source only", have: spec.Network{Routes: []spec.Route{main}}, want: spec.Network{Routes: []spec.Route{route("10.1.0.0/16", "10.20.7.1", "main", "")}},
			text: "replace route 10.1.0.0/16 via 10.20.7.1 on main"},
		{name: "to nothing", have: spec.Network{Links: ours, Addresses: []spec.Address{stable}, Routes: []spec.Route{main}},
			text: "delete route 10.1.0.0/16 via 10.20.7.1 on main from 192.0.2.1\ndelete address 192.0.2.100/32 on lan\nset link lan: no label (was lan)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var lines []string
			for _, ch := range plan.Diff(c.have, c.want) {
				lines = append(lines, ch.String())
			}
			if got := strings.Join(lines, "\n"); got != c.text {
				t.Errorf("plan:\n%s\nwant:\n%s", got, c.text)
			}
		})
	}
}

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
	main := route("10.1.0.0/16", "10.20.7.1", "main", "192.0.2.1")
	alt := route("10.1.0.0/16", "10.30.7.1", "alt", "192.0.2.1")
	for _, c := range []struct {
		name       string
		have, want plan.Net
		ours       []spec.Address
		text       string
	}{
		{name: "nothing to do", have: plan.Net{[]spec.Address{foreign, stable}, []spec.Route{main}},
			want: plan.Net{[]spec.Address{stable}, []spec.Route{main}}, ours: []spec.Address{stable}},
		{name: "from nothing", have: plan.Net{Addresses: []spec.Address{foreign}}, want: plan.Net{[]spec.Address{stable}, []spec.Route{main}},
			text: "add address 192.0.2.100/32 on lan\nreplace route 10.1.0.0/16 via 10.20.7.1 on main from 192.0.2.1"},
		{name: "a prefix moves", have: plan.Net{Routes: []spec.Route{main}}, want: plan.Net{Routes: []spec.Route{alt}},
			text: "replace route 10.1.0.0/16 via 10.30.7.1 on alt from 192.0.2.1\ndelete route 10.1.0.0/16 via 10.20.7.1 on main from 192.0.2.1"},
		{name: "another source only", have: plan.Net{Routes: []spec.Route{main}}, want: plan.Net{Routes: []spec.Route{route("10.1.0.0/16", "10.20.7.1", "main", "")}},
			text: "replace route 10.1.0.0/16 via 10.20.7.1 on main"},
		{name: "to nothing", have: plan.Net{[]spec.Address{foreign, stable}, []spec.Route{main}}, ours: []spec.Address{stable},
			text: "delete route 10.1.0.0/16 via 10.20.7.1 on main from 192.0.2.1\ndelete address 192.0.2.100/32 on lan"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var lines []string
			for _, ch := range plan.Diff(c.have, c.want, c.ours) {
				lines = append(lines, ch.String())
			}
			if got := strings.Join(lines, "\n"); got != c.text {
				t.Errorf("plan:\n%s\nwant:\n%s", got, c.text)
			}
		})
	}
}

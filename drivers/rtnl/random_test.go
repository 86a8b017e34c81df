package rtnl_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"komainu/netstack/plan"
	"komainu/netstack/spec"
)

// anyNetwork is a small network that makes sense.
func anyNetwork(r *rand.Rand) spec.Network {
	var n spec.Network
	yes := func() bool { return r.IntN(2) == 0 }
	var carriers []string // links that may have addresses
	free := []string{"p0", "p1", "p2", "p3"}
	take := func(master string, count int) {
		for range min(count, len(free)) {
			n.Links = append(n.Links, spec.Link{Name: free[0], Kind: spec.Port, Label: free[0], Up: true, Master: master})
			free = free[1:]
		}
	}
	r.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	if yes() {
		o := activeBackup
		if yes() {
			o = lacp
			o.Fast = yes()
		} else if yes() {
			o.Primary = free[0]
		}
		n.Links = append(n.Links, spec.Link{Name: "bond0", Kind: spec.Bond, Label: "bond0", Up: true, Bond: o, MTU: 1400 + 50*r.IntN(3)})
		take("bond0", 1+r.IntN(2))
		carriers = append(carriers, "bond0")
	}
	if yes() {
		n.Links = append(n.Links, spec.Link{Name: "br0", Kind: spec.Bridge, Label: "br0", Up: true, STP: yes()})
		take("br0", 1)
		carriers = append(carriers, "br0")
	}
	if yes() {
		n.Links = append(n.Links, spec.Link{Name: "mgmt", Kind: spec.VRF, Label: "mgmt", Up: true, Table: 1100 + uint32(r.IntN(2))})
		take("mgmt", 1)
	}
	if yes() {
		n.Links = append(n.Links, spec.Link{Name: "stable", Kind: spec.Dummy, Label: "stable", Up: true})
		carriers = append(carriers, "stable")
	}
	if len(free) > 0 && yes() {
		carriers = append(carriers, free[0])
		take("", 1)
	}
	for i, id := range r.Perm(3)[:r.IntN(3)] {
		name := fmt.Sprintf("vpn-%d", i)
		n.Links = append(n.Links, spec.Link{Name: name, Kind: spec.XFRM, Label: name, Up: true, IfID: 7 + uint32(id), MTU: 1280 + 20*r.IntN(4)})
		n.Addresses = append(n.Addresses, on(name, fmt.Sprintf("10.255.%d.1/30", i)), on(name, fmt.Sprintf("fd00:255:%d::1/126", i)))
		mark := uint32(i+1) << 16
		for _, to := range []string{fmt.Sprintf("10.20%d.0.0/16", i), fmt.Sprintf("fd02:%d::/32", i)} {
			to := netip.MustParsePrefix(to)
			n.Routes = append(n.Routes, spec.Route{To: to, Link: name, MTU: 1280 * r.IntN(2)}, spec.Route{To: to, Link: name, Table: 1900 + uint32(i)})
			all := netip.PrefixFrom(to.Addr(), 0).Masked()
			n.Rules = append(n.Rules, spec.Rule{Priority: 1010 + uint32(i), From: all, Mark: mark, Mask: 0xff0000, Table: 1900 + uint32(i)})
		}
		n.Routes[len(n.Routes)-4].Source = n.Addresses[len(n.Addresses)-2].Prefix.Addr()
	}
	for i, parent := range carriers {
		if parent != "stable" && yes() {
			name := fmt.Sprintf("v%d", i)
			n.Links = append(n.Links, spec.Link{Name: name, Kind: spec.VLAN, Label: name, Up: true, Parent: parent, VLAN: uint16(100 + r.IntN(3))})
			carriers = append(carriers, name)
		}
	}
	for i, l := range carriers {
		four, six := on(l, fmt.Sprintf("10.0.%d.%d/24", i, 1+r.IntN(3))), on(l, fmt.Sprintf("fd00:%d::%d/64", i, 1+r.IntN(3)))
		n.Addresses = append(n.Addresses, four, six)
		if yes() {
			n.Addresses = append(n.Addresses, on(l, fmt.Sprintf("10.0.%d.%d/24", i, 5+r.IntN(3))))
		}
		table, metric := uint32(0), uint32(r.IntN(2)*(20+i))
		if yes() {
			table = 1000 + uint32(i)
			n.Rules = append(n.Rules, spec.Rule{Priority: 1000 + uint32(i), From: four.Prefix.Masked(), Table: table})
		}
		to := func(s string) netip.Prefix { return netip.MustParsePrefix(fmt.Sprintf(s, i)) }
		via := netip.MustParseAddr(fmt.Sprintf("10.0.%d.254", i))
		n.Routes = append(n.Routes,
			spec.Route{To: to("10.1%d.0.0/16"), Via: via, Link: l, Table: table, Metric: metric},
			spec.Route{To: to("fd01:%d::/32"), Via: netip.MustParseAddr(fmt.Sprintf("fd00:%d::ffff", i)), Link: l, Table: table, Metric: metric},
		)
		if yes() {
			n.Routes[len(n.Routes)-2].Source = four.Prefix.Addr()
		}
	}
	return n
}

// From any network to any other, in one go as a rule, and also when the plan is
// broken off anywhere.
func TestHostAnyNetworkToAnyOther(t *testing.T) {
	p := newPair(t)
	p.makes(spec.Bond, spec.VLAN, spec.VRF, spec.Dummy, spec.Bridge, spec.XFRM)
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 0))
		want := anyNetwork(r)
		have := p.observe()
		changes := plan.Diff(have, want)
		if seed%2 == 1 && len(changes) > 0 {
			changes = changes[:r.IntN(len(changes))]
		}
		if err := p.try(changes...); err != nil {
			t.Fatalf("seed %d: %v\nhave %+v\nwant %+v", seed, err, have, want)
		}
		if seed%2 == 1 {
			if err := p.try(plan.Diff(p.observe(), want)...); err != nil {
				t.Fatalf("seed %d, after a break: %v", seed, err)
			}
		}
		if left := plan.Diff(p.observe(), want); len(left) != 0 {
			t.Fatalf("seed %d: left to do: %v", seed, left)
		}
	}
	p.converge(spec.Network{})
}

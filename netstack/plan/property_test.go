package plan_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"komainu/netstack/plan"
	"komainu/netstack/plan/plantest"
	"komainu/netstack/spec"
)

// hardware is the box before us, with a port and a link of somebody else.
func hardware() spec.Network {
	var n spec.Network
	for i := range 4 {
		n.Links = append(n.Links, spec.Link{Name: fmt.Sprintf("eth%d", i), Kind: spec.Port, MTU: 1500, Up: i%2 == 0})
	}
	n.Links = append(n.Links,
		spec.Link{Name: "veth9", Kind: spec.Port, MTU: 1400, Up: true, Master: "lab"},
		spec.Link{Name: "lab", Kind: spec.Bridge, MTU: 1400, Up: true},
		spec.Link{Name: "lab.7", Kind: spec.VLAN, Parent: "lab", VLAN: 7, MTU: 1400, Up: true})
	n.Addresses = []spec.Address{address("lab", "203.0.113.9/24"), address("lab.7", "2001:db8:99::9/64"),
		address("eth0", "192.168.1.7/24"), address("eth0", "fe80::1/64"), address("eth2", "2001:db8:77::7/64")}
	return n
}

type maker struct {
	*rand.Rand
	n spec.Network
}

func (m *maker) one(of ...string) string { return of[m.IntN(len(of))] }

// wanted makes up a configuration that config would let pass.
func wanted(r *rand.Rand) spec.Network {
	m := &maker{Rand: r}
	bonds := map[string]bool{"bond0": r.IntN(3) > 0, "bond1": r.IntN(3) == 0}
	bridge, vrf := r.IntN(2) == 0, r.IntN(2) == 0
	members, bare := map[string][]string{}, []string{}
	for i := range 4 {
		l := spec.Link{Name: fmt.Sprintf("eth%d", i), Kind: spec.Port, Label: "port" + fmt.Sprint(i), Up: true, MTU: []int{1500, 9000}[r.IntN(2)]}
		switch to := m.one("", "plain", "bond0", "bond0", "bond1", "br0", "mgmt"); {
		case to == "":
			continue
		case bonds[to]:
			l.Master, l.MTU = to, 0
			members[to] = append(members[to], l.Name)
		case to == "br0" && bridge || to == "mgmt" && vrf:
			l.Master = to
			bare = append(bare, l.Name)
		default:
			l.Up = r.IntN(8) > 0
			bare = append(bare, l.Name)
		}
		m.n.Links = append(m.n.Links, l)
	}
	for _, name := range []string{"bond0", "bond1"} {
		if !bonds[name] {
			continue
		}
		l := spec.Link{Name: name, Kind: spec.Bond, Label: name, Up: true, MTU: []int{1500, 9000}[r.IntN(2)]}
		l.Bond = spec.BondOptions{Mode: spec.LACP, MIIMon: 20 * (1 + r.IntN(2)), Fast: r.IntN(2) == 0, MinLinks: r.IntN(2)}
		if r.IntN(2) == 0 {
			l.Bond = spec.BondOptions{Mode: spec.ActiveBackup, MIIMon: 20}
			if r.IntN(2) == 0 {
				l.Bond.MIIMon, l.Bond.ARPMon, l.Bond.Targets = 0, 50, []netip.Addr{netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("10.0.0.8")}
			}
			if len(members[name]) > 0 {
				l.Bond.Primary = m.one(append(members[name], "")...)
			}
		}
		bare = append(bare, name)
		m.n.Links = append(m.n.Links, l)
	}
	if bridge {
		m.n.Links = append(m.n.Links, spec.Link{Name: "br0", Kind: spec.Bridge, Label: "br0", MTU: 1500, STP: r.IntN(2) == 0, Up: true})
		bare = append(bare, "br0")
	}
	if vrf {
		m.n.Links = append(m.n.Links, spec.Link{Name: "mgmt", Kind: spec.VRF, Label: "mgmt", Table: 100 + uint32(r.IntN(2)), Up: true})
	}
	if r.IntN(2) == 0 {
		m.n.Links = append(m.n.Links, spec.Link{Name: "stable", Kind: spec.Dummy, Label: "stable", MTU: 1500, Up: true})
	}
	for i, id := range r.Perm(3)[:r.IntN(4)] { // inside of tunnels, which may change names
		name := fmt.Sprintf("vpn-%d", i)
		m.n.Links = append(m.n.Links, spec.Link{Name: name, Kind: spec.XFRM, Label: name, IfID: 7 + uint32(id), MTU: 1280 + 10*r.IntN(10), Up: true})
	}
	tags := map[string]bool{}
	for i := range 4 {
		if len(bare) == 0 || r.IntN(3) == 0 {
			continue
		}
		l := spec.Link{Kind: spec.VLAN, Parent: m.one(bare...), VLAN: 10 + uint16(r.IntN(4)), Up: r.IntN(8) > 0, MTU: []int{0, 1400, 1500}[r.IntN(3)]}
		l.Name = m.one(fmt.Sprintf("v%d", i), fmt.Sprintf("%s.%d", l.Parent, l.VLAN))
		l.Label = l.Name
		if tag := fmt.Sprint(l.Parent, l.VLAN); tags[tag] || tags[l.Name] {
			continue
		} else {
			tags[tag], tags[l.Name] = true, true
		}
		if vrf && r.IntN(4) == 0 {
			l.Master = "mgmt"
		}
		m.n.Links = append(m.n.Links, l)
	}
	r.Shuffle(len(m.n.Links), func(i, j int) { m.n.Links[i], m.n.Links[j] = m.n.Links[j], m.n.Links[i] })
	m.numbers()
	return m.n
}

// numbers adds addresses, routes and rules.
func (m *maker) numbers() {
	up := map[string]bool{}
	for _, l := range m.n.Links {
		up[l.Name] = l.Up
	}
	var sources []netip.Addr
	for i, l := range m.n.Links {
		if strings.HasPrefix(l.Master, "bond") {
			continue
		}
		for h := range m.IntN(4) {
			m.n.Addresses = append(m.n.Addresses, address(l.Name, fmt.Sprintf("10.0.%d.%d/%s", m.IntN(2)*20+i, h+1, m.one("24", "24", "25"))))
		}
		if m.IntN(2) == 0 {
			m.n.Addresses = append(m.n.Addresses, address(l.Name, fmt.Sprintf("2001:db8:%d::1/%s", i, m.one("64", "56"))))
		}
	}
	m.Shuffle(len(m.n.Addresses), func(i, j int) { a := m.n.Addresses; a[i], a[j] = a[j], a[i] })
	for _, a := range m.n.Addresses {
		sources = append(sources, a.Prefix.Addr())
	}
	keys := map[string]bool{}
	for _, a := range m.n.Addresses {
		to, via := fmt.Sprintf("172.16.%d.0/24", m.IntN(5)), a.Prefix.Masked().Addr().Next().Next().Next().Next().Next()
		if a.Prefix.Addr().Is6() {
			to = fmt.Sprintf("2001:db8:f%d::/48", m.IntN(3))
		}
		r := spec.Route{To: netip.MustParsePrefix(to), Via: via, Link: a.Link, Table: []uint32{0, 0, 100}[m.IntN(3)], Metric: []uint32{0, 20}[m.IntN(2)]}
		l := m.n.Links[slices.IndexFunc(m.n.Links, func(l spec.Link) bool { return l.Name == a.Link })]
		if key := fmt.Sprint(to, r.Table, r.Metric); !up[a.Link] || l.Parent != "" && !up[l.Parent] || keys[key] {
			continue
		} else {
			keys[key] = true
		}
		if m.IntN(3) == 0 || l.Kind == spec.XFRM {
			r.Via = netip.Addr{}
		}
		if m.IntN(3) == 0 {
			r.MTU = 1300 + m.IntN(2)
		}
		if s := sources[m.IntN(len(sources))]; m.IntN(2) == 0 && s.Is4() == r.To.Addr().Is4() {
			r.Source = s
		}
		m.n.Routes = append(m.n.Routes, r)
	}
	for i := range m.IntN(3) {
		m.n.Rules = append(m.n.Rules, spec.Rule{Priority: 1000 + uint32(m.IntN(3)), From: netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/24", i)), Table: 100})
	}
	for i := range m.IntN(3) {
		all := netip.MustParsePrefix(m.one("0.0.0.0/0", "::/0"))
		m.n.Rules = append(m.n.Rules, spec.Rule{Priority: 1000 + uint32(i), From: all, Mark: uint32(m.IntN(2)+1) << 16, Mask: 0xff0000, Table: 1900 + uint32(i)})
	}
}

// converge applies the plan to k, and another one to see that nothing is left.
func converge(t *testing.T, what string, k *plantest.Kernel, want spec.Network) {
	t.Helper()
	have := k.Observe()
	changes := plan.Diff(have, want)
	for _, c := range changes {
		if err := k.Apply(c); err != nil {
			t.Fatalf("%s: %v\n%s", what, err, transcript(have, want, changes))
		}
	}
	if again := plan.Diff(k.Observe(), want); len(again) != 0 {
		t.Fatalf("%s: left to do:\n%s\nafter\n%s", what, text(again), transcript(have, want, changes))
	}
}

// foreign is what nobody may touch.
func foreign(n spec.Network) (f spec.Network) {
	for _, l := range n.Links {
		if l.Name == "veth9" || strings.HasPrefix(l.Name, "lab") {
			f.Links = append(f.Links, l)
		}
	}
	for _, a := range n.Addresses {
		if strings.HasPrefix(a.Link, "lab") || a.Prefix.Addr().IsLinkLocalUnicast() {
			f.Addresses = append(f.Addresses, a)
		}
	}
	return f
}

// sorted is the network without order and what the kernel gives anew.
func sorted(n spec.Network) string {
	var lines []string
	for _, l := range n.Links {
		l.Index = 0
		if l.Bond.Targets == nil {
			l.Bond.Targets = []netip.Addr{}
		}
		slices.SortFunc(l.Bond.Targets, netip.Addr.Compare)
		lines = append(lines, fmt.Sprintf("%+v", l))
	}
	for _, a := range n.Addresses {
		lines = append(lines, fmt.Sprintf("%+v", a))
	}
	for _, r := range n.Routes {
		lines = append(lines, fmt.Sprintf("%+v", r))
	}
	for _, r := range n.Rules {
		lines = append(lines, fmt.Sprintf("%+v", r))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestRandom goes from one made-up network to another. From every point on the
// way the rest is found, and also the way back.
func TestRandom(t *testing.T) {
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 4))
		k := plantest.New(hardware())
		k.Promote = r.IntN(2) == 0
		others := foreign(k.Observe())
		if seed%5 != 0 {
			converge(t, fmt.Sprintf("seed %d, first", seed), k, wanted(r))
		}
		want := wanted(r)
		before := k.Observe()
		changes := plan.Diff(before, want)
		for i, c := range changes {
			converge(t, fmt.Sprintf("seed %d, broken off after %d of %d", seed, i, len(changes)), k.Clone(), want)
			back := k.Clone()
			converge(t, fmt.Sprintf("seed %d, back after %d of %d", seed, i, len(changes)), back, before)
			if got, want := sorted(back.Observe()), sorted(before); got != want {
				t.Fatalf("seed %d, back after %d of %d:\n%s\nwas\n%s\nplan\n%s", seed, i, len(changes), got, want, text(changes))
			}
			if err := k.Apply(c); err != nil {
				t.Fatalf("seed %d: %v\n%s", seed, err, transcript(before, want, changes))
			}
		}
		converge(t, fmt.Sprintf("seed %d, at the end", seed), k, want)
		reached(t, seed, k.Observe(), want)
		if got := foreign(k.Observe()); !reflect.DeepEqual(got, others) {
			t.Fatalf("seed %d: touched what isn't ours:\n%+v\nwas\n%+v", seed, got, others)
		}
	}
}

// reached compares without the planner's help.
func reached(t *testing.T, seed uint64, got, want spec.Network) {
	t.Helper()
	for _, w := range want.Links {
		i := slices.IndexFunc(got.Links, func(l spec.Link) bool { return l.Name == w.Name })
		if i < 0 {
			t.Fatalf("seed %d: no link %s", seed, w.Name)
		}
		l := got.Links[i]
		if l.Label != w.Label || l.Master != w.Master || l.Kind != w.Kind || l.Bond.Mode != w.Bond.Mode || l.Bond.Primary != w.Bond.Primary ||
			l.VLAN != w.VLAN || l.Parent != w.Parent || l.Table != w.Table || l.IfID != w.IfID || w.MTU != 0 && l.MTU != w.MTU || w.Parent == "" && l.Up != w.Up {
			t.Fatalf("seed %d: link\n%+v\nwanted\n%+v", seed, l, w)
		}
	}
	for _, l := range got.Links {
		if l.Ours && !slices.ContainsFunc(want.Links, func(w spec.Link) bool { return l.Name == w.Name }) {
			t.Fatalf("seed %d: link %s is still ours", seed, l.Name)
		}
	}
	for _, a := range want.Addresses {
		if !slices.ContainsFunc(got.Addresses, a.Is) {
			t.Fatalf("seed %d: no address %v", seed, a)
		}
	}
	for _, r := range want.Routes {
		if !slices.ContainsFunc(got.Routes, func(o spec.Route) bool {
			return o.To == r.To && o.Via == r.Via && o.Link == r.Link && o.Source == r.Source && o.MTU == r.MTU
		}) {
			t.Fatalf("seed %d: no route %+v in %+v", seed, r, got.Routes)
		}
	}
	if len(got.Routes) != len(want.Routes) || len(got.Rules) != len(want.Rules) {
		t.Fatalf("seed %d: routes %v, wanted %v; rules %v, wanted %v", seed, got.Routes, want.Routes, got.Rules, want.Rules)
	}
}

func text(changes []plan.Change) string {
	var s strings.Builder
	for _, c := range changes {
		fmt.Fprintln(&s, c)
	}
	return s.String()
}

// transcript is a plan as an engineer would write it down.
func transcript(have, want spec.Network, changes []plan.Change) string {
	return "have\n" + network(have) + "want\n" + network(want) + "plan\n" + indent(text(changes))
}

func network(n spec.Network) string {
	var s strings.Builder
	for _, l := range n.Links {
		fmt.Fprintf(&s, "%s (%s)", l.Name, l.Kind)
		switch l.Kind {
		case spec.VLAN:
			fmt.Fprintf(&s, " %d on %s", l.VLAN, l.Parent)
		case spec.XFRM:
			fmt.Fprintf(&s, " if_id %d", l.IfID)
		}
		for _, f := range []struct {
			is   bool
			text string
		}{
			{l.Table != 0, fmt.Sprint("table ", l.Table)}, {l.Label != "", "label " + l.Label}, {l.MTU != 0, fmt.Sprint("mtu ", l.MTU)},
			{l.Master != "", "master " + l.Master}, {l.Kind == spec.Bond, fmt.Sprintf("%+v", l.Bond)}, {l.STP, "stp"}, {l.Up, "up"}, {!l.Up, "down"},
		} {
			if f.is {
				s.WriteString(" " + f.text)
			}
		}
		s.WriteString("\n")
	}
	for _, a := range n.Addresses {
		fmt.Fprintf(&s, "address %s on %s\n", a.Prefix, a.Link)
	}
	for _, r := range n.Routes {
		fmt.Fprintln(&s, strings.TrimPrefix(plan.Change{Kind: plan.ReplaceRoute, Route: r}.String(), "replace "))
	}
	for _, r := range n.Rules {
		fmt.Fprintln(&s, strings.TrimPrefix(plan.Change{Kind: plan.AddRule, Rule: r}.String(), "add "))
	}
	return indent(s.String())
}

func indent(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString("  " + line)
	}
	return b.String()
}

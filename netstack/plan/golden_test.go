package plan_test

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"komainu/netstack/plan"
	"komainu/netstack/plan/plantest"
	"komainu/netstack/spec"
)

var update = flag.Bool("update", false, "write testdata anew")

func port(name, label, master string) spec.Link {
	return spec.Link{Name: name, Kind: spec.Port, Label: label, MTU: 1500, Master: master, Up: true}
}

func vlan(parent string, id uint16, label string) spec.Link {
	return spec.Link{Name: fmt.Sprintf("%s.%d", parent, id), Kind: spec.VLAN, Label: label, Parent: parent, VLAN: id, MTU: 1500, Up: true}
}

// hall is a town hall: two ports in a bond with two VLANs, a third for management.
func hall() spec.Network {
	bond := spec.Link{Name: "bond0", Kind: spec.Bond, Label: "bond0", MTU: 1500, Up: true,
		Bond: spec.BondOptions{Mode: spec.LACP, MIIMon: 20, Fast: true, MinLinks: 1}}
	vrf := spec.Link{Name: "management", Kind: spec.VRF, Label: "management", Table: 1001, Up: true}
	return spec.Network{
		Links: []spec.Link{port("eth0", "bond0", "bond0"), port("eth1", "bond0", "bond0"), bond, vlan("bond0", 110, "wan"), vlan("bond0", 200, "office"),
			port("eth2", "service-port", "management"), vrf},
		Addresses: []spec.Address{address("bond0.110", "10.20.7.2/29"), address("bond0.110", "2001:db8:7::2/64"),
			address("bond0.200", "192.168.50.1/24"), address("bond0.200", "192.168.50.2/24"), address("eth2", "192.168.99.1/24")},
		Routes: []spec.Route{route("0.0.0.0/0", "10.20.7.1", "bond0.110", ""), route("::/0", "2001:db8:7::1", "bond0.110", ""),
			route("10.9.0.0/16", "192.168.50.254", "bond0.200", "192.168.50.2")},
		Rules: []spec.Rule{{Priority: 1000, From: netip.MustParsePrefix("192.168.99.0/24"), Table: 1001}},
	}
}

// closed is hall with the inside of a tunnel over its line.
func closed() spec.Network {
	return with(func(n *spec.Network) {
		n.Links = append(n.Links, spec.Link{Name: "vpn-dc", Kind: spec.XFRM, Label: "dc", IfID: 7, MTU: 1420, Up: true})
		n.Addresses = append(n.Addresses, address("vpn-dc", "10.255.7.2/30"), address("vpn-dc", "fd00:7::2/126"))
		n.Routes = append(n.Routes, route("10.1.0.0/16", "", "vpn-dc", "192.168.50.1"), route("2001:db8:1::/48", "", "vpn-dc", "fd00:7::2"))
		n.Rules = append(n.Rules, spec.Rule{Priority: 1001, From: netip.MustParsePrefix("0.0.0.0/0"), Mark: 0x10000, Mask: 0xff0000, Table: 1901})
	})
}

// closedWith is closed after an edit.
func closedWith(edit func(*spec.Network)) spec.Network {
	n := closed()
	edit(&n)
	return n
}

// with is hall after an edit.
func with(edit func(*spec.Network)) spec.Network {
	n := hall()
	edit(&n)
	return n
}

func link(n *spec.Network, name string) *spec.Link {
	return &n.Links[slices.IndexFunc(n.Links, func(l spec.Link) bool { return l.Name == name })]
}

// TestTranscripts holds plans as text: testdata/NAME.txt.
func TestTranscripts(t *testing.T) {
	fresh := spec.Network{Links: []spec.Link{
		{Name: "eth0", Kind: spec.Port, MTU: 1500, Up: true}, {Name: "eth1", Kind: spec.Port, MTU: 1500}, {Name: "eth2", Kind: spec.Port, MTU: 1500},
		{Name: "docker0", Kind: spec.Bridge, MTU: 1500, Up: true},
	}, Addresses: []spec.Address{address("eth0", "192.168.1.7/24"), address("docker0", "172.17.0.1/16")}}
	for _, c := range []struct {
		name  string
		start spec.Network // the kernel before it is brought to first
		first *spec.Network
		want  spec.Network
	}{
		{name: "first-start", want: hall()},
		{name: "nothing-changed", first: new(hall()), want: hall()},
		{name: "one-address", first: new(hall()), want: with(func(n *spec.Network) { n.Addresses[2].Prefix = netip.MustParsePrefix("192.168.50.1/25") })},
		{name: "primary-address-goes", first: new(hall()), want: with(func(n *spec.Network) { n.Addresses = slices.Delete(n.Addresses, 2, 3) })},
		{name: "ipv6-length", first: new(hall()), want: with(func(n *spec.Network) { n.Addresses[1].Prefix = netip.MustParsePrefix("2001:db8:7::2/56") })},
		{name: "bond-mode", first: new(hall()), want: with(func(n *spec.Network) {
			link(n, "bond0").Bond = spec.BondOptions{Mode: spec.ActiveBackup, ARPMon: 50, Targets: []netip.Addr{netip.MustParseAddr("10.20.7.1")}, Primary: "eth0"}
		})},
		{name: "bond-miimon", first: new(hall()), want: with(func(n *spec.Network) { link(n, "bond0").Bond.MIIMon = 100 })},
		{name: "bond-lacp-rate", first: new(hall()), want: with(func(n *spec.Network) { link(n, "bond0").Bond.Fast = false })},
		{name: "mtu-up", first: new(hall()), want: with(func(n *spec.Network) { link(n, "bond0").MTU, link(n, "bond0.200").MTU = 9000, 9000 })},
		{name: "mtu-down", first: new(hall()), want: with(func(n *spec.Network) {
			for _, l := range []string{"bond0", "bond0.110", "bond0.200"} {
				link(n, l).MTU = 1400
			}
		})},
		{name: "vlan-number", first: new(hall()), want: with(func(n *spec.Network) { link(n, "bond0.200").VLAN = 201 })},
		{name: "into-vrf", first: new(hall()), want: with(func(n *spec.Network) { link(n, "bond0.110").Master = "management" })},
		{name: "gateway-moves", first: new(hall()), want: with(func(n *spec.Network) { n.Routes[0] = route("0.0.0.0/0", "192.168.50.254", "bond0.200", "") })},
		{name: "tunnel", first: new(hall()), want: closed()},
		{name: "tunnel-goes", first: new(closed()), want: hall()},
		{name: "tunnel-if-id", first: new(closed()), want: closedWith(func(n *spec.Network) { link(n, "vpn-dc").IfID = 8 })},
		{name: "tunnel-name", first: new(closed()), want: closedWith(func(n *spec.Network) {
			*link(n, "vpn-dc") = spec.Link{Name: "vpn-edge", Kind: spec.XFRM, Label: "edge", IfID: 7, MTU: 1420, Up: true}
			n.Addresses, n.Routes = n.Addresses[:5], n.Routes[:3]
		})},
		{name: "tunnel-mtu", first: new(closed()), want: closedWith(func(n *spec.Network) { link(n, "vpn-dc").MTU = 1380 })},
		{name: "tunnel-too-narrow-for-ipv6", first: new(closed()), want: closedWith(func(n *spec.Network) { link(n, "vpn-dc").MTU = 1060 })},
		{name: "tunnel-wide-again", first: new(closedWith(func(n *spec.Network) { link(n, "vpn-dc").MTU = 1060 })), want: closed()},
		{name: "route-mtu", first: new(closed()), want: closedWith(func(n *spec.Network) { n.Routes[3].MTU, n.Routes[4].MTU = 1300, 1300 })},
		{name: "rule-mark", first: new(closed()), want: closedWith(func(n *spec.Network) { n.Rules[1].Mark = 0x20000 })},
		{name: "back-to-one-port", first: new(hall()), want: spec.Network{Links: []spec.Link{port("eth0", "lan", "")}, Addresses: []spec.Address{address("eth0", "10.20.7.2/29")}}},
		{name: "server", want: spec.Network{Links: []spec.Link{{Name: "eth0", Kind: spec.External}}, Addresses: []spec.Address{address("eth0", "192.0.2.100/32")}, Routes: []spec.Route{route("10.1.0.0/16", "192.168.1.1", "eth0", "192.0.2.100")}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := plantest.New(fresh)
			if c.first != nil {
				converge(t, "before", k, *c.first)
			}
			have := k.Observe()
			got := transcript(have, c.want, plan.Diff(have, c.want))
			converge(t, c.name, k, c.want)
			file := filepath.Join("testdata", c.name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s differs (go test -update writes it):\n%s", file, got)
			}
		})
	}
}

// big is 100 VLANs with 200 addresses and 500 routes.
func big() spec.Network {
	n := spec.Network{Links: []spec.Link{port("eth0", "trunk", "")}}
	for i := range 100 {
		l := vlan("eth0", uint16(i+1), fmt.Sprint("net", i))
		n.Links = append(n.Links, l)
		n.Addresses = append(n.Addresses, address(l.Name, fmt.Sprintf("10.0.%d.1/24", i)), address(l.Name, fmt.Sprintf("2001:db8:%d::1/64", i)))
		for j := range 5 {
			n.Routes = append(n.Routes, route(fmt.Sprintf("172.%d.%d.0/24", 16+j, i), fmt.Sprintf("10.0.%d.254", i), l.Name, ""))
		}
	}
	return n
}

func TestOneAddressOfMany(t *testing.T) {
	k := plantest.New(spec.Network{Links: []spec.Link{{Name: "eth0", Kind: spec.Port, MTU: 1500}}})
	began := time.Now()
	all := plan.Diff(k.Observe(), big())
	t.Logf("%d changes planned in %v", len(all), time.Since(began))
	converge(t, "big", k, big())
	want := big()
	want.Addresses[84].Prefix = netip.MustParsePrefix("10.0.42.9/24")
	began = time.Now()
	changes := plan.Diff(k.Observe(), want)
	t.Logf("one address planned in %v", time.Since(began))
	for _, c := range changes {
		if c.Kind == plan.SetLink || c.Address.Link != "eth0.43" && c.Route.Link != "eth0.43" {
			t.Errorf("doesn't concern it: %v", c)
		}
	}
	if len(changes) > 10 {
		t.Errorf("%d changes:\n%s", len(changes), text(changes))
	}
	converge(t, "one address", k, want)
	t.Logf("\n%s", text(changes))
}

func TestResolve(t *testing.T) {
	want := hall()
	for i, place := range []string{"pci:0000:02:00.0", "pci:0000:03:00.0", "pci:0000:04:00.0"} {
		*link(&want, fmt.Sprint("eth", i)) = port(place, fmt.Sprint("port", i), link(&want, fmt.Sprint("eth", i)).Master)
	}
	link(&want, "bond0").Bond.Primary = "pci:0000:03:00.0"
	want.Addresses[4].Link = "pci:0000:04:00.0"
	want.Links = append(want.Links, spec.Link{Name: "spare.9", Kind: spec.VLAN, Parent: "pci:0000:04:00.0", VLAN: 9})
	want.Addresses = append(want.Addresses, address("spare.9", "10.9.9.1/24"))
	want.Routes[0].Source = netip.MustParseAddr("10.9.9.1")
	want.Routes = append(want.Routes, route("10.99.0.0/16", "10.9.9.2", "spare.9", ""))
	ports := map[string]string{"pci:0000:02:00.0": "enp2s0", "pci:0000:03:00.0": "enp3s0", "pci:0000:04:00.0": "enp4s0"}
	find := func(place string) (string, bool) { n, ok := ports[place]; return n, ok }

	got, missing := plan.Resolve(want, find)
	if len(missing) != 0 || len(got.Links) != len(want.Links) || link(&got, "bond0").Bond.Primary != "enp3s0" ||
		link(&got, "spare.9").Parent != "enp4s0" || got.Addresses[4].Link != "enp4s0" {
		t.Errorf("all there: %v\n%s", missing, network(got))
	}
	delete(ports, "pci:0000:03:00.0")
	delete(ports, "pci:0000:04:00.0")
	got, missing = plan.Resolve(want, find)
	if len(missing) != 2 || missing[0] != (plan.Missing{Place: "pci:0000:03:00.0", Label: "port1"}) || missing[1].Label != "port2" {
		t.Errorf("missing: %v", missing)
	}
	if len(got.Links) != 5 || link(&got, "bond0").Bond.Primary != "" || len(got.Addresses) != 4 || len(got.Routes) != 3 ||
		got.Routes[0].Source.IsValid() || len(got.Rules) != 1 {
		t.Errorf("two gone:\n%s", network(got))
	}
	if want.Links[0].Name != "pci:0000:02:00.0" {
		t.Error("Resolve changed what it was given")
	}
}

func BenchmarkDiff(b *testing.B) {
	k := plantest.New(spec.Network{Links: []spec.Link{{Name: "eth0", Kind: spec.Port, MTU: 1500}}})
	have, want := k.Observe(), big()
	for b.Loop() {
		plan.Diff(have, want)
	}
}

package rtnl_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/netns"
	"komainu/drivers/netns/netnstest"
	"komainu/netstack/plan"
	"komainu/netstack/spec"
)

var (
	activeBackup = spec.BondOptions{Mode: spec.ActiveBackup, MIIMon: 20}
	lacp         = spec.BondOptions{Mode: spec.LACP, MIIMon: 20, Fast: true, MinLinks: 1}
)

func bondOf(name string, o spec.BondOptions, ports ...string) []spec.Link {
	links := []spec.Link{{Name: name, Kind: spec.Bond, Label: name, Up: true, Bond: o}}
	for _, p := range ports {
		links = append(links, spec.Link{Name: p, Kind: spec.Port, Label: p, Up: true, Master: name})
	}
	return links
}

// every is a network with every kind of link.
func every(o spec.BondOptions, mtu int) spec.Network {
	n := spec.Network{Links: bondOf("bond0", o, "p0", "p1")}
	n.Links[0].MTU = mtu
	n.Links = append(n.Links,
		spec.Link{Name: "bond0.110", Kind: spec.VLAN, Label: "office", Up: true, Parent: "bond0", VLAN: 110, MTU: mtu},
		spec.Link{Name: "br0", Kind: spec.Bridge, Label: "br0", Up: true, STP: true},
		spec.Link{Name: "p2", Kind: spec.Port, Label: "p2", Up: true, Master: "br0"},
		spec.Link{Name: "mgmt", Kind: spec.VRF, Label: "mgmt", Up: true, Table: 1100},
		spec.Link{Name: "p3", Kind: spec.Port, Label: "management", Up: true, Master: "mgmt"},
		spec.Link{Name: "stable", Kind: spec.Dummy, Label: "stable", Up: true},
	)
	n.Addresses = []spec.Address{
		on("bond0.110", "10.110.0.1/24"), on("bond0.110", "fd00:110::1/64"), on("br0", "10.2.0.1/24"),
		on("p3", "10.3.0.1/24"), on("stable", "192.0.2.1/32"), on("stable", "fd00:9::1/64"),
	}
	n.Routes = []spec.Route{
		{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.110.0.2"), Link: "bond0.110", Source: netip.MustParseAddr("192.0.2.1")},
		{To: netip.MustParsePrefix("10.4.0.0/16"), Via: netip.MustParseAddr("10.3.0.2"), Link: "p3", Table: 1100},
	}
	return n
}

func TestHostEveryKindOfLink(t *testing.T) {
	p := newPair(t)
	p.makes(spec.Bond, spec.VLAN, spec.VRF, spec.Dummy, spec.Bridge)
	prefer := activeBackup
	prefer.Primary = "p1"
	arp := spec.BondOptions{Mode: spec.ActiveBackup, ARPMon: 100, Targets: []netip.Addr{netip.MustParseAddr("10.110.0.2"), netip.MustParseAddr("10.110.0.3")}}
	slow := lacp
	slow.Fast = false
	flat := every(activeBackup, 1500)
	flat.Links[3].STP = false
	for i, want := range []spec.Network{every(activeBackup, 0), every(prefer, 1400), every(arp, 1500), every(lacp, 1400), every(slow, 1500), flat, every(activeBackup, 0), {}} {
		t.Log("network", i)
		p.converge(want)
	}
	for _, l := range p.observe().Links {
		if l.Ours || l.Kind != spec.Port {
			t.Errorf("left: %+v", l)
		}
	}
}

func TestHostVRFKeepsToItsTable(t *testing.T) {
	p := newPair(t)
	p.makes(spec.VRF, spec.Bond, spec.VLAN, spec.Dummy)
	p.converge(every(activeBackup, 0))
	get := func(argv ...string) (out string, err error) {
		err = netns.Do(p.box, func() error { return run(&out, append([]string{"ip", "route", "get"}, argv...)...) })
		return out, err
	}
	if out, err := get("10.99.0.1"); err != nil {
		t.Errorf("the service side has lost its default route: %v %s", err, out)
	}
	if out, err := get("vrf", "mgmt", "10.4.0.1"); err != nil {
		t.Errorf("management has lost its route: %v %s", err, out)
	}
	for _, to := range []string{"10.99.0.1", "10.110.0.2", "fd00:110::2"} {
		if out, err := get("vrf", "mgmt", to); err == nil {
			t.Errorf("management reaches %s: %s", to, out)
		}
	}
	if out, err := get("10.3.0.2"); err == nil && !strings.Contains(out, "bond0.110") {
		t.Errorf("the service side reaches management: %s", out)
	}
}

func TestHostActiveBackupMoves(t *testing.T) {
	p := newPair(t)
	p.makes(spec.Bond)
	netnstest.IP(t, p.far, "link add br0 type bridge\nlink set p0 master br0\nlink set p1 master br0\nlink set br0 up")
	o := activeBackup
	o.Primary = "p0"
	p.converge(spec.Network{Links: bondOf("bond0", o, "p0", "p1")})
	until(t, "the primary is used", func() bool { return p.detail(p.c, "bond0").Active == "p0" })
	netnstest.IP(t, p.far, "link set p0 down")
	until(t, "the other port is used", func() bool { return p.detail(p.c, "bond0").Active == "p1" })
	lost, used := p.detail(p.c, "p0"), p.detail(p.c, "p1")
	if lost.Port == nil || lost.Port.Up || lost.Port.Failures != 1 || lost.Carrier || used.Port == nil || !used.Port.Active {
		t.Errorf("ports %+v %+v", lost.Port, used.Port)
	}
	netnstest.IP(t, p.far, "link set p0 up")
	until(t, "the primary is used again", func() bool { return p.detail(p.c, "bond0").Active == "p0" })
	if d := p.detail(p.c, "bond0"); d.Counters.TxPackets == 0 || len(d.MAC) != 6 {
		t.Errorf("no counters or no MAC: %+v", d)
	}
}

func TestHostLACPFindsItsPartner(t *testing.T) {
	p := newPair(t)
	p.makes(spec.Bond)
	far := pair{t: t, box: p.far, c: open(t, p.far)}
	for _, x := range []pair{p, far} {
		x.converge(spec.Network{Links: bondOf("bond0", lacp, "p0", "p1")})
	}
	until(t, "two active ports with a partner", func() bool {
		a, b := p.detail(p.c, "p0").Port, p.detail(p.c, "p1").Port
		bond := p.detail(p.c, "bond0")
		return a.Active && b.Active && a.Partner && b.Partner && bond.Carrier &&
			bond.Partner.String() == far.detail(far.c, "bond0").MAC.String()
	})
}

func TestHostLinkThatVanishesAndReturns(t *testing.T) {
	p := newPair(t)
	p.makes(spec.Dummy)
	want := spec.Network{Links: []spec.Link{{Name: "d0", Kind: spec.Dummy, Label: "d0", Up: true}}}
	for i := range 100 {
		want.Addresses = append(want.Addresses, on("d0", fmt.Sprintf("10.0.%d.1/24", i)))
	}
	// Within one run: the second link has another index.
	add, was := plan.Change{Kind: plan.AddLink, Link: want.Links[0]}, plan.Change{Kind: plan.DeleteLink, Was: want.Links[0]}
	address := plan.Change{Kind: plan.AddAddress, Address: want.Addresses[0]}
	p.apply(add, address, was, add, address, add)
	// Behind its back.
	for range 2 {
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			for range 3 {
				netns.Do(p.box, func() error {
					var out string
					return errors.Join(run(&out, "ip", "link", "del", "d0"), run(&out, "ip", "link", "add", "d0", "type", "dummy"))
				})
			}
		}()
		for busy := true; busy; {
			err := p.try(plan.Diff(p.observe(), want)...)
			if err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EINVAL) {
				t.Fatal(err)
			}
			select {
			case <-stop:
				busy = false
			default:
			}
		}
		p.converge(want)
	}
}

// The figure of a large configuration; apply again finds nothing to do.
func TestHostLargeNetwork(t *testing.T) {
	p := newPair(t)
	p.makes(spec.VLAN)
	want := spec.Network{Links: []spec.Link{{Name: "p0", Kind: spec.Port, Label: "trunk", Up: true}}}
	for i := range 100 {
		name := fmt.Sprintf("p0.%d", 100+i)
		want.Links = append(want.Links, spec.Link{Name: name, Kind: spec.VLAN, Label: name, Up: true, Parent: "p0", VLAN: uint16(100 + i)})
		want.Addresses = append(want.Addresses, on(name, fmt.Sprintf("10.%d.0.1/24", i)), on(name, fmt.Sprintf("fd00:%x::1/64", 100+i)))
		for j := range 5 {
			want.Routes = append(want.Routes, spec.Route{
				To: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i), byte(j) * 8}), 29), Via: netip.AddrFrom4([4]byte{10, byte(i), 0, 2}), Link: name,
			})
		}
	}
	changes := plan.Diff(p.observe(), want)
	start := time.Now()
	p.apply(changes...)
	t.Logf("%d changes in %v", len(changes), time.Since(start))
	start = time.Now()
	left := plan.Diff(p.observe(), want)
	t.Logf("observed and compared in %v", time.Since(start))
	if len(left) != 0 {
		t.Errorf("left to do: %v", left)
	}
	start = time.Now()
	p.converge(spec.Network{})
	t.Logf("taken away in %v", time.Since(start))
}

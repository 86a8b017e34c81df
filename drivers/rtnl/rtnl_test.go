package rtnl_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"komainu/drivers/netns/netnstest"
	"komainu/drivers/rtnl"
	"komainu/netstack/plan"
	"komainu/netstack/spec"
)

func open(t *testing.T, ns string) *rtnl.Conn {
	var c *rtnl.Conn
	netnstest.Do(t, ns, func() (err error) { c, err = rtnl.Open(); return err })
	t.Cleanup(func() { c.Close() })
	return c
}

func converge(t *testing.T, c *rtnl.Conn, want spec.Network) int {
	t.Helper()
	have, err := c.Observe()
	if err != nil {
		t.Fatal(err)
	}
	have.Links = []spec.Link{}
	changes := plan.Diff(have, want)
	for _, a := range have.Addresses {
		if strings.Contains(a.Prefix.String(), "101/") && !slices.ContainsFunc(want.Addresses, a.Is) {
			changes = append(changes, plan.Change{Kind: plan.DeleteAddress, Address: a})
		}
	}
	if err := c.Apply(changes); err != nil {
		t.Fatal(err)
	}
	return len(changes)
}

func TestAddressesAndRoutesFollowThePlan(t *testing.T) {
	town := netnstest.New(t)
	c := open(t, town.Box)
	before := netnstest.Run(t, town.Box, "ip", "route")
	a := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	p := netip.MustParsePrefix
	ours := []spec.Address{{Link: "lan", Prefix: p("192.0.2.101/32")}, {Link: "lan", Prefix: p("fd00:1::101/128")}}
	overWAN := spec.Network{Addresses: ours, Routes: []spec.Route{
		{To: p("10.1.0.0/16"), Via: a("198.51.100.2"), Link: "wan", Source: a("192.0.2.101")},
		{To: p("fd00:9::/64"), Via: a("fd00:2::2"), Link: "wan", Source: a("fd00:1::101")},
		{To: p("10.2.0.0/16"), Link: "wan"},
		{To: p("::/0"), Via: a("fd00:2::2"), Link: "wan"},
	}}
	overLAN := spec.Network{Addresses: ours, Routes: []spec.Route{
		{To: p("10.1.0.0/16"), Via: a("192.0.2.10"), Link: "lan", Source: a("192.0.2.101")},
		{To: p("fd00:9::/64"), Link: "lan"}, // a gateway before, none now
	}}
	for _, want := range []spec.Network{overWAN, overLAN, overWAN, {}} {
		converge(t, c, want)
		if n := converge(t, c, want); n != 0 {
			have, _ := c.Observe()
			t.Errorf("%d changes were left, have %v", n, have.Routes)
		}
		have, err := c.Observe()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range have.Addresses {
			if a.Tentative {
				t.Errorf("%s waits for duplicate detection", a.Prefix)
			}
		}
		if len(have.Routes) != len(want.Routes) {
			t.Errorf("routes %v, want %v", have.Routes, want.Routes)
		}
		for _, r := range want.Routes {
			if !slices.Contains(have.Routes, r) {
				t.Errorf("no route %v in %v", r, have.Routes)
			}
		}
	}
	if after := netnstest.Run(t, town.Box, "ip", "route"); after != before {
		t.Errorf("other routes have changed:\n%s\nwere\n%s", after, before)
	}
	if s := netnstest.Run(t, town.Box, "ip", "addr"); strings.Contains(s, ".101/") || strings.Contains(s, "::101/") {
		t.Errorf("addresses that should be gone:\n%s", s)
	}
}

func TestForeignRouteIsLeftAlone(t *testing.T) {
	town := netnstest.New(t)
	c := open(t, town.Box)
	netnstest.IP(t, town.Box, "route add 10.1.0.0/16 via 198.51.100.2")
	r := spec.Route{To: netip.MustParsePrefix("10.1.0.0/16"), Link: "lan"}
	if err := c.Apply([]plan.Change{{Kind: plan.ReplaceRoute, Route: r}}); !errors.Is(err, rtnl.ErrForeign) {
		t.Errorf("got %v, want ErrForeign", err)
	}
	if err := c.Apply([]plan.Change{{Kind: plan.DeleteRoute, Route: r}}); err != nil {
		t.Errorf("deleting what isn't there: %v", err)
	}
	if s := netnstest.Run(t, town.Box, "ip", "route"); !strings.Contains(s, "10.1.0.0/16 via 198.51.100.2") {
		t.Errorf("the foreign route has gone:\n%s", s)
	}
	if err := c.Apply([]plan.Change{{Kind: plan.AddAddress, Address: spec.Address{Link: "nolink", Prefix: r.To}}}); err == nil {
		t.Error("an address on a link that doesn't exist was no error")
	}
}

func TestWatchTellsOfCarrier(t *testing.T) {
	town := netnstest.New(t)
	ctx, cancel := context.WithCancel(context.Background())
	links := make(chan rtnl.Link, 100)
	done := make(chan error, 1)
	go func() {
		var err error
		netnstest.Do(t, town.Box, func() error {
			err = rtnl.Watch(ctx, func(l rtnl.Link) { links <- l })
			return nil
		})
		done <- err
	}()
	wait := func(want rtnl.Link) {
		t.Helper()
		late := time.After(netnstest.Patience)
		for {
			select {
			case l := <-links:
				if l == want {
					return
				}
			case <-late:
				t.Fatalf("never told of %+v", want)
			}
		}
	}
	wait(rtnl.Link{Name: "wan", Up: true, Carrier: true})
	netnstest.IP(t, town.DC, "link set wan down")
	wait(rtnl.Link{Name: "wan", Up: true})
	netnstest.IP(t, town.DC, "link set wan up")
	wait(rtnl.Link{Name: "wan", Up: true, Carrier: true})
	netnstest.IP(t, town.Box, "link set wan down")
	wait(rtnl.Link{Name: "wan"})
	netnstest.IP(t, town.Box, "link del lan")
	wait(rtnl.Link{Name: "lan"})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

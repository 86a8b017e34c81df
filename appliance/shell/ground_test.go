package shell

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"komainu/appliance/agent"
	"komainu/drivers/netns/netnstest"
	"komainu/drivers/nft"
	"komainu/drivers/rtnl"
	"komainu/netstack/firewall"
	"komainu/netstack/spec"
)

func newGrounding(t *testing.T) (*grounding, netnstest.Town) {
	t.Helper()
	town, g := netnstest.New(t), &grounding{asking: newAsking()}
	netnstest.Do(t, town.Box, func() (err error) {
		if g.rt, err = rtnl.Open(); err == nil {
			g.filter, err = nft.OpenFilter()
		}
		return err
	})
	t.Cleanup(func() {
		if err := errors.Join(g.rt.Close(), g.filter.Close()); err != nil {
			t.Error(err)
		}
	})
	return g, town
}

// boxGround is a small network with a firewall. Its address is one of IPv6: those of
// IPv4 are asked for by goroutines of their own, outside of the namespace.
func boxGround() agent.Ground {
	return agent.Ground{
		Network: spec.Network{
			Links:     []spec.Link{{Name: "lan", Kind: spec.Port, Label: "office", Up: true}},
			Addresses: []spec.Address{{Link: "lan", Prefix: netip.MustParsePrefix("fd00:50::1/128")}},
		},
		Firewall: firewall.Policy{Zones: []firewall.Zone{{Name: "office", Side: firewall.Service, Link: "lan"}}},
	}
}

// The firewall stands before any link is set or any address is there: where it
// can't be made, at a boot say, the box stays unreachable (AT-173).
func TestHostFirewallComesFirst(t *testing.T) {
	g, town := newGrounding(t)
	bad := boxGround()
	bad.Firewall.Accept = []firewall.Accept{{Name: "x", Proto: "sctp"}}
	for _, whole := range []bool{false, true} {
		netnstest.Do(t, town.Box, func() error {
			if _, err := g.bring(t.Context(), bad, whole); !errors.Is(err, nft.ErrRuleset) {
				t.Errorf("a firewall that can't be: %v", err)
			}
			return nil
		})
		n, err := g.rt.Observe()
		if err != nil {
			t.Fatal(err)
		}
		touched := slices.ContainsFunc(n.Links, func(l spec.Link) bool { return l.Ours })
		if touched || slices.ContainsFunc(n.Addresses, bad.Network.Addresses[0].Is) {
			t.Errorf("the network was changed without a firewall: %+v", n)
		}
	}
}

// What fails as a whole at the first attempt leaves the firewall closed.
func TestHostFailureLeavesAFirewall(t *testing.T) {
	g, town := newGrounding(t)
	bad := boxGround()
	bad.Network.Routes = []spec.Route{{To: netip.MustParsePrefix("10.9.0.0/16"), Via: netip.MustParseAddr("172.16.0.1"), Link: "lan"}}
	tables := func() string { return netnstest.Run(t, town.Box, "nft", "list", "tables") }
	netnstest.Do(t, town.Box, func() error {
		if _, err := g.bring(t.Context(), bad, true); err == nil {
			t.Error("an impossible route was taken")
		}
		return nil
	})
	if s := tables(); !strings.Contains(s, firewall.Table) {
		t.Errorf("no firewall after a failure: %s", s)
	}
	netnstest.Do(t, town.Box, func() error { _, err := g.bring(t.Context(), boxGround(), true); return err })
	if s := tables(); !strings.Contains(s, firewall.Table) {
		t.Errorf("no firewall: %s", s)
	}
}

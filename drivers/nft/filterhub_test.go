package nft_test

import (
	"slices"
	"testing"

	"komainu/drivers/netns/netnstest"
	"komainu/netstack/firewall"
	"komainu/netstack/firewall/firewalltest"
)

// Tunnels come and go in one transaction with the chains that links lead to, and
// a link that somebody leads elsewhere is put right.
func TestHostFilterFollowsTunnels(t *testing.T) {
	w := wall(t)
	hub := firewalltest.Hub()
	less := hub
	less.Zones = slices.Clone(hub.Zones[:len(hub.Zones)-1])
	for _, p := range []firewall.Policy{hub, less, hub} {
		w.apply(t, firewall.Rules(p))
		w.matches(t, true)
		if w.apply(t, firewall.Rules(p)) {
			t.Fatal("the same again changed something")
		}
	}
	for _, command := range []string{`delete element inet komainu_filter links_prerouting_1 { "eth1" }`,
		`add element inet komainu_filter links_prerouting_1 { "eth9" : jump from_line }`} {
		netnstest.Run(t, w.Box, "nft", command)
		w.matches(t, false)
		w.apply(t, firewall.Rules(hub))
		w.matches(t, true)
	}
}

package nft_test

import (
	"net/netip"
	"testing"
	"time"

	"komainu/drivers/netns/netnstest"
	"komainu/netstack/firewall"
)

// townPolicy is a policy for the town: clients in the office, a line to the data
// centre.
func townPolicy() firewall.Policy {
	return firewall.Policy{
		Zones: []firewall.Zone{
			{
				Name: "office", Side: firewall.Service, Link: "lan", Networks: prefixes("192.0.2.0/24", "fd00:1::/64"),
				Addresses: prefixes("192.0.2.1/24", "fd00:1::1/64"),
			},
			{Name: "line", Side: firewall.WAN, Link: "wan", Addresses: prefixes("198.51.100.1/24", "fd00:2::1/64")},
		},
		Accept: []firewall.Accept{
			{Name: "web", Zone: "office", From: prefixes("192.0.2.10/32", "192.0.2.12/32", "fd00:1::10/128"), Proto: "tcp", Ports: []uint16{80}},
			{Name: "time", Zone: "office", Proto: "udp", Ports: []uint16{123}, Stateless: true},
		},
		Forward: []firewall.Forward{
			{Name: "print", FromZone: "office", ToZone: "line", To: prefixes("198.51.100.2/32", "fd00:2::2/128"), Proto: "tcp", Ports: []uint16{80, 443}},
		},
	}
}

// The rules of a policy, as packets meet them.
func TestHostFilterOfAPolicy(t *testing.T) {
	w := wall(t)
	netnstest.IP(t, w.Client, "addr add 203.0.113.5/32 dev lo\naddr add fd00:9::5/128 dev lo nodad")
	lines := w.hear(t)
	r := firewall.Rules(townPolicy())
	if !w.apply(t, r) || w.apply(t, r) {
		t.Error("want one change, then none")
	}
	w.matches(t, true)
	next := func(rule string, src netip.Addr, port uint16) {
		t.Helper()
		select {
		case l := <-lines:
			if l.Rule != rule || l.Src != src || l.DstPort != port {
				t.Errorf("heard %+v, want rule %q from %s to port %d", l, rule, src, port)
			}
		case <-time.After(netnstest.Patience):
			t.Errorf("no line of rule %q", rule)
		}
	}
	for i, box := range netnstest.BoxLAN {
		client := netnstest.ClientAddr[i]
		netnstest.Serve(t, w.Box, "box", netip.AddrPortFrom(box, 80))
		netnstest.Serve(t, w.DC, "dc", netip.AddrPortFrom(netnstest.DCAddr[i], 80))
		c := netnstest.MustDial(t, w.Client, netip.AddrPortFrom(box, 80), "box "+client.String())
		netnstest.MustDial(t, w.Client, netip.AddrPortFrom(netnstest.DCAddr[i], 80), "dc "+client.String())

		// Nothing allows these: a client learns it at once.
		if _, err := netnstest.Dial(t, w.Client, netip.AddrPortFrom(box, 81), time.Second); err == nil {
			t.Error("port 81 is open")
		}
		next("input office", client, 81)
		if _, err := netnstest.Dial(t, w.Client, netip.AddrPortFrom(netnstest.DCAddr[i], 81), time.Second); err == nil {
			t.Error("port 81 of the data centre is open")
		}
		next("forward office", client, 81)
		send(t, w.Client, []string{"203.0.113.5", "fd00:9::5"}[i], netip.AddrPortFrom(box, 99), 1)
		next("spoofed office", netip.MustParseAddr([]string{"203.0.113.5", "fd00:9::5"}[i]), 99)
		send(t, w.DC, "", netip.AddrPortFrom(netnstest.BoxWAN[i], 99), 1)
		next("input line", netnstest.DCAddr[i], 99)

		send(t, w.Client, "", netip.AddrPortFrom(box, 123), 5)
		eventually(t, "time is asked for", func() bool { return w.count(t, "time") >= 5 }) // since the last change
		if n := tracked(t, w.Box, "dport=123 "); n != 0 {
			t.Errorf("%d connections to port 123 are tracked", n)
		}
		more := townPolicy()
		more.Accept = append(more.Accept, firewall.Accept{Name: "more", Zone: "line", Proto: "tcp", Ports: []uint16{9}})
		if !w.apply(t, firewall.Rules(more)) || !w.apply(t, r) {
			t.Error("a changed policy changed nothing")
		}
		if err := c.Echo(netnstest.Patience); err != nil {
			t.Errorf("an established connection after two changes: %v", err)
		}
	}
}

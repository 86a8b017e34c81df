// Package firewalltest holds policies of boxes for tests of the firewall, here
// and on a kernel. Only tests import it.
package firewalltest

import (
	"fmt"
	"net/netip"

	"komainu/netstack/firewall"
)

// Policies are those of a town hall, of a DC edge, of both with tunnels between
// them, and of a box with a management port, as appliance/config makes them.
func Policies() map[string]firewall.Policy {
	return map[string]firewall.Policy{"town-hall": TownHall(), "dc-edge": DCEdge(), "managed": Managed(), "closed-hall": ClosedHall(), "hub": Hub()}
}

// ClosedHall has a tunnel over each of two lines, both to the data centre, whose
// end of the second one lies in the data centre's own network.
func ClosedHall() firewall.Policy {
	inside := Prefixes("10.1.0.0/16", "10.255.7.0/30", "10.255.8.0/30", "2001:db8:1::/48", "fd00:7::/126")
	p := firewall.Policy{
		Zones: []firewall.Zone{
			{Name: "office", Side: firewall.Service, Link: "lan", Networks: Prefixes("192.0.2.0/24", "fd00:1::/64"), Addresses: Prefixes("192.0.2.1/24", "fd00:1::1/64")},
			{Name: "line", Side: firewall.WAN, Link: "wan", Addresses: Prefixes("198.51.100.1/24", "fd00:2::1/64")},
			{Name: "alt", Side: firewall.WAN, Link: "alt0", Addresses: Prefixes("10.30.7.2/29")},
			{Name: "dc-main", Side: firewall.Tunnel, Link: "vpn-dc-main", Networks: inside, Addresses: Prefixes("10.255.7.2/30", "fd00:7::2/126")},
			{Name: "dc-alt", Side: firewall.Tunnel, Link: "vpn-dc-alt", Networks: inside, Addresses: Prefixes("10.255.8.2/30")},
		},
		Accept: []firewall.Accept{{Name: "ssh from peers", From: Prefixes("10.1.0.0/16", "10.255.7.1/32"), To: addrs("192.0.2.1"), Proto: "tcp", Ports: []uint16{22}}},
		Own:    []string{"komainu-park"},
	}
	p.Accept = append(p.Accept, Outer("line", Prefixes("198.51.100.2/32"), addrs("198.51.100.1"))...)
	p.Accept = append(p.Accept, Outer("alt", Prefixes("10.1.0.10/32"), addrs("10.30.7.2"))...)
	for _, x := range []struct{ tunnel, from, to string }{{"dc-main", "10.255.7.1/32", "10.255.7.2"}, {"dc-alt", "10.255.8.1/32", "10.255.8.2"}} {
		p.Accept = append(p.Accept, firewall.Accept{Name: "heartbeat " + x.tunnel, Zone: x.tunnel, From: Prefixes(x.from), To: addrs(x.to), Proto: "udp", Ports: []uint16{4795}})
		p.Forward = append(p.Forward, firewall.Forward{Name: "dc", FromZone: "office", ToZone: x.tunnel, To: Prefixes("10.1.0.0/16", "2001:db8:1::/48")})
	}
	// Somebody allows too much: the data centre's network stays behind the tunnels.
	p.Forward = append(p.Forward, firewall.Forward{Name: "everywhere", FromZone: "office"},
		firewall.Forward{Name: "printer", FromZone: "office", ToZone: "line", To: Prefixes("10.1.9.0/24")})
	return p
}

// Outer lets the packets of tunnels themselves in on a line.
func Outer(line string, from []netip.Prefix, to []netip.Addr) []firewall.Accept {
	return []firewall.Accept{
		{Name: "ike " + line, Zone: line, From: from, To: to, Proto: "udp", Ports: []uint16{500, 4500}, Outer: true, Stateless: true},
		{Name: "esp " + line, Zone: line, From: from, To: to, Proto: "esp", Outer: true, Stateless: true},
	}
}

// Hub is where the tunnels of two town halls end that may come from anywhere.
func Hub() firewall.Policy {
	p := firewall.Policy{Zones: []firewall.Zone{
		{Name: "dclan", Side: firewall.Service, Link: "eth0", Networks: Prefixes("10.1.0.0/16"), Addresses: Prefixes("10.1.0.1/16")},
		{Name: "line", Side: firewall.WAN, Link: "eth1", Addresses: Prefixes("203.0.113.1/24")},
	}}
	p.Accept = Outer("line", nil, addrs("203.0.113.1"))
	for i, hall := range []string{"hinata-cho", "kaze-mura"} {
		inner := netip.AddrFrom4([4]byte{10, 255, byte(i), 1})
		networks := Prefixes(fmt.Sprintf("192.168.%d.0/24", 50+i), netip.PrefixFrom(inner, 30).Masked().String())
		p.Zones = append(p.Zones, firewall.Zone{Name: hall, Side: firewall.Tunnel, Link: "vpn-" + hall, Networks: networks, Addresses: []netip.Prefix{netip.PrefixFrom(inner, 30)}})
		p.Accept = append(p.Accept, firewall.Accept{Name: "heartbeat " + hall, Zone: hall, From: []netip.Prefix{netip.PrefixFrom(inner.Next(), 32)}, To: []netip.Addr{inner},
			Proto: "udp", Ports: []uint16{4795}})
		p.Forward = append(p.Forward, firewall.Forward{Name: hall, FromZone: hall, From: networks[:1], ToZone: "dclan"})
	}
	return p
}

// TownHall has one office and two lines.
func TownHall() firewall.Policy {
	dc := Prefixes("10.1.0.0/16", "2001:db8:1::/48")
	return firewall.Policy{
		Zones: []firewall.Zone{
			{
				Name: "office", Side: firewall.Service, Link: "bond0.200", Networks: Prefixes("192.168.50.0/24", "2001:db8:7:50::/64"),
				Addresses: Prefixes("192.168.50.1/24", "2001:db8:7:50::1/64"),
			},
			{Name: "main", Side: firewall.WAN, Link: "bond0.110", Addresses: Prefixes("10.20.7.2/29", "2001:db8:7:1::2/64")},
			{Name: "alt", Side: firewall.WAN, Link: "eth3", Addresses: Prefixes("10.20.8.2/29", "2001:db8:7:2::2/64")},
		},
		Accept: []firewall.Accept{
			{Name: "heartbeat main", Zone: "main", From: Prefixes("10.20.7.1/32"), To: addrs("10.20.7.2"), Proto: "udp", Ports: []uint16{4795}},
			{Name: "heartbeat alt", Zone: "alt", From: Prefixes("10.20.8.1/32"), To: addrs("10.20.8.2"), Proto: "udp", Ports: []uint16{4795}},
			{Name: "health", Zone: "office", To: addrs("192.168.50.1"), Proto: "tcp", Ports: []uint16{8443}},
			{Name: "health from peers", From: append(Prefixes("10.20.7.1/32", "10.20.8.1/32"), dc...), To: addrs("192.168.50.1"), Proto: "tcp", Ports: []uint16{8443}},
			{Name: "database resident", From: append(Prefixes("192.168.50.0/24", "2001:db8:7:50::/64"), dc...), To: addrs("192.168.50.1"), Proto: "tcp", Ports: []uint16{15432}},
			{
				Name: "database resident", From: append(Prefixes("192.168.50.0/24", "2001:db8:7:50::/64"), dc...), To: addrs("2001:db8:7:50::1"),
				Proto: "tcp", Ports: []uint16{15432},
			},
			{Name: "ntp", From: Prefixes("192.168.50.0/24", "2001:db8:7:50::/64"), To: addrs("192.168.50.1"), Proto: "udp", Ports: []uint16{123}, Stateless: true},
			{Name: "ntp", From: Prefixes("192.168.50.0/24", "2001:db8:7:50::/64"), To: addrs("2001:db8:7:50::1"), Proto: "udp", Ports: []uint16{123}, Stateless: true},
		},
		Forward: []firewall.Forward{
			{Name: "print", FromZone: "office", From: Prefixes("192.168.50.7/32"), ToZone: "main", To: Prefixes("10.1.9.0/24"), Proto: "tcp", Ports: []uint16{9100, 631}},
			{Name: "look", FromZone: "office", To: dc, Proto: "icmp"},
			{Name: "dc-edge", FromZone: "office", ToZone: "main", To: dc},
			{Name: "dc-edge", FromZone: "office", ToZone: "alt", To: dc},
		},
		Own: []string{"komainu-park"},
	}
}

// DCEdge has two hundred town halls behind its line, each a registered peer.
func DCEdge() firewall.Policy {
	p := firewall.Policy{Zones: []firewall.Zone{
		{Name: "dclan", Side: firewall.Service, Link: "eth0", Networks: Prefixes("10.1.0.0/16", "2001:db8:1::/48"), Addresses: Prefixes("10.1.0.1/16", "2001:db8:1::1/64")},
		{Name: "line", Side: firewall.WAN, Link: "eth1", Addresses: Prefixes("10.20.0.1/16")},
	}, Own: []string{"komainu-park"}}
	halls := Halls()
	p.Accept = []firewall.Accept{
		{Name: "heartbeat", Zone: "line", From: halls, To: addrs("10.20.0.1"), Proto: "udp", Ports: []uint16{4795}},
		{Name: "orders", From: halls, To: addrs("10.1.0.1"), Proto: "tcp", Ports: []uint16{7443}},
		{Name: "ssh", Zone: "dclan", Proto: "tcp", Ports: []uint16{22}},
	}
	p.Forward = []firewall.Forward{{Name: "halls", FromZone: "line", From: halls, ToZone: "dclan"}}
	return p
}

// Halls are two hundred registered peers.
func Halls() []netip.Prefix {
	var all []netip.Prefix
	for i := range 200 {
		all = append(all, netip.MustParsePrefix(fmt.Sprintf("10.20.%d.2/32", i+1)))
	}
	return all
}

// Managed has a port for those who look after it, in a VRF of its own.
func Managed() firewall.Policy {
	return firewall.Policy{
		Zones: []firewall.Zone{
			{Name: "office", Side: firewall.Service, Link: "eth0", Networks: Prefixes("192.0.2.0/24"), Addresses: Prefixes("192.0.2.1/24")},
			{Name: "upstairs", Side: firewall.Service, Link: "eth1", Addresses: Prefixes("198.51.100.1/24")},
			{Name: "port", Side: firewall.Management, Link: "eth2", VRF: "vrf-port", Addresses: Prefixes("10.99.0.2/24", "2001:db8:99::2/64")},
			{Name: "dc", Side: firewall.Tunnel, Link: "xfrm1", Networks: Prefixes("10.1.0.0/16")},
		},
		Accept: []firewall.Accept{
			{Name: "ssh", Zone: "port", To: addrs("10.99.0.2"), Proto: "tcp", Ports: []uint16{22}},
			{Name: "ntp", Proto: "udp", Ports: []uint16{123}, Stateless: true},
		},
		Forward: []firewall.Forward{{Name: "上り", FromZone: "office", ToZone: "dc"}},
	}
}

// Prefixes parses networks; a wrong one ends the test.
func Prefixes(list ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func addrs(list ...string) []netip.Addr {
	var all []netip.Addr
	for _, s := range list {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

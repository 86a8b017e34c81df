package config

import (
	"net/netip"

	"komainu/netstack/firewall"
)

// Interface is one [[interface]]: a link with its addresses. Its name is that
// of its firewall zone too.
type Interface struct {
	Name      string
	On        string         // as written: "eth0", "pci:0000:02:00.0", "bond0.110", "br0", "dummy"
	Link      string         // the kernel's name; a port by PCI path: its place, for plan.Resolve
	Addresses []netip.Prefix // with host bits
	Gateways  []netip.Addr   // default routes, one per family; not on a database host
	Metric    uint32         // of the default routes, lower wins; default 100
	MTU       int            // bytes; 0 (default): what the kernel gives
	Side      firewall.Side  // zone; default: wan if a path to a box beyond it leads over it, else service

	place place
	src   *table
}

// defaultMetric of routes stands there explicitly, since the kernel's own
// differs between the families.
const defaultMetric = 100

// Own is the first address of i of the family of a; zero if none.
func (i Interface) Own(a netip.Addr) netip.Addr {
	for _, p := range i.Addresses {
		if p.Addr().Is4() == a.Is4() {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

// reaches tells whether a is in a network of i.
func (i Interface) reaches(a netip.Addr) bool {
	for _, p := range i.Addresses {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// hop tells whether a can be a next hop on i: a neighbour, or any link-local
// address where there is IPv6.
func (i Interface) hop(a netip.Addr) bool {
	_, v6 := families(i.Addresses)
	return i.reaches(a) || a.Is6() && a.IsLinkLocalUnicast() && v6
}

// has tells whether a is an address of i.
func (i Interface) has(a netip.Addr) bool {
	for _, p := range i.Addresses {
		if p.Addr() == a {
			return true
		}
	}
	return false
}

func (r *reader) iface(t *table) Interface {
	i := Interface{Name: r.ident(t, "name"), src: t}
	if i.On = r.str(t, "on", true); i.On != "" {
		var ok bool
		if i.place, ok = parsePlace(i.On); !ok {
			r.bad(t.place("on"), "config-want-link", "on", i.On)
			i.On = ""
		}
	}
	switch {
	case i.On == "":
	case i.place.dummy:
		i.Link = madeLink(dummyPrefix, i.Name)
	default:
		i.Link = i.place.link()
	}
	i.Addresses = r.hosts(t, "address")
	i.Gateways = r.addrs(t, "gateway", true)
	r.needs(t, "metric", "gateway")
	i.Metric = uint32(r.number(t, "metric", defaultMetric, 1, 1<<31))
	// 576 is the least of IPv4 (RFC 791); 9216 the most of usual switches.
	i.MTU = int(r.number(t, "mtu", 0, 576, 9216))
	if t.vals["zone"] != nil {
		i.Side = firewall.Side(r.word(t, "zone", []string{string(firewall.WAN), string(firewall.Service), string(firewall.Management), string(firewall.Tunnel)}))
	}
	r.get(t, "zone")
	if v := t.vals["vlan"]; v != nil {
		r.bad(v.key, "config-vlan-written")
	}
	if v := t.vals["vrf"]; v != nil {
		r.bad(v.key, "config-vrf-written")
	}
	r.ignore(t, "vlan", "vrf")
	r.later(t, "dhcp")
	return i
}

// hosts are addresses of this box with the lengths of their networks.
func (r *reader) hosts(t *table, key string) []netip.Prefix {
	var out []netip.Prefix
	r.strs(t, key, true, func(v *value, s string) {
		p, err := netip.ParsePrefix(s)
		if err != nil || !usable(p.Addr()) {
			r.bad(v.at, "config-want-prefix", key, s)
			return
		}
		if p.Addr().Is4() && p.Bits() < 31 && (p.Addr() == p.Masked().Addr() || p.Addr() == broadcast(p)) {
			r.bad(v.at, "config-address-of-all", key, s)
			return
		}
		out = append(out, p)
	})
	return out
}

// broadcast is the last address of an IPv4 network.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

package config

import (
	"net/netip"
	"strings"
)

// Interface is one [[interface]]: a port with its addresses.
type Interface struct {
	Name      string
	On        string         // the kernel's name of the link
	Addresses []netip.Prefix // with host bits

	src *table
}

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
	if i.On = r.str(t, "on", true); strings.HasPrefix(i.On, "pci:") {
		r.bad(t.place("on"), "config-later-pci", i.On)
	} else if i.On != "" && !linkForm.MatchString(i.On) {
		r.bad(t.place("on"), "config-want-link", "on", i.On)
	}
	r.strs(t, "address", true, func(v *value, s string) {
		p, err := netip.ParsePrefix(s)
		if err != nil || !usable(p.Addr()) {
			r.bad(v.at, "config-want-prefix", "address", s)
			return
		}
		i.Addresses = append(i.Addresses, p)
	})
	if v := t.vals["gateway"]; v != nil {
		r.bad(v.key, "config-gateway-here")
		r.ignore(t, "gateway")
	}
	r.later(t, "mtu", "vlan", "vrf", "dhcp")
	return i
}

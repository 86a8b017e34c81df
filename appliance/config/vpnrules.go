package config

import (
	"slices"
	"strconv"

	"komainu/netstack/firewall"
)

// vpns: each has a line and ends of its own, and no two could be taken for one
// another.
func (r *reader) vpns(f *File) {
	numbers := map[uint32]string{}
	lines := f.names("interface")
	for i := range f.VPNs {
		v := &f.VPNs[i]
		if face := slices.IndexFunc(f.Interfaces, func(x Interface) bool { return x.Name == v.Name && v.Name != "" }); face >= 0 {
			r.bad(v.src.place("name"), "config-vpn-name", v.Name, r.row(f.Interfaces[face].src.place("name")))
		}
		if v.Name == toBox {
			r.bad(v.src.place("name"), "config-name-reserved", toBox)
		}
		r.outer(f, v, lines)
		if other := numbers[v.IfID]; other != "" && v.IfID != 0 && other != v.Name {
			r.bad(v.src.place("if-id"), "config-vpn-if-id", v.Name, other, strconv.FormatUint(uint64(v.IfID), 10))
		} else {
			numbers[v.IfID] = v.Name
		}
		for j := range f.VPNs[:i] {
			r.apart(&f.VPNs[j], v)
		}
	}
}

// outer notes what is wrong with the ends that the line sees, and fills the
// local one in.
func (r *reader) outer(f *File, v *VPN, lines []string) {
	if !r.refer(v.src, "interface", "interface", v.Interface, lines) {
		return
	}
	line := f.face(v.Interface)
	if line.Side == firewall.Management {
		r.bad(v.src.place("interface"), "config-management-use", v.Interface, "[[vpn]]")
	}
	written := v.src.vals["local"] != nil
	switch {
	case !written && v.remoteAny && len(line.Addresses) > 0:
		v.Local = line.Addresses[0].Addr()
	case !written && v.Remote.IsValid() && len(line.Addresses) > 0:
		if v.Local = line.Own(v.Remote); !v.Local.IsValid() {
			r.bad(v.src.place("remote"), "config-vpn-family", v.Remote.String(), v.Interface)
		}
	case v.Local.IsValid() && !line.has(v.Local):
		r.bad(v.src.place("local"), "config-not-on-interface", "local", v.Local.String(), v.Interface)
	case v.Local.IsValid() && v.Remote.IsValid() && v.Local.Is4() != v.Remote.Is4():
		r.bad(v.src.place("remote"), "config-families", "remote", "local")
	}
	if f.own(v.Remote) {
		r.bad(v.src.place("remote"), "config-remote-own", v.Remote.String())
	}
}

// apart notes what makes two tunnels the same to who hears from their peers, or
// lets them lead to the same networks of different peers.
func (r *reader) apart(a, b *VPN) {
	if a.Name == b.Name || a.Name == "" || b.Name == "" {
		return // noted
	}
	ends := a.Local == b.Local && a.Local.IsValid() && (a.Remote == b.Remote || a.remoteAny || b.remoteAny)
	if ends && a.ID == b.ID && a.RemoteID == b.RemoteID {
		r.bad(b.src.at, "config-vpn-twice", a.Name, b.Name)
	}
	if a.RemoteID == b.RemoteID {
		return // two ways to one peer lead to the same
	}
	for _, y := range b.Protect {
		for _, x := range a.Protect {
			if x.Remote.Overlaps(y.Remote) && x.Remote.Bits() > 0 && y.Remote.Bits() > 0 {
				r.bad(b.src.place("protect"), "config-same-inside", y.Remote.String(), "[[vpn]]", b.Name, a.Name, r.row(a.src.place("protect")), x.Remote.String())
				return
			}
		}
	}
}

// lineOf is the interface whose line carries what leads over name: itself, or
// that below a tunnel.
func (f *File) lineOf(name string) string {
	if v := f.vpn(name); v != nil {
		return v.Interface
	}
	return name
}

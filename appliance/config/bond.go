package config

import (
	"net/netip"
	"regexp"
	"slices"
	"time"

	"komainu/netstack/spec"
)

// Bond is one [[bond]]: several ports that act as one link.
type Bond struct {
	Name    string   // the kernel's too
	Ports   []string // kernel's names, or places "pci:0000:02:00.0"
	Options spec.BondOptions

	src *table
}

// madeForm is a name of a link that the box makes: ".4094" behind it still fits
// into the kernel's 15 bytes.
var madeForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,9}$`)

// made is the name of such a link.
func (r *reader) made(t *table) string {
	s := r.form(t, "name", true, madeForm, "config-want-made")
	if reserved(s) || s == "dummy" {
		r.bad(t.place("name"), "config-want-made", "name", s)
		return ""
	}
	return s
}

// Looking at the carrier each 20 ms moves the traffic of a port that died
// within 60 ms; ARP costs packets, so it asks less often.
const (
	lookAtCarrier = 20 * time.Millisecond
	askByARP      = 100 * time.Millisecond
	maxTargets    = 16 // kernel: BOND_MAX_ARP_TARGETS
)

// bond: a port is used as soon as it has carrier (no updelay), LACP's partner
// is asked for a message each second, and one port is enough.
func (r *reader) bond(t *table) Bond {
	b := Bond{Name: r.made(t), src: t}
	r.strs(t, "ports", true, func(v *value, s string) {
		if p, ok := parsePlace(s); ok && p.vlan == 0 && !p.dummy {
			b.Ports = append(b.Ports, p.base)
			return
		}
		r.bad(v.at, "config-want-port", "ports", s)
	})
	o := &b.Options
	o.Mode = spec.BondMode(r.word(t, "mode", []string{string(spec.ActiveBackup), string(spec.LACP)}))
	arp := r.word(t, "monitor", []string{"carrier", "arp"}) == "arp"
	every := lookAtCarrier
	if arp {
		every = askByARP
	}
	every = r.duration(t, "interval", every, time.Millisecond, 10*time.Second)
	if ms := int(every / time.Millisecond); arp {
		o.ARPMon = ms
	} else {
		o.MIIMon = ms
	}
	o.Targets = r.addrs(t, "arp-targets", false)
	for i, a := range o.Targets {
		if !a.Is4() {
			r.bad(t.item("arp-targets", i), "config-want-ipv4", "arp-targets", a.String())
		}
	}
	if len(o.Targets) > maxTargets {
		r.bad(t.place("arp-targets"), "config-too-many-values", "arp-targets", "16")
	}
	if s := r.str(t, "primary", false); s != "" {
		p, ok := parsePlace(s)
		if o.Primary = p.base; !ok || !slices.Contains(b.Ports, p.base) {
			r.bad(t.place("primary"), "config-primary-not-port", s)
		}
	}
	o.Fast = r.word(t, "lacp-rate", []string{"fast", "slow"}) == "fast"
	o.MinLinks = int(r.number(t, "min-links", 1, 1, 8))
	r.bondMode(t, o.Mode == spec.LACP, arp)
	if len(b.Ports) > 0 && o.MinLinks > len(b.Ports) {
		r.bad(t.place("min-links"), "config-min-links")
	}
	if o.Mode != spec.LACP {
		o.Fast, o.MinLinks = false, 0
	}
	return b
}

// bondMode notes options that have no meaning beside the others.
func (r *reader) bondMode(t *table, lacp, arp bool) {
	only := func(key, with string) {
		if v := t.vals[key]; v != nil {
			r.bad(v.key, "config-only-with", key, with)
		}
	}
	const backup, partner = `mode = "active-backup"`, `mode = "802.3ad"`
	switch {
	case lacp && arp:
		only("monitor", backup)
	case arp && t.vals["arp-targets"] == nil:
		r.missing(t, "arp-targets")
	case !arp:
		only("arp-targets", `monitor = "arp"`)
	}
	if lacp {
		only("primary", backup)
	} else {
		only("lacp-rate", partner)
		only("min-links", partner)
	}
}

// Bridge is one [[bridge]]: links that act as a switch.
type Bridge struct {
	Name  string   // the kernel's too
	Ports []string // kernel's names, places, bonds, VLANs of them
	STP   bool     // spanning tree; default not

	links []string // the kernel's names of Ports, VLANs resolved
	src   *table
}

func (r *reader) bridge(t *table) Bridge {
	b := Bridge{Name: r.made(t), STP: r.yes(t, "stp", false), src: t}
	r.strs(t, "ports", false, func(v *value, s string) {
		p, ok := parsePlace(s)
		if !ok || p.dummy {
			r.bad(v.at, "config-want-link", "ports", s)
			return
		}
		b.Ports, b.links = append(b.Ports, s), append(b.links, p.link())
	})
	return b
}

// families tells which of the families as has.
func families(as []netip.Prefix) (v4, v6 bool) {
	for _, a := range as {
		v4, v6 = v4 || a.Addr().Is4(), v6 || a.Addr().Is6()
	}
	return v4, v6
}

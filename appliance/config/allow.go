package config

import (
	"net/netip"
	"strconv"
	"strings"
)

// Allow is one [[allow]]: connections that the firewall lets pass beyond those
// that follow from the rest of the file.
type Allow struct {
	Name        string
	From        string         // interface
	Source      []netip.Prefix // none: whoever belongs to From
	To          string         // interface, or "box": this box itself
	Destination []netip.Prefix // none: any; "box": its own addresses
	Service     []Port         // none: every protocol; not for "box"

	src *table
}

// Port is one "tcp/443", "udp/161" or "icmp".
type Port struct {
	Proto string
	Port  uint16 // 0: icmp
}

// toBox is the name of the box as the end of an [[allow]].
const toBox = "box"

func (r *reader) allow(t *table) Allow {
	a := Allow{Name: r.ident(t, "name"), From: r.ident(t, "from"), To: r.ident(t, "to"),
		Source: r.networks(t, "source"), Destination: r.networks(t, "destination"), src: t}
	r.strs(t, "service", a.To == toBox, func(v *value, s string) {
		proto, number, _ := strings.Cut(s, "/")
		n, err := strconv.ParseUint(number, 10, 16)
		switch {
		case s == "icmp" && a.To == toBox:
			r.bad(v.at, "config-allow-ping")
		case s == "icmp":
			a.Service = append(a.Service, Port{Proto: s})
		case proto != "tcp" && proto != "udp" || err != nil || n == 0:
			r.bad(v.at, "config-want-service", "service", s)
		default:
			a.Service = append(a.Service, Port{Proto: proto, Port: uint16(n)})
		}
	})
	return a
}

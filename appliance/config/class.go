package config

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"komainu/appliance/agent"
	"komainu/netstack/qos"
	"komainu/netstack/spec"
)

// Class is one [[class]]: traffic that lines treat alike. It changes one of the
// built-in classes, or adds one that is tried before them.
type Class struct {
	Name  string
	Match []qos.Match // none: a built-in class's own
	Paths []string    // best first; none: as its peer

	words []word // names of built-in classes among Match
	src   *table
}

// word is a built-in class that stands in a match.
type word struct {
	at   int
	name string
}

// Built-in classes by number, in the order in which they are tried; the last is
// what no other takes.
var builtinClasses = []string{"heartbeat", "time", "interactive", "replication", "bulk"}

const (
	restClass  = "business"
	ownClasses = qos.MaxClasses - 6 // that a file may add
)

// classNames are the names that the file knows.
func (f *File) classNames() []string {
	names := append(slices.Clone(builtinClasses), restClass)
	for _, c := range f.Classes {
		if !slices.Contains(names, c.Name) {
			names = append(names, c.Name)
		}
	}
	return names
}

// builtin is what a built-in class takes. Replication is what the box's own
// servers talk about with those of others; what it is elsewhere, a file says.
func (f *File) builtin(name string) []qos.Match {
	tcp := func(ports ...uint16) (all []qos.Match) {
		for _, p := range ports {
			all = append(all, qos.Match{Proto: "tcp", Port: p})
		}
		return all
	}
	udp := func(ports ...uint16) (all []qos.Match) {
		for _, p := range ports {
			all = append(all, qos.Match{Proto: "udp", Port: p})
		}
		return all
	}
	switch name {
	case "heartbeat":
		beats := f.Heartbeat.Port
		if beats == 0 {
			beats = HeartbeatPort
		}
		return append(udp(beats, probePort, ikePort, ikeNATPort), f.ordersMatch()...)
	case "time":
		return append(udp(123), tcp(4460)...)
	case "interactive":
		return append(tcp(22, 23, 3389), udp(3389)...)
	case "replication":
		var all []qos.Match
		for _, d := range f.Databases {
			for _, a := range []netip.AddrPort{d.Server} {
				if a.IsValid() {
					all = append(all, qos.Match{Proto: "tcp", Port: 5432, Network: netip.PrefixFrom(a.Addr(), a.Addr().BitLen())})
				}
			}
		}
		return all
	case "bulk":
		return append(tcp(21, 139, 445, 873), udp(445)...)
	}
	return nil
}

// Ports of IKE (RFC 7296 section 2).
const ikePort, ikeNATPort = 500, 4500

// ordersMatch is the port of orders between the boxes.
func (f *File) ordersMatch() []qos.Match {
	var all []qos.Match
	for _, a := range f.Orders.Listen {
		all = append(all, qos.Match{Proto: "tcp", Port: a.Port()})
	}
	for _, p := range f.Peers {
		if p.Orders.IsValid() {
			all = append(all, qos.Match{Proto: "tcp", Port: p.Orders.Port()})
		}
	}
	slices.SortFunc(all, func(a, b qos.Match) int { return int(a.Port) - int(b.Port) })
	return slices.Compact(all)
}

// classes are all classes of the box, in the order in which they are tried. The
// file's own have the numbers behind the built-in ones.
func (f *File) classes() []qos.Class {
	find := func(name string) *Class {
		for i := range f.Classes {
			if f.Classes[i].Name == name {
				return &f.Classes[i]
			}
		}
		return nil
	}
	matchOf := func(c *Class, name string) []qos.Match {
		if c == nil || len(c.Match) == 0 && len(c.words) == 0 {
			return f.builtin(name)
		}
		all := slices.Clone(c.Match)
		for _, w := range c.words {
			all = append(all, f.builtin(w.name)...)
		}
		return all
	}
	var own, builtin []qos.Class
	number := uint8(len(builtinClasses)) + 1
	for i := range f.Classes {
		c := &f.Classes[i]
		if slices.Contains(builtinClasses, c.Name) || c.Name == restClass {
			continue
		}
		own = append(own, qos.Class{Name: c.Name, Number: number, Match: matchOf(c, ""), Paths: c.Paths})
		number++
	}
	for i, name := range builtinClasses {
		x := qos.Class{Name: name, Number: uint8(i + 1), Match: matchOf(find(name), name)}
		if c := find(name); c != nil {
			x.Paths = c.Paths
		}
		if len(x.Match) > 0 { // without, nothing would be left for the rest
			builtin = append(builtin, x)
		}
	}
	rest := qos.Class{Name: restClass, Number: qos.MaxClasses}
	if c := find(restClass); c != nil {
		rest.Paths = c.Paths
	}
	return append(append(own, builtin...), rest)
}

func (r *reader) class(t *table) Class {
	c := Class{Name: r.ident(t, "name"), src: t}
	r.strs(t, "match", false, func(v *value, s string) {
		if slices.Contains(builtinClasses, s) {
			c.words = append(c.words, word{v.at, s})
			return
		}
		if m, ok := parseMatch(s); ok {
			c.Match = append(c.Match, m)
		} else {
			r.bad(v.at, "config-want-match", "match", s)
		}
	})
	r.strs(t, "paths", false, func(v *value, s string) {
		if slices.Contains(c.Paths, s) {
			r.bad(v.at, "config-value-twice", "paths", s)
			return
		}
		c.Paths = append(c.Paths, s)
	})
	return c
}

// parseMatch reads "tcp/5432", "udp/5000-5010", "10.1.4.0/24",
// "tcp/5432 10.1.4.20/32", "tcp".
func parseMatch(s string) (m qos.Match, ok bool) {
	for _, w := range strings.Fields(s) {
		proto, ports, ported := strings.Cut(w, "/")
		if proto == "tcp" || proto == "udp" {
			if m.Proto != "" {
				return m, false
			}
			m.Proto = proto
			if !ported {
				continue
			}
			first, last, ranged := strings.Cut(ports, "-")
			a, err1 := strconv.ParseUint(first, 10, 16)
			b, err2 := a, error(nil)
			if ranged {
				b, err2 = strconv.ParseUint(last, 10, 16)
			}
			if err1 != nil || err2 != nil || a == 0 || b < a {
				return m, false
			}
			m.Port = uint16(a)
			if ranged {
				m.Last = uint16(b)
			}
			continue
		}
		p, err := netip.ParsePrefix(w)
		if err != nil || p != p.Masked() || p.Addr().Is4In6() || m.Network.IsValid() {
			return m, false
		}
		m.Network = p
	}
	return m, m != qos.Match{}
}

// Routing of marked packets, one table and one priority of rules a class.
const (
	classTable    = 1900 // + number
	classPriority = 1000 // + number
)

// classPaths are the classes with an order of paths of their own.
func (f *File) classPaths() []agent.ClassPath {
	var all []agent.ClassPath
	for _, c := range f.Sharing().Classes {
		if len(c.Paths) > 0 {
			all = append(all, agent.ClassPath{Class: c.Name, Table: classTable + uint32(c.Number), Paths: c.Paths})
		}
	}
	return all
}

// classRules lead marked packets to the tables of their classes.
func (b *builder) classRules() {
	for _, c := range b.f.Sharing().Classes {
		if len(c.Paths) == 0 {
			continue
		}
		for _, all := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			b.n.Rules = append(b.n.Rules, spec.Rule{Priority: classPriority + uint32(c.Number), From: everything(all), Mark: uint32(c.Number) << qos.MarkShift, Mask: qos.MarkMask,
				Table: classTable + uint32(c.Number)})
		}
	}
}

package config

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"komainu/netstack/firewall"
	"komainu/netstack/qos"
)

// QoS is one [[qos]]: how a line is shared.
type QoS struct {
	Interface string
	Rate      uint64 // bit/s
	Kind      qos.Kind
	Overhead  int
	Classes   []ClassRate
	Peers     []PeerShare

	src *table
}

// ClassRate is one of class of [[qos]].
type ClassRate struct {
	qos.Rate
	when string
	src  *table
}

// PeerShare is one of peer of [[qos]].
type PeerShare struct {
	Name     string
	Min, Max uint64
	Prio     uint8

	src *table
}

// rateUnits are bits per second; bytes are counted in thousands, as providers do.
var rateUnits = []struct {
	name string
	bits uint64
}{{"gbit", 1e9}, {"mbit", 1e6}, {"kbit", 1e3}, {"MB/s", 8e6}, {"KB/s", 8e3}, {"bit", 1}}

// Bounds of a rate: HTB counts bytes per second in 32 bits.
const leastRate, mostRate = 8_000, 34_000_000_000

// bits is a rate like "100mbit" or "48KB/s"; 0 if absent or wrong.
func (r *reader) bits(t *table, key string, required bool) uint64 {
	s := r.str(t, key, required)
	if s == "" {
		return 0
	}
	for _, u := range rateUnits {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || f < 0 || f > mostRate {
			break
		}
		n := uint64(f * float64(u.bits))
		if n < leastRate || n > mostRate {
			r.bad(t.place(key), "config-rate-range", key, s)
			return 0
		}
		return n
	}
	r.bad(t.place(key), "config-want-bits", key, s)
	return 0
}

func (r *reader) qos(t *table) QoS {
	q := QoS{Interface: r.ident(t, "interface"), Rate: r.bits(t, "rate", true), Kind: qos.Kind(r.word(t, "kind", []string{string(qos.HTB), string(qos.CAKE)})),
		Overhead: int(r.number(t, "overhead", 0, 0, 200)), src: t}
	r.children(t, "class", func(t *table) {
		c := ClassRate{src: t, when: r.str(t, "when", false)}
		c.Class, c.Min, c.Max, c.Prio = r.ident(t, "name"), r.bits(t, "min", false), r.bits(t, "max", false), uint8(r.number(t, "prio", 4, 0, 7))
		if c.when != "" {
			var err error
			if c.When, err = qos.ParseSpan(c.when); err != nil {
				r.bad(t.place("when"), "config-want-hours", "when", c.when)
			}
		}
		q.Classes = append(q.Classes, c)
	})
	r.children(t, "peer", func(t *table) {
		q.Peers = append(q.Peers, PeerShare{Name: r.ident(t, "name"), Min: r.bits(t, "min", false), Max: r.bits(t, "max", false),
			Prio: uint8(r.number(t, "prio", 4, 0, 7)), src: t})
	})
	return q
}

// sharing checks what [[class]] and [[qos]] say together with the rest.
func (r *reader) sharing(f *File) {
	own := 0
	for _, c := range f.Classes {
		for i, p := range c.Paths {
			if !slices.Contains(f.names("path"), p) {
				r.bad(c.src.item("paths", i), "config-refers", "paths", p, "[[path]]", strings.Join(f.names("path"), ", "))
			}
		}
		switch builtin := slices.Contains(builtinClasses, c.Name); {
		case c.Name == "":
		case c.Name == restClass && (len(c.Match) > 0 || len(c.words) > 0):
			r.bad(c.src.place("match"), "config-class-rest", restClass)
		case builtin || c.Name == restClass:
		case len(c.Match) == 0 && len(c.words) == 0:
			r.missing(c.src, "match")
		default:
			if own++; own > ownClasses {
				r.bad(c.src.at, "config-class-many", strconv.Itoa(ownClasses))
			}
		}
	}
	seen := map[string]*table{}
	for _, q := range f.QoS {
		if first := seen[q.Interface]; first != nil && q.Interface != "" {
			r.bad(q.src.place("interface"), "config-name-twice", q.Interface, q.src.name, r.row(first.at))
		}
		seen[q.Interface] = q.src
		if r.refer(q.src, "interface", "interface", q.Interface, f.names("interface")) && f.face(q.Interface).Side == firewall.Management {
			r.bad(q.src.place("interface"), "config-qos-management", q.Interface)
		}
		if q.Kind == qos.CAKE && (len(q.Classes) > 0 || len(q.Peers) > 0) {
			r.bad(q.src.place("kind"), "config-qos-cake")
		}
		r.shares(f, q)
	}
}

// shares checks the rates of one line.
func (r *reader) shares(f *File, q QoS) {
	always := map[string]*table{}
	var sure uint64 // of classes without hours
	for _, c := range q.Classes {
		r.refer(c.src, "name", "class", c.Class, f.classNames())
		r.within(c.src, c.Min, c.Max, q.Rate)
		if c.when != "" || c.Class == "" {
			continue
		}
		if first := always[c.Class]; first != nil {
			r.bad(c.src.place("name"), "config-name-twice", c.Class, c.src.name, r.row(first.at))
			continue
		}
		always[c.Class] = c.src
		sure += c.Min
	}
	seen := map[string]bool{}
	var peers uint64
	for _, p := range q.Peers {
		r.refer(p.src, "name", "peer", p.Name, f.names("peer"))
		r.within(p.src, p.Min, p.Max, q.Rate)
		if seen[p.Name] && p.Name != "" {
			r.bad(p.src.place("name"), "config-qos-peer-twice", p.Name)
		}
		seen[p.Name] = true
		peers += p.Min
	}
	kbit := func(bits uint64) string { return strconv.FormatUint(bits/1000, 10) }
	if q.Rate != 0 && sure > q.Rate {
		r.bad(q.src.place("class"), "config-qos-sum", "class", kbit(sure), kbit(q.Rate))
	} else if most, at := r.hours(q); q.Rate != 0 && most > q.Rate {
		r.bad(q.src.place("class"), "config-qos-sum-at", kbit(most), kbit(q.Rate), at.String())
	}
	if q.Rate != 0 && peers > q.Rate {
		r.bad(q.src.place("peer"), "config-qos-sum", "peer", kbit(peers), kbit(q.Rate))
	}
}

// hours checks that a class has one rate at any time, and returns the most that is
// guaranteed to all classes together at a moment, in bit/s.
func (r *reader) hours(q QoS) (most uint64, when qos.Moment) {
	var spans []qos.Span
	for _, c := range q.Classes {
		spans = append(spans, c.When)
	}
	told := map[*table]bool{}
	for _, at := range qos.Moments(spans) {
		now := map[string]ClassRate{}
		for _, c := range q.Classes {
			switch first, found := now[c.Class]; {
			case !c.When.Always() && !c.When.Holds(at), c.Class == "", c.When.Always() && found:
			case !found || first.When.Always():
				now[c.Class] = c
			case !told[c.src]:
				told[c.src] = true
				r.bad(c.src.place("when"), "config-qos-overlap", c.Class, first.when, r.row(first.src.at), at.String())
			}
		}
		var sum uint64
		for _, c := range now {
			sum += c.Min
		}
		if sum > most {
			most, when = sum, at
		}
	}
	return most, when
}

// within notes a guarantee above its bound, or either above the line.
func (r *reader) within(t *table, least, most, line uint64) {
	switch {
	case most != 0 && least > most:
		r.bad(t.place("min"), "config-qos-min")
	case line != 0 && least > line:
		r.bad(t.place("min"), "config-qos-line", "min")
	case line != 0 && most > line:
		r.bad(t.place("max"), "config-qos-line", "max")
	}
}

// Sharing is how the box's lines are shared.
func (f *File) Sharing() qos.Plan {
	var p qos.Plan
	if len(f.QoS) == 0 && len(f.Classes) == 0 {
		return p
	}
	p.Classes = f.classes()
	for _, q := range f.QoS {
		l := qos.Line{Name: q.Interface, Link: f.face(q.Interface).Link, Kind: q.Kind, Rate: q.Rate, Overhead: q.Overhead}
		for _, c := range q.Classes {
			l.Classes = append(l.Classes, c.Rate)
		}
		for _, s := range q.Peers {
			share := qos.Share{Peer: s.Name, Min: s.Min, Max: s.Max, Prio: s.Prio}
			for _, x := range f.Peers {
				if x.Name == s.Name {
					share.Networks = slices.Clone(x.Networks)
				}
			}
			for _, x := range f.Paths { // heartbeats and probes go to its end of the tunnel
				if x.Peer == s.Name {
					at := netip.PrefixFrom(x.Remote, x.Remote.BitLen())
					if !slices.ContainsFunc(share.Networks, func(n netip.Prefix) bool { return n.Overlaps(at) }) {
						share.Networks = append(share.Networks, at)
					}
				}
			}
			l.Shares = append(l.Shares, share)
		}
		p.Lines = append(p.Lines, l)
	}
	return p
}

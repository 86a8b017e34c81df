package firewall

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// some are networks of one family as rules name them: one, or a set. The zero
// value: any.
type some struct {
	one netip.Prefix
	set string
}

// some names networks of one family; a set is called after word.
func (b *builder) some(word string, networks []netip.Prefix) some {
	networks = merge(networks)
	switch len(networks) {
	case 0:
		return some{}
	case 1:
		return some{one: networks[0]}
	}
	return some{set: b.set(word, networks)}
}

// set is the name of the set of merged networks of one family.
func (b *builder) set(word string, networks []netip.Prefix) string {
	v6 := !networks[0].Addr().Is4()
	var key strings.Builder
	for _, p := range networks {
		key.WriteString(p.String() + " ")
	}
	name, ok := b.known[key.String()]
	if !ok {
		suffix := "4"
		if v6 {
			suffix = "6"
		}
		name = b.unique(slug(word) + suffix)
		b.known[key.String()] = name
		b.sets = append(b.sets, Set{Name: name, V6: v6, Networks: networks})
	}
	return name
}

// both are the networks of each family of which there are any.
func (b *builder) both(word string, networks []netip.Prefix) []some {
	var all []some
	for _, v6 := range []bool{false, true} {
		if n := family(networks, v6); len(n) > 0 {
			all = append(all, b.some(word, n))
		}
	}
	return all
}

// ends are rules that match senders and receivers, one for each family that
// both have; empty: any.
func (b *builder) ends(word string, from, to []netip.Prefix) []Rule {
	if len(from) == 0 && len(to) == 0 {
		return []Rule{{}}
	}
	var rules []Rule
	for _, v6 := range []bool{false, true} {
		f, t := family(from, v6), family(to, v6)
		if len(from) > 0 && len(f) == 0 || len(to) > 0 && len(t) == 0 {
			continue
		}
		src, dst := b.some("by_"+word, f), b.some("to_"+word, t)
		rules = append(rules, Rule{V4: !v6, V6: v6, Src: src.one, SrcSet: src.set, Dst: dst.one, DstSet: dst.set})
	}
	return rules
}

// unique is name, with a number if it is taken.
func (b *builder) unique(name string) string {
	n := name
	for i := 2; b.names[n]; i++ {
		n = name + "_" + strconv.Itoa(i)
	}
	b.names[n] = true
	return n
}

// slug makes an identifier of nft's language of any text.
func slug(s string) string {
	const longest = 40
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '_'
	}, s)
	if s == "" || s[0] < 'a' {
		s = "n" + s
	}
	return s[:min(len(s), longest)]
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func prefixes(list ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(list))
	for i, s := range list {
		all[i] = prefix(s)
	}
	return all
}

func whole(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func single(addrs []netip.Addr) []netip.Prefix {
	all := make([]netip.Prefix, len(addrs))
	for i, a := range addrs {
		all[i] = whole(a)
	}
	return all
}

// family are the networks of one family, without those that aren't valid.
func family(networks []netip.Prefix, v6 bool) []netip.Prefix {
	var some []netip.Prefix
	for _, p := range networks {
		if p.IsValid() && p.Addr().Is4() != v6 {
			some = append(some, p)
		}
	}
	return some
}

// merge sorts networks by address and leaves out what lies in others.
func merge(networks []netip.Prefix) []netip.Prefix {
	var all, out []netip.Prefix
	for _, p := range networks {
		if p.IsValid() {
			all = append(all, p.Masked())
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	for _, p := range all {
		if len(out) == 0 || !covers(out[len(out)-1], p) {
			out = append(out, p)
		}
	}
	return out
}

// covers says whether all of p lies in q.
func covers(q, p netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) }

// without takes out of networks those holes that are smaller than the one they
// lie in: the longer prefix wins, as in routing.
func without(networks, holes []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range networks {
		if p.IsValid() {
			out = append(out, cut(p.Masked(), holes)...)
		}
	}
	return out
}

func cut(p netip.Prefix, holes []netip.Prefix) []netip.Prefix {
	smaller := slices.DeleteFunc(slices.Clone(holes), func(h netip.Prefix) bool {
		return !h.IsValid() || h.Bits() <= p.Bits() || !p.Contains(h.Addr())
	})
	if len(smaller) == 0 {
		return []netip.Prefix{p}
	}
	var out []netip.Prefix
	for _, half := range halves(p) {
		if !slices.ContainsFunc(smaller, func(h netip.Prefix) bool { return h.Masked() == half }) {
			out = append(out, cut(half, smaller)...)
		}
	}
	return out
}

// halves of p, which is no single address.
func halves(p netip.Prefix) [2]netip.Prefix {
	high := p.Addr().AsSlice()
	high[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	a, _ := netip.AddrFromSlice(high)
	return [2]netip.Prefix{netip.PrefixFrom(p.Addr(), p.Bits()+1), netip.PrefixFrom(a, p.Bits()+1)}
}

// last is the last address of a network.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < 8*len(b); bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

package server

import (
	"net/netip"
	"slices"
	"sort"
)

// networks are the served addresses as ranges in order that don't touch, so
// that a hub with thousands of networks costs some steps of a binary search.
type networks []span

type span struct{ first, last netip.Addr }

// merge makes networks of prefixes, which may overlap. Invalid ones are left out.
func merge(prefixes []netip.Prefix) networks {
	var spans networks
	for _, p := range prefixes {
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		if p.IsValid() {
			spans = append(spans, span{p.Masked().Addr(), last(p)})
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return a.first.Compare(b.first) })
	out := spans[:0]
	for _, s := range spans {
		if n := len(out); n > 0 && out[n-1].last.BitLen() == s.first.BitLen() && s.first.Compare(out[n-1].last) <= 0 {
			if out[n-1].last.Less(s.last) {
				out[n-1].last = s.last
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// last is the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b) // of the length of an address
	return a
}

// contain says whether a, which has no zone and isn't an IPv4 address in IPv6's
// clothes, is served.
func (n networks) contain(a netip.Addr) bool {
	i := sort.Search(len(n), func(i int) bool { return a.Less(n[i].first) })
	return i > 0 && !n[i-1].last.Less(a)
}

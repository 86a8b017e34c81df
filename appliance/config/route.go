package config

import "net/netip"

// Route is one [[route]]: a network behind a next hop, beyond those of peers,
// to which the paths lead.
type Route struct {
	Name      string
	To        netip.Prefix
	Via       netip.Addr   // zero: the hosts are on the link
	Interface string       // default: the one in whose network Via is
	Metric    uint32       // lower wins; default 100
	From      netip.Prefix // only packets from there; zero: all
	Track     string       // path that must be up while there is another route; empty: the link's carrier

	src *table
}

func (r *reader) route(t *table) Route {
	x := Route{Name: r.ident(t, "name"), To: r.network(t, "to", true), Via: r.addr(t, "via", false), From: r.network(t, "from", false),
		Metric: uint32(r.number(t, "metric", defaultMetric, 1, 1<<31)), src: t}
	if t.vals["interface"] != nil {
		x.Interface = r.ident(t, "interface")
	} else if r.get(t, "interface"); t.vals["via"] == nil {
		r.missing(t, "via")
	}
	if t.vals["track"] != nil {
		x.Track = r.ident(t, "track")
	}
	r.get(t, "track")
	return x
}

// network is one prefix without host bits.
func (r *reader) network(t *table, key string, required bool) netip.Prefix {
	var out netip.Prefix
	r.strs(t, key, required, func(v *value, s string) {
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil || p.Addr().Is4In6():
			r.bad(v.at, "config-want-network", key, s)
		case p != p.Masked():
			r.bad(v.at, "config-host-bits", key, s, p.Masked().String())
		case out.IsValid():
			r.bad(v.at, "config-want-one", key)
		default:
			out = p
		}
	})
	return out
}

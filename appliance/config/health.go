package config

import "net/netip"

// Health is [health]: where monitoring asks. Without it nothing listens.
type Health struct {
	Listen []netip.AddrPort

	named []listenOn // not resolved yet
	src   *table
}

// listenOn is "interface:port": every address of that interface.
type listenOn struct {
	name string
	port uint16
	at   int
}

func (r *reader) health(root *table) Health {
	t := r.child(root, "health", false)
	if t == nil {
		return Health{}
	}
	defer r.done(t)
	h := Health{src: t}
	r.strs(t, "listen", true, func(v *value, s string) {
		if n, ok := namedListener(v, s); ok {
			h.named = append(h.named, n)
			return
		}
		if e, ok := r.endpoint(v, "listen", s); ok {
			h.Listen = append(h.Listen, e)
		}
	})
	r.later(t, "mail", "snmp", "syslog", "trap")
	return h
}

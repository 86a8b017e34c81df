package config

import (
	"net/netip"

	"komainu/appliance/agent"
)

// Peer is one [[peer]]: another box that this one hears and speaks to.
type Peer struct {
	Name     string // its site name, and the name in its certificate
	Role     agent.Role
	Networks []netip.Prefix // behind it: routed over the best path to it
	Source   []netip.Addr   // own addresses for our own traffic to these networks, one per family
	Orders   netip.AddrPort // where it takes orders; zero: it gets none from us
	Key      string         // "secret:NAME" of its heartbeats; empty: that of [heartbeat]

	src *table
}

func (r *reader) peer(t *table) Peer {
	p := Peer{Name: r.ident(t, "name"), Role: r.role(t), Networks: r.networks(t, "networks"), Source: r.addrs(t, "source", true),
		Key: r.secret(t, "key", false), src: t}
	if s := r.str(t, "orders", false); s != "" {
		p.Orders, _ = r.endpoint(t.vals["orders"], "orders", s)
	}
	return p
}

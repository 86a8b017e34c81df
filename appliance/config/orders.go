package config

import (
	"net/netip"

	"komainu/appliance/agent"
)

// Orders is [orders]: how boxes order each other, over mutual TLS.
type Orders struct {
	Listen      []netip.AddrPort // one per family; none on a town-hall box, which only gives orders
	Certificate string           // of this box: "secret:NAME" or a path, PEM
	Key         string           // likewise
	CA          string           // authority of all boxes, likewise

	src *table
}

func (r *reader) orders(root *table, role agent.Role) Orders {
	t := r.child(root, "orders", true)
	if t == nil {
		return Orders{}
	}
	defer r.done(t)
	return Orders{Listen: r.endpoints(t, "listen", role == agent.DCEdge || role == agent.DCDB), Certificate: r.file(t, "certificate", true),
		Key: r.file(t, "key", true), CA: r.file(t, "ca", true), src: t}
}

package config

import "net/netip"

// Path is one [[path]]: a way to a peer, with a heartbeat of its own. The
// order of paths in the file is their rank: the first usable one carries.
type Path struct {
	Name      string
	Peer      string
	Interface string
	Local     netip.Addr   // ours, on Interface
	Remote    netip.Addr   // the peer's, of the same family
	Gateway   []netip.Addr // next hops of the peer's networks over this path, one per family; none: no routes
	Port      uint16       // of the heartbeats; default: that of [heartbeat]

	src *table
}

func (r *reader) path(t *table) Path {
	return Path{Name: r.ident(t, "name"), Peer: r.ident(t, "peer"), Interface: r.ident(t, "interface"),
		Local: r.addr(t, "local", true), Remote: r.addr(t, "remote", true), Gateway: r.addrs(t, "gateway", true),
		Port: uint16(r.number(t, "port", 0, 1, 65535)), src: t}
}

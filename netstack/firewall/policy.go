// Package firewall turns a policy (zones, who may come in, what may pass) into
// the rules of the table komainu_filter: closed by default, refusals counted
// and logged (OFD-17, OFD-20). It touches nothing; drivers/nft applies rules
// and reads them back. Start reading at Policy and Rules.
package firewall

import "net/netip"

// Side is what kind of network a zone is.
type Side string

// The sides. Service is where clients are, WAN the lines, Management the port
// of the people who run the box (VIR-21), Tunnel the inside of the closed line.
const (
	WAN        Side = "wan"
	Service    Side = "service"
	Management Side = "management"
	Tunnel     Side = "tunnel"
)

// Policy is all that the firewall is told. Everything that it doesn't allow is
// refused.
type Policy struct {
	Zones   []Zone
	Accept  []Accept
	Forward []Forward
	// Own are links whose packets were let through before they came here: the
	// queue of connections that wait in a hand-over.
	Own []string
}

// Zone is one interface of the configuration.
type Zone struct {
	Name string // in the configuration: "office"
	Side Side
	Link string // the kernel's name; a place with a colon: the port isn't there
	VRF  string // device of the VRF that the link belongs to; empty: none
	// Networks are the sources that belong behind the link; others are refused
	// as spoofed. Those of a tunnel belong to no line: they neither come in nor
	// leave by one, with or without an association (AT-173). Several tunnels, to
	// one peer, may have the same.
	Networks []netip.Prefix
	// Any source may come in, but those of other zones only: a default route
	// leads there. It is so too where there are no Networks, as on a line.
	Any bool
	// Addresses are the box's own there, with the lengths of their networks.
	Addresses []netip.Prefix
}

// Accept lets packets in to the box itself.
type Accept struct {
	Name  string         // for counters and logs: "heartbeat main", "ssh"
	Zone  string         // name of a zone; empty: any
	From  []netip.Prefix // registered peers; empty: whoever belongs to the zone
	To    []netip.Addr   // own addresses; empty: any of them
	Proto string         // "tcp", "udp", "esp" (RFC 4303)
	Ports []uint16       // tcp, udp
	// Outer packets are those of tunnels on their line: who sends them may belong
	// to what is inside, and they leave towards it.
	Outer bool
	// Stateless packets are kept out of connection tracking, in and out: NTP,
	// whose clients would fill its table, and tunnels, whose every packet would
	// be looked up for nothing.
	Stateless bool
}

// Forward lets connections pass through the box, and their replies.
type Forward struct {
	Name     string
	FromZone string
	From     []netip.Prefix // empty: whoever belongs to the zone
	ToZone   string         // empty: any
	To       []netip.Prefix // empty: any
	Proto    string         // "tcp", "udp", "icmp" (of both families); empty: all
	Ports    []uint16       // tcp, udp; empty: all
}

// Package agent composes the cores into one decision function, Step: an event
// in, ordered actions out. It holds all state of a box but time's, has no
// goroutine, no clock and no randomness, and never touches the world: the
// shell executes actions and reports their results as events. Start reading at
// Agent.Step; then group.go (town hall) and host.go (database host).
package agent

import (
	"net/netip"
	"time"

	"komainu/failover/machine"
	"komainu/netstack/spec"
	"komainu/netstack/steer"
)

// Role is what a box is for.
type Role string

// The roles.
const (
	TownHall Role = "town-hall"
	DCEdge   Role = "dc-edge"
	DCDB     Role = "dc-db"
)

// Spec is what the agent is told once: a box's configuration as values.
type Spec struct {
	Site      string
	Role      Role
	Ground    Ground
	Paths     []Path
	Peers     []Peer
	Services  []Service // town hall
	Groups    []machine.Policy
	Databases []Database
	LookEvery time.Duration // how often servers are looked at
}

// Path is one way to a peer, with its heartbeat.
type Path struct {
	Name     string
	Peer     string
	Link     string
	Interval time.Duration
	Mult     uint8
	Gateways []netip.Addr // next hops of the peer's networks over this path, v4 and v6; empty: no routes, unless Tunnel
	MTU      int          // of a Tunnel: fixed by the configuration; 0: found
	Tunnel   bool         // Link is the inside of a tunnel: the peer's networks are behind it without a next hop
}

// Peer is another box.
type Peer struct {
	Name     string
	Role     Role
	Networks []netip.Prefix // behind it, routed over the chosen path
	Sources  []netip.Addr   // preferred sources of our own traffic to them, v4 and v6
}

// Service is a stable address with its endpoints, once per address family.
type Service struct {
	Name   string
	Group  string // "site/group"
	Link   string // carries the stable addresses
	Steer  []steer.Service
	Fail   int // probes in a row that say "unusable"
	OK     int // probes in a row that say "usable" again
	Locked bool
}

// Addresses are the stable addresses of s on its link.
func (s Service) Addresses() []spec.Address {
	var out []spec.Address
	for _, x := range s.Steer {
		a := x.Stable.Addr()
		out = append(out, spec.Address{Link: s.Link, Prefix: netip.PrefixFrom(a, a.BitLen())})
	}
	return out
}

// Database is one PostgreSQL cluster of this box.
type Database struct {
	Name    string
	Group   string         // "site/group"
	Primary netip.AddrPort // the DC's server, as the town hall reaches it
	Server  netip.AddrPort // this box's server, as the other side reaches it
	Port    uint16         // where the server listens
	Peers   []netip.Addr   // replication peers
	Never   bool           // write = "never"
	MaxLag  time.Duration  // alarm only; 0: none
	SeqGap  int64          // how far sequences advance at a promotion that may have lost something
}

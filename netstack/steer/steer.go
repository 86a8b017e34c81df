// Package steer says where the clients of each service go, as values. The
// whole table is the desired state; drivers/nft makes the kernel look like it
// in one transaction. Nothing here decides when to switch: failover/machine
// does.
package steer

import "net/netip"

// Target is where one service's clients go.
type Target uint8

// The targets.
const (
	None   Target = iota // refused with a reset
	DC                   // the data centre's endpoint
	Local                // the box's own endpoint
	Parked               // new connections wait, none is answered or refused
)

var targetNames = [...]string{"none", "dc", "local", "parked"}

func (t Target) String() string { return targetNames[t] }

// Service is a stable address that clients use, with its two endpoints.
// A dual-stack service is two Services with the same Name and Mark.
type Service struct {
	Name     string
	Mark     uint8          // 1..255, unique per service on a box; the low byte of the connection mark
	Protocol string         // "tcp" or "udp"
	Stable   netip.AddrPort // what clients connect to
	DC       netip.AddrPort
	Local    netip.AddrPort // where the local server really listens
	Locked   netip.AddrPort // listener of ours that refuses; zero if the service has none
	Direct   netip.AddrPort // the local endpoint as clients may know it; leads to Local in local modes, to Locked otherwise; zero if none
}

// Entry is one service with its present target. Epoch grows with every move
// of its group; it stands in bits 8..23 of the connection mark, so that the
// flows of an older epoch can be told apart and removed.
type Entry struct {
	Service
	Target Target
	Epoch  uint16
}

// Table is the whole of what the box steers, sorted by Name and Stable.
type Table struct{ Entries []Entry }

// ConnMark is the mark of connections that were opened under e.
func (e Entry) ConnMark() uint32 { return uint32(e.Epoch)<<8 | uint32(e.Mark) }

// Mask bits of the connection mark.
const (
	ServiceMask uint32 = 0x0000ff
	EpochMask   uint32 = 0xffff00
)

// Gate is the point where a database server's replies leave and its clients
// enter, on the host that runs it. Closed: new clients are reset and no reply
// leaves, whatever connection it belongs to. Open: only connections that were
// opened in Epoch talk. Replication peers pass in both states.
type Gate struct {
	Name  string // database
	Port  uint16 // where the server listens
	Open  bool
	Epoch uint16
	Peers []netip.Addr // replication peers, never refused
}

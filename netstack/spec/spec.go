// Package spec holds the network as values: links, addresses, routes and policy
// rules that the box wants, or that a kernel has. It decides nothing;
// netstack/plan compares, drivers/rtnl observes and applies.
package spec

import "net/netip"

// Network is what a box wants of its kernel, or what the kernel has.
type Network struct {
	Links     []Link
	Addresses []Address
	Routes    []Route
	Rules     []Rule
}

// Kind is what a link is.
type Kind string

// The kinds. A Port is hardware that stands there; the box makes the others
// (rtnetlink's IFLA_INFO_KIND). External is a link that somebody else manages:
// the box adds its addresses and routes there and changes nothing else.
const (
	Port     Kind = "port"
	Bond     Kind = "bond"
	VLAN     Kind = "vlan"
	Bridge   Kind = "bridge"
	Dummy    Kind = "dummy"
	VRF      Kind = "vrf"
	XFRM     Kind = "xfrm" // the inside of a tunnel (kernel: net/xfrm/xfrm_interface)
	External Kind = "external"
)

// Link is one network interface.
type Link struct {
	// Name is the kernel's, at most 15 bytes. That of a wanted Port may be a
	// place instead, "pci:0000:02:00.0" (or "pci:0000:02:00.0/1", the second
	// port of a card whose ports share one place): plan.Resolve puts the
	// kernel's name there.
	Name   string
	Kind   Kind
	Label  string // name in the configuration; the kernel keeps "komainu:LABEL" as the alias, which marks the link as ours
	MTU    int    // bytes; 0: what the kernel gave
	Master string // bond, bridge or VRF that it belongs to; empty: none
	Up     bool

	Bond   BondOptions // Kind Bond
	Parent string      // Kind VLAN: the link that carries it
	VLAN   uint16      // Kind VLAN: 1-4094 (IEEE 802.1Q)
	Table  uint32      // Kind VRF: its routing table
	STP    bool        // Kind Bridge: spanning tree (IEEE 802.1D)
	IfID   uint32      // Kind XFRM: what its security associations have too, not 0

	// Only in what the kernel has.
	Ours    bool // made or managed by us, by its alias
	Carrier bool // the other end is there (IFF_LOWER_UP)
	Index   int
}

// BondMode says how a bond uses its ports (kernel: Documentation/networking/bonding.rst).
type BondMode string

// The modes.
const (
	ActiveBackup BondMode = "active-backup"
	LACP         BondMode = "802.3ad"
)

// BondOptions are the settings of a bond. The zero value of the kernel's own
// defaults is never used: config fills every field.
type BondOptions struct {
	Mode    BondMode
	MIIMon  int          // ms between looks at the carrier; 0: not by carrier
	ARPMon  int          // ms between ARP requests to Targets, active-backup only; 0: not by ARP
	Targets []netip.Addr // IPv4 addresses that must answer, 16 at most
	Primary string       // port that is used whenever it works, active-backup; empty: the one in use stays
	// Fast asks the partner for an LACPDU each second instead of each 30 s.
	Fast     bool
	MinLinks int // 802.3ad: fewer ports with a partner take the bond's carrier away
}

// Address is one address on one link.
type Address struct {
	Link   string
	Prefix netip.Prefix // with host bits

	// Only in what the kernel has.
	Tentative bool // IPv6: duplicate detection isn't over (RFC 4862)
	Duplicate bool // IPv6: somebody else has it (IFA_F_DADFAILED)
}

// Is tells whether a and b are the same address on the same link.
func (a Address) Is(b Address) bool { return a.Link == b.Link && a.Prefix == b.Prefix }

// Route is one unicast route.
type Route struct {
	To     netip.Prefix
	Via    netip.Addr // zero: on link
	Link   string
	Source netip.Addr // preferred source; zero: the kernel chooses
	Table  uint32     // 0: main (254)
	Metric uint32     // lower wins; 0: the kernel's default
	MTU    int        // bytes that fit where it leads (RTAX_MTU); 0: the link's
}

// Rule chooses a routing table (ip-rule(8)).
type Rule struct {
	Priority uint32       // lower first; ours stand in 1000-1999
	From     netip.Prefix // sources; 0.0.0.0/0 or ::/0: all of the family
	Mark     uint32       // only packets whose mark under Mask is this; Mask 0: any
	Mask     uint32
	Table    uint32
}

// Tracked is a route that is left out while what it leads over doesn't work, as
// long as another one to the same prefix in the same table does.
type Tracked struct {
	Route
	Paths []string // names of heartbeat paths, of which one must be up; none: the carrier of the route's link counts
}

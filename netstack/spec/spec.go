// Package spec holds the network as values: addresses and routes that the box
// wants. It decides nothing; netstack/plan compares, drivers/rtnl applies.
package spec

import "net/netip"

// Address is one address on one link.
type Address struct {
	Link   string
	Prefix netip.Prefix
}

// Route is one unicast route of the main table.
type Route struct {
	To     netip.Prefix
	Via    netip.Addr // zero: on link
	Link   string
	Source netip.Addr // preferred source; zero: the kernel chooses
}

package spec

import (
	"net/netip"
	"time"
)

// Tunnel is one IKEv2 connection (RFC 7296) with one child that carries what is
// routed over its XFRM interface. Keys aren't values of the network: whoever
// loads the tunnel looks them up by its name.
type Tunnel struct {
	Name string // in the configuration; charon's connection and child are called so too
	Link string // kernel's name of the XFRM interface
	IfID uint32 // of the interface and of the security associations, not 0
	Line string // interface of the configuration whose line it runs over

	Local    netip.Addr // outer address of this box
	Remote   netip.Addr // outer address of the peer, same family; zero: any, for who waits
	LocalID  string     // IKE identity: FQDN, address or distinguished name
	RemoteID string     // what the peer must prove to be
	PSK      bool       // pre-shared key; else certificates

	// Initiate: this side begins, and never gives up. The other one waits.
	Initiate bool
	IKE      []string // proposals in charon's words, best first: "aes256gcm16-prfsha384-ecp384"
	ESP      []string // likewise: "aes256gcm16-ecp384"
	// Networks that may pass, here and there; empty: everything of both families
	// (the route decides).
	Inner, Beyond []netip.Prefix

	RekeyIKE time.Duration // a new IKE SA is made before the old one ends
	RekeyESP time.Duration
	Encap    bool // ESP in UDP even without NAT on the way (RFC 3948)
}

package icmp

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// Kind is what an answer says.
type Kind string

// The kinds.
const (
	EchoReply   Kind = "reply"
	TimeOut     Kind = "hops"        // the hop limit ended at a router
	TooBig      Kind = "too-big"     // a router can't pass it on whole
	NoRoute     Kind = "no-route"    // a router knows no way
	NoHost      Kind = "no-host"     // the last router hears nothing of the host
	Forbidden   Kind = "forbidden"   // a firewall says no
	Unreachable Kind = "unreachable" // any other reason; Answer.Code
	Silent      Kind = "silent"      // nothing came in time
	LongHere    Kind = "long-here"   // longer than this host's interface takes
	NotSent     Kind = "not-sent"    // this host couldn't send it; Reply.Err
)

// Answer is what was said about one of our packets.
type Answer struct {
	Kind Kind
	Code int        // ICMP code
	From netip.Addr // who says it: the host, or a router
	Seq  uint16
	TTL  int // hop limit as it arrived
	Size int // EchoReply: bytes of the whole IP packet
	MTU  int // TooBig: what the router takes, in bytes; 0: it doesn't tell
	At   time.Time
}

// request is the ICMP message of a packet of size bytes.
func (c *Conn) request(seq uint16, size int) []byte {
	body := &icmp.Echo{ID: int(c.id), Seq: int(seq), Data: make([]byte, max(size-c.Header(), 0))}
	for i := range body.Data {
		body.Data[i] = byte(i)
	}
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: body}
	if c.v6 != nil {
		m.Type = ipv6.ICMPTypeEchoRequest // the kernel fills in the checksum: RFC 3542, 3.1
	}
	b, err := m.Marshal(nil)
	if err != nil {
		panic(err) // an echo always can be
	}
	return b
}

// parse reads an ICMP message; false: it isn't about a packet of ours.
func (c *Conn) parse(b []byte) (Answer, bool) {
	if len(b) < 8 {
		return Answer{}, false
	}
	kind, code := int(b[0]), int(b[1])
	if c.v4 != nil {
		return c.parse4(b, ipv4.ICMPType(kind), code)
	}
	return c.parse6(b, ipv6.ICMPType(kind), code)
}

func (c *Conn) parse4(b []byte, kind ipv4.ICMPType, code int) (Answer, bool) {
	a := Answer{Code: code, Size: len(b) + HeaderV4 - 8}
	switch kind {
	case ipv4.ICMPTypeEchoReply:
		return c.ours(a, EchoReply, b)
	case ipv4.ICMPTypeTimeExceeded:
		return c.ours(a, TimeOut, c.quoted4(b[8:]))
	case ipv4.ICMPTypeDestinationUnreachable:
		if code == 4 { // RFC 1191, 4
			a.MTU = int(binary.BigEndian.Uint16(b[6:8]))
		}
		return c.ours(a, unreachable4(code), c.quoted4(b[8:]))
	}
	return a, false
}

// unreachable4: codes of RFC 792 and RFC 1812, 5.2.7.1.
func unreachable4(code int) Kind {
	switch code {
	case 0, 6, 11:
		return NoRoute
	case 1, 7, 12:
		return NoHost
	case 4:
		return TooBig
	case 9, 10, 13:
		return Forbidden
	}
	return Unreachable
}

func (c *Conn) parse6(b []byte, kind ipv6.ICMPType, code int) (Answer, bool) {
	a := Answer{Code: code, Size: len(b) + HeaderV6 - 8}
	switch kind {
	case ipv6.ICMPTypeEchoReply:
		return c.ours(a, EchoReply, b)
	case ipv6.ICMPTypeTimeExceeded:
		return c.ours(a, TimeOut, c.quoted6(b[8:]))
	case ipv6.ICMPTypePacketTooBig:
		a.MTU = int(binary.BigEndian.Uint32(b[4:8]) & 0xffff) // RFC 4443, 3.2; no packet of ours is longer
		return c.ours(a, TooBig, c.quoted6(b[8:]))
	case ipv6.ICMPTypeDestinationUnreachable:
		return c.ours(a, unreachable6(code), c.quoted6(b[8:]))
	}
	return a, false
}

// unreachable6: codes of RFC 4443, 3.1.
func unreachable6(code int) Kind {
	switch code {
	case 0:
		return NoRoute
	case 1, 5, 6:
		return Forbidden
	case 3:
		return NoHost
	}
	return Unreachable
}

// ours finishes an answer whose echo header is at the beginning of b.
func (c *Conn) ours(a Answer, kind Kind, b []byte) (Answer, bool) {
	if len(b) < 8 || binary.BigEndian.Uint16(b[4:6]) != c.id {
		return a, false
	}
	a.Kind, a.Seq = kind, binary.BigEndian.Uint16(b[6:8])
	return a, true
}

// quoted4 is our request as a router quotes it, from the ICMP header on; nil:
// it isn't one to our host.
func (c *Conn) quoted4(b []byte) []byte {
	if len(b) < 20 || b[0]>>4 != 4 || b[9] != 1 || netip.AddrFrom4([4]byte(b[16:20])) != c.target.Host {
		return nil
	}
	head := int(b[0]&15) * 4
	if head < 20 || len(b) < head+8 || b[head] != byte(ipv4.ICMPTypeEcho) {
		return nil
	}
	return b[head:]
}

// quoted6: our requests have no extension headers, but a fragment's.
func (c *Conn) quoted6(b []byte) []byte {
	if len(b) < 40 || b[0]>>4 != 6 || netip.AddrFrom16([16]byte(b[24:40])) != c.target.Host.WithZone("") {
		return nil
	}
	next, b := b[6], b[40:]
	const fragment, icmpv6 = 44, 58
	if next == fragment && len(b) >= 8 {
		next, b = b[0], b[8:]
	}
	if next != icmpv6 || len(b) < 8 || b[0] != byte(ipv6.ICMPTypeEchoRequest) {
		return nil
	}
	return b
}

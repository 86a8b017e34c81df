package lab

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// tooBig is what a router at the other end of the line would answer to the
// oversized packet p: ICMP "fragmentation needed" (RFC 1191) or ICMPv6 "packet
// too big" (RFC 4443, 3.2). nil when there is nothing to say: a broken packet,
// or an IPv4 packet that may be fragmented (no router here does it).
func tooBig(p []byte, mtu int, from *end) []byte {
	if len(p) < 40 {
		return nil
	}
	v4 := p[0]>>4 == 4
	src, ok := from.address(v4)
	if !ok {
		return nil
	}
	if v4 {
		if p[6]&0x40 == 0 {
			return nil // may be fragmented
		}
		to := netip.AddrFrom4([4]byte(p[12:16]))
		// The next-hop MTU is the low half of the second word, which x/net
		// knows for IPv6 only.
		m := icmp.Message{Type: ipv4.ICMPTypeDestinationUnreachable, Code: 4, Body: &icmp.RawBody{Data: body(p[:28], mtu)}}
		b, err := m.Marshal(nil)
		if err != nil {
			return nil
		}
		return ip4(src, to, b)
	}
	to := netip.AddrFrom16([16]byte(p[8:24]))
	// An ICMPv6 error stays within the minimum MTU of 1280 bytes.
	m := icmp.Message{Type: ipv6.ICMPTypePacketTooBig, Body: &icmp.PacketTooBig{MTU: mtu, Data: p[:min(len(p), 1280-48)]}}
	b, err := m.Marshal(icmp.IPv6PseudoHeader(src.AsSlice(), to.AsSlice()))
	if err != nil {
		return nil
	}
	return ip6(src, to, b)
}

func body(quote []byte, mtu int) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(mtu)&0xffff)
	return append(b, quote...)
}

func ip4(src, dst netip.Addr, payload []byte) []byte {
	h := make([]byte, 20, 20+len(payload))
	h[0], h[8], h[9] = 0x45, 64, 1
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(payload)))
	copy(h[12:], src.AsSlice())
	copy(h[16:], dst.AsSlice())
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	sum = sum&0xffff + sum>>16
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum))
	return append(h, payload...)
}

func ip6(src, dst netip.Addr, payload []byte) []byte {
	h := make([]byte, 40, 40+len(payload))
	h[0], h[6], h[7] = 0x60, 58, 64
	binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
	copy(h[8:], src.AsSlice())
	copy(h[24:], dst.AsSlice())
	return append(h, payload...)
}

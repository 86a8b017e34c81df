package nflog

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// header reads the beginning of an IPv4 or IPv6 packet, which may be cut short;
// false: not even its addresses are there.
func (r *Refusal) header(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	switch b[0] >> 4 {
	case 4:
		return r.header4(b)
	case 6:
		return r.header6(b)
	}
	return false
}

// header4 reads RFC 791, 3.1.
func (r *Refusal) header4(b []byte) bool {
	length := int(b[0]&0x0f) * 4
	if len(b) < 20 || length < 20 {
		return false
	}
	r.Src, r.Dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	r.Proto = b[9]
	first := binary.BigEndian.Uint16(b[6:])&0x1fff == 0
	if first && len(b) > length {
		r.transport(b[length:])
	}
	return true
}

// header6 reads RFC 8200, 3 and 4, and RFC 4302 (AH).
func (r *Refusal) header6(b []byte) bool {
	if len(b) < 40 {
		return false
	}
	r.Src, r.Dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	r.Proto = b[6]
	for b = b[40:]; len(b) >= 8; {
		var length int
		switch r.Proto {
		case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS:
			length = (int(b[1]) + 1) * 8
		case unix.IPPROTO_AH:
			length = (int(b[1]) + 2) * 4
		case unix.IPPROTO_FRAGMENT:
			if binary.BigEndian.Uint16(b[2:])>>3 != 0 { // a later fragment
				r.Proto = b[0]
				return true
			}
			length = 8
		default:
			r.transport(b)
			return true
		}
		r.Proto = b[0]
		b = b[min(length, len(b)):]
	}
	r.transport(b)
	return true
}

func (r *Refusal) transport(b []byte) {
	switch r.Proto {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP:
		if len(b) >= 4 {
			r.SrcPort, r.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		}
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		if len(b) >= 1 {
			r.ICMPType = b[0]
		}
	}
}

package ntpio

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"komainu/ntp/wall"
)

// depth is how many datagrams cross the border to the kernel at a time. More
// hardly saves anything, but lets replies wait for each other.
const depth = 16

// message is struct mmsghdr of recvmmsg(2).
type message struct {
	unix.Msghdr
	n uint32 // length of the datagram
	_ [4]byte
}

// Sizes of control messages (cmsg(3)), header and padding included.
const (
	header       = unix.SizeofCmsghdr
	stampSpace   = header + 3*16 // struct scm_timestamping
	info4Space   = header + 16   // struct in_pktinfo, 12 bytes
	info6Space   = header + 24   // struct in6_pktinfo, 20 bytes
	askSpace     = header + 8    // flags of SO_TIMESTAMPING, 4 bytes
	controlSpace = stampSpace + info6Space + 64
)

// slot is one datagram with all that belongs to it.
type slot struct {
	iov     unix.Iovec
	name    [unix.SizeofSockaddrInet6]byte
	control [controlSpace]byte // first, the kernel wants it aligned like a pointer
	data    [MaxRequest]byte
}

// batch is what one recvmmsg or sendmmsg takes.
type batch struct {
	headers [depth]message
	slots   [depth]slot
}

func (b *batch) prepare() {
	for i := range b.headers {
		h, s := &b.headers[i], &b.slots[i]
		s.iov.Base = &s.data[0]
		h.Iov, h.Iovlen = &s.iov, 1
		h.Control = &s.control[0]
		h.Name = &s.name[0]
	}
}

// reset makes the first n slots ready to receive.
func (b *batch) reset(n int) {
	for i := range b.headers[:n] {
		h, s := &b.headers[i], &b.slots[i]
		h.Namelen, h.Flags = uint32(len(s.name)), 0
		h.SetControllen(len(s.control))
		s.iov.SetLen(len(s.data))
	}
}

// from reads the sender's address, the zero one if it is of no known family.
func (s *slot) from() netip.AddrPort {
	port := binary.BigEndian.Uint16(s.name[2:])
	switch binary.NativeEndian.Uint16(s.name[:]) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(s.name[4:8])), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(s.name[8:24])), port)
	}
	return netip.AddrPort{}
}

// notes is what the kernel says about a datagram beside its content.
type notes struct {
	software, hardware wall.Time // 0: none
	info               []byte    // struct in_pktinfo or in6_pktinfo
	failure            []byte    // struct sock_extended_err and an address
}

// read reads the control messages of a slot.
func (h *message) read(s *slot) (n notes) {
	rest := s.control[:min(h.Controllen, uint64(len(s.control)))]
	for len(rest) >= header {
		c := (*unix.Cmsghdr)(unsafe.Pointer(&rest[0]))
		size := int(c.Len)
		if size < header || size > len(rest) {
			break
		}
		data := rest[header:size]
		switch {
		case c.Level == unix.SOL_SOCKET && c.Type == unix.SO_TIMESTAMPING && len(data) >= 48:
			n.software, n.hardware = timespec(data), timespec(data[32:])
		case c.Level == unix.IPPROTO_IP && c.Type == unix.IP_PKTINFO, c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_PKTINFO:
			n.info = data
		case c.Level == unix.IPPROTO_IP && c.Type == unix.IP_RECVERR, c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_RECVERR:
			n.failure = data
		}
		rest = rest[min((size+7)&^7, len(rest)):]
	}
	return n
}

func timespec(b []byte) wall.Time {
	return wall.Time(binary.NativeEndian.Uint64(b))*1e9 + wall.Time(binary.NativeEndian.Uint64(b[8:]))
}

// broadcast tells whether a datagram was sent to many.
func broadcast(info []byte) bool {
	switch len(info) {
	case 12: // ifindex, the address to answer from, the one in the header
		return [4]byte(info[4:8]) != [4]byte(info[8:12])
	case 20: // the address in the header, ifindex
		return info[0] == 0xff
	}
	return false
}

// answer makes the control messages of a reply: from which address it leaves,
// and whether its departure is to be stamped.
func (h *message) answer(s *slot, info []byte, stamp uint32) {
	n := 0
	put := func(level, kind int32, size, space int) []byte {
		c := (*unix.Cmsghdr)(unsafe.Pointer(&s.control[n]))
		c.Level, c.Type = level, kind
		c.SetLen(header + size)
		data := s.control[n+header : n+space]
		n += space
		return data
	}
	// Which interface it leaves by is for the routes to say: 0.
	switch len(info) {
	case 12:
		d := put(unix.IPPROTO_IP, unix.IP_PKTINFO, 12, info4Space)
		clear(d)
		copy(d[4:8], info[4:8])
	case 20:
		d := put(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, 20, info6Space)
		clear(d)
		copy(d, info[:16])
	}
	if stamp != 0 {
		binary.NativeEndian.PutUint32(put(unix.SOL_SOCKET, unix.SO_TIMESTAMPING, 4, askSpace), stamp)
	}
	h.SetControllen(n)
}

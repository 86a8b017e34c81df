package boxes

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"komainu/tools/lab"
)

// wire puts a box on a line of the lab. A line carries IP packets, a network
// card sends frames: the wire takes the frames' headers off and puts them on,
// and answers for every neighbour that the box looks for (ARP, RFC 826;
// neighbour discovery, RFC 4861), since whoever is at the other end, it is there.
type wire struct {
	conn  net.Conn // the card's frames, one a datagram
	link  *os.File // packet socket on the line's device
	index int
	box   net.HardwareAddr // of the card
	peer  net.HardwareAddr // that we answer with
}

const (
	frameHeader = 14
	maxFrame    = 65536
)

// newWire runs inside the host's namespace. The file is QEMU's end.
func newWire(h *lab.Host, id string, index int) (*os.File, *wire, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open a packet socket: %w", err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: network16(unix.ETH_P_ALL), Ifindex: index})
	}
	if err != nil {
		unix.Close(fd)
		return nil, nil, fmt.Errorf("listen on a line: %w", err)
	}
	w := &wire{link: os.NewFile(uintptr(fd), "line"), index: index, box: hardware(h, id), peer: hardware(h, id+"/peer")}
	theirs, ours, err := pair(unix.SOCK_DGRAM)
	if err != nil {
		return nil, nil, errors.Join(err, w.link.Close())
	}
	w.conn = ours
	return theirs, w, nil
}

func network16(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// close ends both directions.
func (w *wire) close() {
	w.conn.Close()
	w.link.Close()
}

// fromBox carries what the box sends, until close.
func (w *wire) fromBox() {
	buf := make([]byte, maxFrame)
	for {
		n, err := w.conn.Read(buf)
		if err != nil {
			return
		}
		packet, reply := w.take(buf[:n])
		if reply != nil {
			_, _ = w.conn.Write(reply) // a box that has gone needs no answer
		}
		if packet != nil {
			w.send(packet)
		}
	}
}

// toBox carries what comes over the line, until close.
func (w *wire) toBox() {
	buf := make([]byte, maxFrame)
	copy(buf, w.box)
	copy(buf[6:], w.peer)
	for {
		n, err := w.link.Read(buf[frameHeader:])
		if errors.Is(err, unix.ENETDOWN) {
			continue // the device went down; said once, then it waits on
		}
		if err != nil {
			return
		}
		if n == 0 {
			continue
		}
		kind := uint16(unix.ETH_P_IP)
		if buf[frameHeader]>>4 == 6 {
			kind = unix.ETH_P_IPV6
		}
		binary.BigEndian.PutUint16(buf[12:], kind)
		_, _ = w.conn.Write(buf[:frameHeader+n]) // lost, as on any line
	}
}

// send puts an IP packet on the line; one that the device refuses is lost.
func (w *wire) send(packet []byte) {
	c, err := w.link.SyscallConn()
	if err != nil {
		return
	}
	kind := uint16(unix.ETH_P_IP)
	if packet[0]>>4 == 6 {
		kind = unix.ETH_P_IPV6
	}
	_ = c.Write(func(fd uintptr) bool {
		err := unix.Sendto(int(fd), packet, 0, &unix.SockaddrLinklayer{Protocol: network16(kind), Ifindex: w.index})
		return !errors.Is(err, unix.EAGAIN)
	})
}

// take says what a frame of the box means: a packet for the line, a frame for
// the box, or neither.
func (w *wire) take(frame []byte) (packet, reply []byte) {
	if len(frame) < frameHeader {
		return nil, nil
	}
	body := frame[frameHeader:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_ARP:
		return nil, w.answerARP(body)
	case unix.ETH_P_IP:
		if len(body) < 20 {
			return nil, nil
		}
		if n := int(binary.BigEndian.Uint16(body[2:])); n >= 20 && n <= len(body) {
			return body[:n], nil // without the padding of a short frame
		}
	case unix.ETH_P_IPV6:
		if len(body) < 40 {
			return nil, nil
		}
		n := 40 + int(binary.BigEndian.Uint16(body[4:]))
		if n > len(body) {
			return nil, nil
		}
		if body[6] == unix.IPPROTO_ICMPV6 && n > 40 && body[40] == neighbourSolicitation {
			return nil, w.answerNeighbour(body[:n])
		}
		return body[:n], nil
	}
	return nil, nil
}

// frame is a frame to the box.
func (w *wire) frame(kind uint16, body []byte) []byte {
	f := append(append([]byte{}, w.box...), w.peer...)
	return append(binary.BigEndian.AppendUint16(f, kind), body...)
}

// answerARP answers who-has, but not the question of a box about its own
// address (RFC 5227).
func (w *wire) answerARP(b []byte) []byte {
	if len(b) < 28 || binary.BigEndian.Uint16(b[6:]) != 1 {
		return nil
	}
	sender, target := [4]byte(b[14:18]), [4]byte(b[24:28])
	if sender == [4]byte{} || sender == target {
		return nil
	}
	a := append([]byte{}, b[:6]...)
	a = append(a, 0, 2)
	a = append(append(a, w.peer...), target[:]...)
	a = append(append(a, b[8:14]...), sender[:]...)
	return w.frame(unix.ETH_P_ARP, a)
}

// Types of ICMPv6 (RFC 4861 section 4).
const (
	neighbourSolicitation  = 135
	neighbourAdvertisement = 136
)

// answerNeighbour answers a solicitation, but not one for a tentative address,
// which has no source (RFC 4862).
func (w *wire) answerNeighbour(p []byte) []byte {
	if len(p) < 64 || [16]byte(p[8:24]) == [16]byte{} || [16]byte(p[8:24]) == [16]byte(p[48:64]) {
		return nil
	}
	target := p[48:64]
	a := make([]byte, 40, 72)
	a[0], a[5], a[6], a[7] = 6<<4, 32, unix.IPPROTO_ICMPV6, 255
	copy(a[8:], target)
	copy(a[24:], p[8:24])
	a = append(a, neighbourAdvertisement, 0, 0, 0, 0x60, 0, 0, 0) // solicited, override
	a = append(a, target...)
	a = append(append(a, 2, 1), w.peer...) // target link-layer address
	// The checksum also covers addresses, length and next header (RFC 8200
	// section 8.1), which is the header with the first eight bytes replaced.
	sum := uint32(32 + unix.IPPROTO_ICMPV6)
	for i := 8; i < len(a); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(a[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(a[42:], ^uint16(sum))
	return w.frame(unix.ETH_P_IPV6, a)
}

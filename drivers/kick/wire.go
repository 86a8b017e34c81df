package kick

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// link is the way to a client: interface and next hop.
type link struct {
	index int
	mac   [8]byte
}

// wire is a packet socket and a route socket.
type wire struct {
	packets *os.File
	routes  *rtnetlink.Conn
	buf     [128]byte
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

func openWire() (*wire, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	packets := os.NewFile(uintptr(fd), "packet socket")
	w := &wire{packets: packets}
	if w.routes, err = rtnetlink.Dial(nil); err != nil {
		return nil, errors.Join(fmt.Errorf("open a route socket: %w", err), packets.Close())
	}
	if err := listen(fd); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// close ends both; nothing is lost by an error, all was sent.
func (w *wire) close() {
	_ = w.packets.Close()
	_ = w.routes.Close()
}

// listen lets in what may be a pure ACK: TCP, at most 120 bytes, so that the
// traffic of a busy box doesn't fill the socket.
func listen(fd int) error {
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 6, SkipTrue: 4},
		bpf.LoadAbsolute{Off: 9, Size: 1}, // protocol of IPv4
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: 6},
		bpf.LoadAbsolute{Off: 2, Size: 2}, // total length
		bpf.Jump{Skip: 2},
		bpf.LoadAbsolute{Off: 6, Size: 1}, // next header of IPv6
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: 120, SkipTrue: 1},
		bpf.RetConstant{Val: 128},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return fmt.Errorf("assemble the packet filter: %w", err)
	}
	raw := make([]unix.SockFilter, len(filter))
	for i, in := range filter {
		raw[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(raw)), Filter: &raw[0]}); err != nil {
		return fmt.Errorf("attach the packet filter: %w", err)
	}
	// Hundreds of clients answer at once.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20); err != nil {
		return fmt.Errorf("enlarge the packet socket's buffer: %w", err)
	}
	// Bound only now, so that nothing unfiltered comes in.
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL)}); err != nil {
		return fmt.Errorf("bind the packet socket: %w", err)
	}
	return nil
}

type segment struct {
	seq      uint32
	syn, rst bool
}

// send sends a segment from the service to the client.
func (w *wire) send(to link, p peer, s segment) error {
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(p.service.Port()), DstPort: layers.TCPPort(p.client.Port()),
		Seq: s.seq, SYN: s.syn, RST: s.rst, Window: 1024,
	}
	src, dst := p.service.Addr(), p.client.Addr()
	var ip interface {
		gopacket.NetworkLayer
		gopacket.SerializableLayer
	}
	proto := uint16(unix.ETH_P_IP)
	if src.Is4() {
		ip = &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	} else {
		proto = unix.ETH_P_IPV6
		ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		return err
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, tcp); err != nil {
		return err
	}
	conn, err := w.packets.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	addr := &unix.SockaddrLinklayer{Protocol: htons(proto), Ifindex: to.index, Halen: 6, Addr: to.mac}
	if err := conn.Write(func(fd uintptr) bool {
		sent = unix.Sendto(int(fd), buf.Bytes(), 0, addr)
		return !errors.Is(sent, unix.EAGAIN)
	}); err != nil {
		return err
	}
	return sent
}

// receive waits for a segment with an acknowledgement; expected is the sequence
// number that its sender expects next.
func (w *wire) receive() (p peer, expected uint32, err error) {
	for {
		n, err := w.packets.Read(w.buf[:])
		if errors.Is(err, unix.ENETDOWN) { // one of the links went down: the others go on
			continue
		}
		if err != nil {
			return peer{}, 0, err
		}
		if p, expected, ok := parse(w.buf[:n]); ok {
			return p, expected, nil
		}
	}
}

// parse reads an IP packet by hand: fixed offsets, no extension headers (a
// challenge ACK has none).
func parse(b []byte) (p peer, expected uint32, ok bool) {
	if len(b) < 20 {
		return p, 0, false
	}
	var src, dst netip.Addr
	var tcp []byte
	switch b[0] >> 4 {
	case 4:
		n := int(b[0]&0xf) * 4
		if n < 20 || len(b) < n || b[9] != unix.IPPROTO_TCP || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
			return p, 0, false
		}
		src, dst, tcp = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[n:]
	case 6:
		if len(b) < 40 || b[6] != unix.IPPROTO_TCP {
			return p, 0, false
		}
		src, dst, tcp = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[40:]
	}
	const ack, rst = 0x10, 0x04
	if len(tcp) < 20 || tcp[13]&(ack|rst) != ack {
		return p, 0, false
	}
	p = peer{
		client:  netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp)),
		service: netip.AddrPortFrom(dst, binary.BigEndian.Uint16(tcp[2:])),
	}
	return p, binary.BigEndian.Uint32(tcp[8:]), true
}

package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// socket is a packet socket (packet(7)) on one link.
type socket struct {
	file *os.File
	raw  syscall.RawConn
	kind Link
	mtu  int
	oob  []byte
}

// receiveBuffer is the kernel's queue in bytes; it holds what comes while a slow
// stick is written to.
const receiveBuffer = 16 << 20

func openSocket(name string, f Filter) (*socket, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	// Protocol 0: nothing comes in before the filter stands.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	s := &socket{oob: make([]byte, 256), mtu: ifi.MTU}
	if s.kind, err = kindOf(fd, name); err == nil {
		err = prepare(fd, s.kind, f)
	}
	if err == nil {
		// What is addressed to others counts too, as on a switch's mirror port.
		err = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
			&unix.PacketMreq{Ifindex: int32(ifi.Index), Type: unix.PACKET_MR_PROMISC}) //nolint:gosec // an interface's index
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: swap(unix.ETH_P_ALL), Ifindex: ifi.Index})
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	s.file = os.NewFile(uintptr(fd), "packet socket of "+name)
	if s.raw, err = s.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, s.file.Close())
	}
	return s, nil
}

func prepare(fd int, kind Link, f Filter) error {
	program, err := f.Program(kind)
	if err != nil {
		return err
	}
	if err := attach(fd, program); err != nil {
		return fmt.Errorf("attach the filter: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer); err != nil {
		return fmt.Errorf("enlarge the receive buffer: %w", err)
	}
	return errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1))
}

func attach(fd int, program []bpf.RawInstruction) error {
	code := make([]unix.SockFilter, len(program))
	for i, x := range program {
		code[i] = unix.SockFilter{Code: x.Op, Jt: x.Jt, Jf: x.Jf, K: x.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]})
}

// kindOf asks what the link's packets begin with (netdevice(7), SIOCGIFHWADDR).
func kindOf(fd int, name string) (Link, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFHWADDR, req); err != nil {
		return 0, fmt.Errorf("kind of link %s: %w", name, err)
	}
	switch req.Uint16() { // sa_family is the first field of the address
	case unix.ARPHRD_ETHER, unix.ARPHRD_LOOPBACK:
		return Ethernet, nil
	case unix.ARPHRD_NONE, unix.ARPHRD_PPP, unix.ARPHRD_TUNNEL, unix.ARPHRD_TUNNEL6, unix.ARPHRD_SIT, unix.ARPHRD_IPGRE, unix.ARPHRD_RAWIP:
		return Raw, nil
	}
	return 0, fmt.Errorf("link %s is of a kind (ARPHRD %d) whose packets can't be captured", name, req.Uint16())
}

func swap(n uint16) uint16 { return n<<8 | n>>8 }

// packet is one as it was on the link.
type packet struct {
	at   time.Time
	data []byte // from 4 bytes into the buffer on, where no tag is put back
	wire int    // its length there, in bytes
}

// read waits for a packet until the socket's deadline, or until ctx ends. buf
// takes the packet; 4 bytes at its beginning are for a tag.
func (s *socket) read(ctx context.Context, buf []byte) (packet, error) {
	if err := ctx.Err(); err != nil {
		return packet{}, err
	}
	var n, oobn int
	var rerr error
	err := s.raw.Read(func(fd uintptr) bool {
		n, oobn, _, _, rerr = unix.Recvmsg(int(fd), buf[tagBytes:], s.oob, unix.MSG_TRUNC)
		return !errors.Is(rerr, unix.EAGAIN)
	})
	if err := errors.Join(err, rerr); err != nil {
		if ctx.Err() != nil {
			return packet{}, ctx.Err()
		}
		return packet{}, err
	}
	p := packet{at: time.Now(), wire: n}
	p.data = buf[tagBytes : tagBytes+min(n, len(buf)-tagBytes)]
	s.ancillary(&p, buf, s.oob[:oobn])
	return p, nil
}

const tagBytes = 4

// ancillary takes the kernel's time stamp, and puts a VLAN tag back that was
// taken off the frame.
func (s *socket) ancillary(p *packet, buf, oob []byte) {
	all, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return // then the time is that of reading
	}
	for _, m := range all {
		switch {
		case m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16:
			p.at = time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:]))) //nolint:gosec // the kernel's clock
		case m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= int(unsafe.Sizeof(unix.TpacketAuxdata{})):
			aux := (*unix.TpacketAuxdata)(unsafe.Pointer(&m.Data[0])) //nolint:gosec // the kernel's own structure, see the length
			const valid, kind = unix.TP_STATUS_VLAN_VALID, unix.TP_STATUS_VLAN_TPID_VALID
			if aux.Status&valid == 0 || s.kind != Ethernet || len(p.data) < 14 {
				continue
			}
			tpid := uint16(etherVLAN)
			if aux.Status&kind != 0 {
				tpid = aux.Vlan_tpid
			}
			copy(buf, p.data[:12])
			binary.BigEndian.PutUint16(buf[12:], tpid)
			binary.BigEndian.PutUint16(buf[14:], aux.Vlan_tci)
			p.data = buf[:tagBytes+len(p.data)]
			p.wire += tagBytes
		}
	}
}

// dropped is how many packets the kernel had no room for since the last call.
func (s *socket) dropped() (uint64, error) {
	var st *unix.TpacketStats
	var serr error
	err := s.raw.Control(func(fd uintptr) {
		st, serr = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
	})
	if err := errors.Join(err, serr); err != nil {
		return 0, fmt.Errorf("kernel's counts of the capture: %w", err)
	}
	return uint64(st.Drops), nil
}

package ntpio

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"komainu/drivers/holder"
)

const (
	// queue is the room for requests that wait, in bytes as the kernel counts
	// them: about 1,300 small ones.
	queue = 1 << 20
	// patience is SO_RCVTIMEO. Its length hardly matters, but only with a finite
	// one does a signal end a wait for good (signal(7)), and it is by signals that
	// the Go runtime asks a goroutine to make way.
	patience = time.Second
	// software asks for the kernel's stamp of every arrival, and lets single
	// replies ask for that of their departure, told by number and without the
	// packet (Documentation/networking/timestamping.rst).
	software = unix.SOF_TIMESTAMPING_RX_SOFTWARE | unix.SOF_TIMESTAMPING_SOFTWARE | unix.SOF_TIMESTAMPING_OPT_ID | unix.SOF_TIMESTAMPING_OPT_TSONLY
)

// socket is one address.
type socket struct {
	fd         int
	file       *os.File // owns fd
	local      netip.AddrPort
	guard      *sync.Mutex // around the handler
	nic        *nic        // nil: the kernel stamps
	why        error       // the interface doesn't
	flags      int         // of SO_TIMESTAMPING
	stopping   atomic.Bool
	want       uintptr // datagrams to receive at a time, 1..depth
	in, out    batch
	departures departures
	counters   counters
}

type counters struct {
	received, sent, unsent, oversized, unstamped, elsewhere, stamps atomic.Uint64
}

func open(e Endpoint, guard *sync.Mutex) (*socket, error) {
	e.Local = netip.AddrPortFrom(e.Local.Addr().Unmap(), e.Local.Port())
	fail := func(err error) (*socket, error) {
		where := fmt.Sprintf("listen for NTP on address %v, UDP port %d", e.Local.Addr(), e.Local.Port())
		if e.Interface != "" {
			where += ", interface " + e.Interface
		}
		if errors.Is(err, unix.EADDRINUSE) {
			return nil, fmt.Errorf("%s: the port is taken by %s: stop it or choose another port: %w", where, holder.Of("udp", e.Local.Port()), err)
		}
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	if !e.Local.IsValid() {
		return fail(errors.New("not an address"))
	}
	fd, err := bound(e)
	if err != nil {
		return fail(err)
	}
	file := os.NewFile(uintptr(fd), e.Local.String()) // blocking, so the runtime's poller doesn't know it
	name, err := unix.Getsockname(fd)
	if err != nil {
		return fail(errors.Join(err, file.Close()))
	}
	k := &socket{
		fd: fd, file: file, guard: guard, flags: software,
		local: netip.AddrPortFrom(e.Local.Addr(), portOf(name)),
	}
	k.in.prepare()
	k.out.prepare()
	k.departures.queue.prepare()
	k.departures.flags = unix.SOF_TIMESTAMPING_TX_SOFTWARE
	return k, nil
}

// bound opens a socket and binds it.
func bound(e Endpoint) (int, error) {
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: e.Local.Addr().As16(), Port: int(e.Local.Port())})
	if e.Local.Addr().Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Addr: e.Local.Addr().As4(), Port: int(e.Local.Port())}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return -1, fmt.Errorf("open a socket: %w", err)
	}
	if err := prepare(fd, e); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	if err := unix.Bind(fd, to); err != nil {
		return -1, errors.Join(fmt.Errorf("bind: %w", err), unix.Close(fd))
	}
	return fd, nil
}

func portOf(a unix.Sockaddr) uint16 {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return uint16(a.Port)
	case *unix.SockaddrInet6:
		return uint16(a.Port)
	}
	return 0
}

// prepare sets what must stand before the socket is bound.
func prepare(fd int, e Endpoint) error {
	if e.Interface != "" {
		if err := unix.BindToDevice(fd, e.Interface); err != nil {
			return fmt.Errorf("bind to the interface: %w", err)
		}
	}
	set := func(level, option, value int, what string) error {
		if err := unix.SetsockoptInt(fd, level, option, value); err != nil {
			return fmt.Errorf("set %s to %d: %w", what, value, err)
		}
		return nil
	}
	wait := unix.NsecToTimeval(int64(patience))
	err := errors.Join(
		set(unix.SOL_SOCKET, unix.SO_RCVBUF, queue, "SO_RCVBUF"), // net.core.rmem_max may allow less
		set(unix.SOL_SOCKET, unix.SO_TIMESTAMPING, software, "SO_TIMESTAMPING"),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait))
	// A socket that has all addresses must be told which was asked.
	all := 0
	if e.Local.Addr().IsUnspecified() {
		all = 1
	}
	if e.Local.Addr().Is4() {
		return errors.Join(err,
			set(unix.IPPROTO_IP, unix.IP_FREEBIND, 1, "IP_FREEBIND"),
			set(unix.IPPROTO_IP, unix.IP_PKTINFO, all, "IP_PKTINFO"))
	}
	return errors.Join(err,
		set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1, "IPV6_V6ONLY"),
		set(unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1, "IPV6_FREEBIND"),
		set(unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, all, "IPV6_RECVPKTINFO"))
}

// by lets an interface stamp packets in the kernel's place.
func (k *socket) by(n *nic) error {
	flags := software | hardware
	if err := unix.SetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, flags); err != nil {
		return fmt.Errorf("take the time stamps of interface %s on %v: %w", n.name, k.local, err)
	}
	k.nic, k.flags = n, flags
	k.departures.flags |= unix.SOF_TIMESTAMPING_TX_HARDWARE
	return nil
}

// control runs f on the socket's file descriptor, unless it is closed.
func (k *socket) control(f func(fd int) error) error {
	raw, err := k.file.SyscallConn()
	if err != nil {
		return err
	}
	if err2 := raw.Control(func(fd uintptr) { err = f(int(fd)) }); err2 != nil {
		return err2
	}
	return err
}

// stop ends a wait for requests, also one that begins afterwards.
func (k *socket) stop() {
	k.stopping.Store(true)
	// ENOTCONN, but a receiver is woken nevertheless, and finds the end of all
	// datagrams (inet_shutdown in the kernel's net/ipv4/af_inet.c).
	_ = k.control(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RD) })
}

func (k *socket) close() error {
	if err := k.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) { // Run has closed it
		return fmt.Errorf("close the NTP socket on %v: %w", k.local, err)
	}
	return nil
}

// dropped is how many datagrams found the socket's queue full. The kernel's
// sock_diag(7) names the fields of SO_MEMINFO.
func (k *socket) dropped() (uint64, error) {
	const fields, drops = 9, 8 // SK_MEMINFO_VARS, SK_MEMINFO_DROPS
	var info [fields]uint32
	size := uint32(unsafe.Sizeof(info))
	err := k.control(func(fd int) error {
		_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if e != 0 {
			return fmt.Errorf("read SO_MEMINFO: %w", e)
		}
		return nil
	})
	return uint64(info[drops]), err
}

package announce

import (
	"errors"
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errNotEthernet is wrapped for a link without a 6-byte MAC address (tun, loopback).
var errNotEthernet = errors.New("it has no Ethernet address")

// ifreq is struct ifreq of netdevice(7): the name, then a value by the request.
type ifreq struct {
	name  [unix.IFNAMSIZ]byte
	value [24]byte
}

// lookup gives index, MAC address and flags of one link. net.InterfaceByName
// lists all links for that, which takes long where there are hundreds.
func lookup(link string) (*net.Interface, error) {
	if len(link) >= unix.IFNAMSIZ {
		return nil, unix.ENODEV
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	ask := func(request uintptr) (ifreq, error) {
		var r ifreq
		copy(r.name[:], link)
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&r))); e != 0 { //nolint:gosec // x/sys has no ifreq with a hardware address
			return r, e
		}
		return r, nil
	}
	index, err := ask(unix.SIOCGIFINDEX)
	if err != nil {
		return nil, err
	}
	flags, err := ask(unix.SIOCGIFFLAGS)
	if err != nil {
		return nil, err
	}
	hw, err := ask(unix.SIOCGIFHWADDR)
	if err != nil {
		return nil, err
	}
	i := &net.Interface{Name: link, Index: int(*(*int32)(unsafe.Pointer(&index.value[0])))} //nolint:gosec // ifr_ifindex
	if *(*uint16)(unsafe.Pointer(&hw.value[0])) == unix.ARPHRD_ETHER {                      //nolint:gosec // sa_family of ifr_hwaddr
		i.HardwareAddr = append(net.HardwareAddr(nil), hw.value[2:8]...)
	}
	f := *(*uint16)(unsafe.Pointer(&flags.value[0])) //nolint:gosec // ifr_flags
	for bit, flag := range map[uint16]net.Flags{
		unix.IFF_UP: net.FlagUp, unix.IFF_RUNNING: net.FlagRunning, unix.IFF_LOOPBACK: net.FlagLoopback,
		unix.IFF_BROADCAST: net.FlagBroadcast, unix.IFF_MULTICAST: net.FlagMulticast, unix.IFF_POINTOPOINT: net.FlagPointToPoint,
	} {
		if f&bit != 0 {
			i.Flags |= flag
		}
	}
	return i, nil
}

// ethernet is lookup for a link that frames are sent on.
func ethernet(link string) (*net.Interface, error) {
	i, err := lookup(link)
	if err == nil && len(i.HardwareAddr) != 6 {
		err = errNotEthernet
	}
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", link, err)
	}
	return i, nil
}

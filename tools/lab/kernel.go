package lab

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/jsimonetti/rtnetlink/v2/driver"
	"golang.org/x/sys/unix"

	"komainu/drivers/netns"
)

// kernel configures the network of one namespace. It only adds: what a host
// had goes with its namespace.
type kernel struct{ *rtnetlink.Conn }

// configure runs f with a route socket inside ns. The thread is inside too, so
// that /proc/sys/net and net.InterfaceByName mean that namespace.
func configure(ns string, f func(k kernel) error) error {
	return netns.Do(ns, func() error {
		c, err := rtnetlink.Dial(nil)
		if err != nil {
			return fmt.Errorf("open a route socket in %s: %w", ns, err)
		}
		defer c.Close()
		if err := f(kernel{c}); err != nil {
			return fmt.Errorf("in %s: %w", ns, err)
		}
		return nil
	})
}

// sysctl writes one value below /proc/sys/net of the present namespace.
func sysctl(name, value string) error {
	if err := os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0); err != nil {
		return fmt.Errorf("set sysctl net/%s to %s: %w", name, value, err)
	}
	return nil
}

func index(link string) (uint32, error) {
	i, err := net.InterfaceByName(link)
	if err != nil {
		return 0, fmt.Errorf("find link %s: %w", link, err)
	}
	return uint32(i.Index), nil
}

func (k kernel) bridge(name string) error {
	err := k.Link.New(&rtnetlink.LinkMessage{
		Flags: unix.IFF_UP, Change: unix.IFF_UP,
		Attributes: &rtnetlink.LinkAttributes{Name: name, Info: &rtnetlink.LinkInfo{Kind: "bridge"}},
	})
	if err != nil {
		return fmt.Errorf("add bridge %s: %w", name, err)
	}
	return nil
}

// veth adds a pair: name here, peer in the LAN's namespace, enslaved there and
// up. The hardware address follows from the names, so that a host keeps it over
// a power-off and its neighbours find it again.
func (k kernel) veth(name string, lan *LAN, peer string) error {
	f, err := os.Open(filepath.Join(netns.Dir, lan.ns))
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", lan.ns, err)
	}
	defer f.Close()
	err = k.Link.New(&rtnetlink.LinkMessage{Attributes: &rtnetlink.LinkAttributes{
		Name: name, Address: hardware(lan.ns, peer),
		Info: &rtnetlink.LinkInfo{Kind: "veth", Data: &driver.Veth{PeerInfo: &rtnetlink.LinkMessage{
			Attributes: &rtnetlink.LinkAttributes{Name: peer, NetNS: rtnetlink.NetNSForFD(uint32(f.Fd()))},
		}}},
	}})
	if err != nil {
		return fmt.Errorf("add veth %s to %s in %s: %w", name, peer, lan.ns, err)
	}
	return configure(lan.ns, func(k kernel) error { return k.plug(peer, lan.master) })
}

// plug gives a link to a bridge or bond and takes it up; a bond wants it down
// until then.
func (k kernel) plug(link, to string) error {
	master, err := index(to)
	if err != nil {
		return err
	}
	port, err := index(link)
	if err != nil {
		return err
	}
	if err := k.Link.Set(&rtnetlink.LinkMessage{Index: port, Attributes: &rtnetlink.LinkAttributes{Master: &master}}); err != nil {
		return fmt.Errorf("plug %s into %s: %w", link, to, err)
	}
	return k.set(link, true)
}

// hardware is a locally administered unicast address (IEEE 802, second-lowest
// bit of the first byte).
func hardware(lan, host string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(lan + "/" + host))
	return append(net.HardwareAddr{0x02}, sum[:5]...)
}

// unplug deletes a link; one that is gone already is no error.
func (k kernel) unplug(link string) error {
	i, err := net.InterfaceByName(link)
	if err != nil {
		return nil
	}
	if err := k.Link.Delete(uint32(i.Index)); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete link %s: %w", link, err)
	}
	return nil
}

// set takes a link up or down.
func (k kernel) set(link string, up bool) error {
	i, err := index(link)
	if err != nil {
		return err
	}
	m := &rtnetlink.LinkMessage{Index: i, Change: unix.IFF_UP}
	if up {
		m.Flags = unix.IFF_UP
	}
	if err := k.Link.Set(m); err != nil {
		return fmt.Errorf("set link %s up=%v: %w", link, up, err)
	}
	return nil
}

// station sets the hardware address of a link.
func (k kernel) station(link string, mac net.HardwareAddr) error {
	i, err := index(link)
	if err == nil {
		err = k.Link.Set(&rtnetlink.LinkMessage{Index: i, Attributes: &rtnetlink.LinkAttributes{Address: mac}})
	}
	if err != nil {
		return fmt.Errorf("set the hardware address of link %s: %w", link, err)
	}
	return nil
}

// queue sets how many packets may wait in the link for a slow reader (an ioctl:
// rtnetlink/v2 reads the attribute but does not write it).
func (k kernel) queue(link string, packets uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket for ioctls: %w", err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(link)
	if err == nil {
		r.SetUint32(packets)
		err = unix.IoctlIfreq(fd, unix.SIOCSIFTXQLEN, r)
	}
	if err != nil {
		return fmt.Errorf("set the queue of link %s to %d packets: %w", link, packets, err)
	}
	return nil
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// address adds p without duplicate address detection, so that it can be used
// at once.
func (k kernel) address(link string, p netip.Prefix) error {
	i, err := index(link)
	if err != nil {
		return err
	}
	ip := net.IP(p.Addr().AsSlice())
	err = k.Address.New(&rtnetlink.AddressMessage{
		Family: family(p.Addr()), PrefixLength: uint8(p.Bits()), Index: i,
		Attributes: &rtnetlink.AddressAttributes{Address: ip, Local: ip, Flags: unix.IFA_F_NODAD},
	})
	if err != nil {
		return fmt.Errorf("add address %s to %s: %w", p, link, err)
	}
	return nil
}

// route adds or replaces the route to prefix p.
func (k kernel) route(p netip.Prefix, via netip.Addr, link string) error {
	i, err := index(link)
	if err != nil {
		return err
	}
	m := &rtnetlink.RouteMessage{
		Family: family(via), DstLength: uint8(p.Bits()),
		Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_STATIC, Type: unix.RTN_UNICAST,
		Attributes: rtnetlink.RouteAttributes{Gateway: via.AsSlice(), OutIface: i},
	}
	if p.Bits() > 0 {
		m.Attributes.Dst = p.Masked().Addr().AsSlice()
	}
	if err := k.Route.Replace(m); err != nil {
		return fmt.Errorf("add route to %s via %s on %s: %w", p, via, link, err)
	}
	return nil
}

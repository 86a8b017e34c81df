package boxes

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"

	"komainu/tools/lab"
)

// wiring connects one boot to the links of its host: a port of a LAN is bridged
// to a tap of QEMU's, a line gets a wire (wire.go).
type wiring struct {
	boot  *boot
	host  *lab.Host
	files []*os.File // for QEMU, which finds them from descriptor 3 on
}

// give keeps a file for QEMU and returns its descriptor there.
func (w *wiring) give(f *os.File) string {
	w.files = append(w.files, f)
	return strconv.Itoa(2 + len(w.files))
}

// closeFiles closes our copies of what QEMU has got.
func (w *wiring) closeFiles() {
	for _, f := range w.files {
		f.Close()
	}
}

// prepare makes the host's namespace a piece of cable: it has no addresses,
// sends nothing of its own, and routes nothing.
func (w *wiring) prepare() error {
	return w.inside(func(k *rtnetlink.Conn) error {
		for _, s := range []struct{ name, value string }{
			{"ipv6/conf/all/disable_ipv6", "1"},
			{"ipv6/conf/default/disable_ipv6", "1"},
			{"ipv4/conf/all/forwarding", "0"},
		} {
			if err := os.WriteFile("/proc/sys/net/"+s.name, []byte(s.value), 0); err != nil {
				return err
			}
		}
		have, err := k.Address.List()
		if err != nil {
			return fmt.Errorf("list addresses: %w", err)
		}
		for _, a := range have {
			if a.Family == unix.AF_INET && !a.Attributes.Address.IsLoopback() {
				if err := k.Address.Delete(&a); err != nil {
					return fmt.Errorf("delete address %s: %w", a.Attributes.Address, err)
				}
			}
		}
		return nil
	})
}

// card returns QEMU's options for network card number i.
func (w *wiring) card(i int, n NIC) ([]string, error) {
	id := fmt.Sprintf("nic%d", i)
	model := n.Model
	if model == "" {
		model = "virtio-net-pci"
	}
	// No ROM: the firmware has nothing to boot over a network.
	device := fmt.Sprintf("%s,id=%s,addr=0x%x,romfile=,mac=%s", model, id, 0x10+i, hardware(w.host, id))
	if n.Link == "" {
		return []string{"-device", device}, nil
	}
	var backend string
	err := w.inside(func(k *rtnetlink.Conn) error {
		link, err := net.InterfaceByName(n.Link)
		if err != nil {
			return fmt.Errorf("find link %s: %w", n.Link, err)
		}
		if len(link.HardwareAddr) == 0 { // a line's tun device
			theirs, wire, err := newWire(w.host, id, link.Index)
			if err != nil {
				return err
			}
			w.boot.wires = append(w.boot.wires, wire)
			w.boot.tasks.Go(wire.fromBox)
			w.boot.tasks.Go(wire.toBox)
			backend = "dgram,local.type=fd,local.str=" + w.give(theirs)
			return nil
		}
		tap, err := openTap(id)
		if err != nil {
			return err
		}
		backend = "tap,fd=" + w.give(tap)
		return bridge(k, "bridge"+strconv.Itoa(i), n.Link, id)
	})
	if err != nil {
		return nil, fmt.Errorf("network card %d: %w", i, err)
	}
	return []string{"-netdev", backend + ",id=net" + strconv.Itoa(i), "-device", device + ",netdev=net" + strconv.Itoa(i)}, nil
}

// inside runs f with a route socket, on a thread inside the host's namespace.
func (w *wiring) inside(f func(k *rtnetlink.Conn) error) error {
	return w.host.Do(func() error {
		k, err := rtnetlink.Dial(nil)
		if err != nil {
			return fmt.Errorf("open a route socket: %w", err)
		}
		return errors.Join(f(k), k.Close())
	})
}

// bridge makes a bridge of that name, unless it is there, and puts the links in.
func bridge(k *rtnetlink.Conn, name string, links ...string) error {
	err := k.Link.New(&rtnetlink.LinkMessage{
		Flags: unix.IFF_UP, Change: unix.IFF_UP,
		Attributes: &rtnetlink.LinkAttributes{Name: name, Info: &rtnetlink.LinkInfo{Kind: "bridge"}},
	})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add bridge %s: %w", name, err)
	}
	master, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", name, err)
	}
	to := uint32(master.Index)
	for _, link := range links {
		port, err := net.InterfaceByName(link)
		if err != nil {
			return fmt.Errorf("find link %s: %w", link, err)
		}
		err = k.Link.Set(&rtnetlink.LinkMessage{
			Index: uint32(port.Index), Flags: unix.IFF_UP, Change: unix.IFF_UP,
			Attributes: &rtnetlink.LinkAttributes{Master: &to},
		})
		if err != nil {
			return fmt.Errorf("plug %s into the bridge: %w", link, err)
		}
	}
	return nil
}

// openTap makes a tap device in the present namespace that lives as long as the
// file. Without IFF_VNET_HDR QEMU offers the guest no offloads, so every packet
// has its checksum.
func openTap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make tap device %s: %w", name, err)
	}
	r, err := unix.NewIfreq(name)
	if err == nil {
		r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make tap device %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// hardware is a locally administered unicast address that follows from the
// names, so that neighbours find a box again after a power cut.
func hardware(h *lab.Host, name string) net.HardwareAddr {
	sum := sha256.Sum256([]byte("box/" + h.Namespace + "/" + name))
	return append(net.HardwareAddr{0x02}, sum[:5]...)
}

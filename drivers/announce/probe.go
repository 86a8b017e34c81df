package announce

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
)

// Conflict is an address that another host has, or is about to take.
type Conflict struct {
	Addr netip.Addr
	MAC  net.HardwareAddr // of the other host
	// Probed: the other host has only asked for it. That is one about to take it,
	// or a switch that looks which hosts are there, as some do (RFC 5227, 2.1.1
	// doesn't tell them apart).
	Probed bool
}

// ErrNoCarrier says that nobody can be asked or told on a link yet: it has no
// carrier, or the kernel hasn't told so yet (up to a second after it came).
var ErrNoCarrier = errors.New("no carrier")

// RFC 5227, 1.1 has three probes 1-2 s apart and waits 2 s after the last, for
// hosts that sleep and networks that come up slowly. A box has to be back within
// seconds, on wires that have carrier already: an answer takes well below a
// millisecond there, and 60 ms span what a busy host or a switch that learns
// adds.
const (
	probes   = 3
	interval = 60 * time.Millisecond
)

// Probe asks the link's neighbours, before IPv4 addresses are used, whether
// somebody has them (RFC 5227, 2.1.1): three ARP probes for each, all addresses
// at once, 180 ms in all. A conflict is an ARP packet of another MAC with the
// address as its sender, or another host's probe for it. IPv6 addresses are left
// out, since the kernel looks for duplicates itself (RFC 4862, 5.4); so is a link
// without Ethernet, where nobody could answer. The result is in the order of
// addrs, one for each at most. ErrNoCarrier is for a link to ask again when it
// has some. When ctx ends it returns what it has, with the error of ctx. It works
// in the network namespace of the calling thread and needs CAP_NET_RAW.
func Probe(ctx context.Context, link string, addrs []netip.Addr) ([]Conflict, error) {
	found, err := probe(ctx, link, addrs)
	if err != nil {
		err = fmt.Errorf("look for duplicates of addresses on link %s: %w", link, err)
	}
	var conflicts []Conflict
	for _, a := range addrs {
		a = a.Unmap()
		if c, ok := found[a]; ok {
			conflicts = append(conflicts, c)
			delete(found, a)
		}
	}
	return conflicts, err
}

func probe(ctx context.Context, link string, addrs []netip.Addr) (map[netip.Addr]Conflict, error) {
	ifi, err := lookup(link)
	if err != nil {
		return nil, err
	}
	if len(ifi.HardwareAddr) != 6 || ifi.Flags&net.FlagBroadcast == 0 {
		return nil, nil
	}
	const usable = net.FlagUp | net.FlagRunning
	if ifi.Flags&usable != usable {
		return nil, ErrNoCarrier
	}
	var frames [][]byte
	found := map[netip.Addr]Conflict{}
	asked := map[netip.Addr]bool{}
	for _, a := range addrs {
		if a = a.Unmap(); !a.Is4() || asked[a] {
			continue
		}
		asked[a] = true
		f, err := arp(ifi.HardwareAddr, netip.IPv4Unspecified(), a)
		if err != nil {
			return nil, err
		}
		frames = append(frames, f)
	}
	if len(frames) == 0 {
		return nil, nil
	}
	s, err := listenARP(ifi.Index)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.SetReadDeadline(time.Unix(1, 0)) })()
	for range probes {
		for _, f := range frames {
			if _, err := s.Write(f); err != nil {
				return found, sent(err)
			}
		}
		if err := s.SetReadDeadline(time.Now().Add(interval)); err != nil {
			return found, err
		}
		if ctx.Err() != nil { // it may have ended before the deadline was set
			return found, ctx.Err()
		}
		if err := hear(s, ifi.HardwareAddr, asked, found); err != nil {
			return found, err
		}
	}
	return found, ctx.Err()
}

// sent is the error of sending a frame. The kernel refuses one so on a link that
// has lost its carrier, before it tells.
func sent(err error) error {
	if errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.ENOBUFS) {
		return ErrNoCarrier
	}
	return err
}

// listenARP opens a packet socket that sends and receives the ARP frames of a
// link.
func listenARP(index int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	const arpType = unix.ETH_P_ARP>>8 | unix.ETH_P_ARP&0xff<<8 // in network order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: arpType, Ifindex: index}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind a packet socket: %w", err)
	}
	return os.NewFile(uintptr(fd), "arp"), nil
}

// hear collects conflicts until the deadline of the socket.
func hear(s *os.File, mac net.HardwareAddr, asked map[netip.Addr]bool, found map[netip.Addr]Conflict) error {
	b := make([]byte, 2048)
	for {
		n, err := s.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, unix.ENETDOWN) {
			return nil
		}
		if err != nil {
			return err
		}
		c, ok := claim(b[:n], mac)
		if known, before := found[c.Addr]; ok && asked[c.Addr] && (!before || known.Probed) {
			found[c.Addr] = c
		}
	}
}

// claim is the address that another host's ARP packet claims or probes for.
func claim(frame []byte, mac net.HardwareAddr) (Conflict, bool) {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	m, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP)
	if !ok || m.Protocol != layers.EthernetTypeIPv4 || len(m.SourceHwAddress) != 6 || len(m.SourceProtAddress) != 4 ||
		len(m.DstProtAddress) != 4 || bytes.Equal(m.SourceHwAddress, mac) {
		return Conflict{}, false
	}
	c := Conflict{Addr: netip.AddrFrom4([4]byte(m.SourceProtAddress)), MAC: slices.Clone(m.SourceHwAddress)}
	if c.Addr.IsUnspecified() && m.Operation == layers.ARPRequest {
		c.Addr, c.Probed = netip.AddrFrom4([4]byte(m.DstProtAddress)), true
	}
	return c, !c.Addr.IsUnspecified()
}

// arp is a request of a sender about a target, to all.
func arp(mac net.HardwareAddr, sender, target netip.Addr) ([]byte, error) {
	return serialize(
		&layers.Ethernet{SrcMAC: mac, DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: layers.ARPRequest, SourceHwAddress: mac, SourceProtAddress: sender.AsSlice(),
			DstHwAddress: make([]byte, 6), DstProtAddress: target.AsSlice(),
		})
}

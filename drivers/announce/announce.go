// Package announce tells the neighbours on a link where addresses live now:
// gratuitous ARP (RFC 5227, 3: an ARP request in which sender and target are
// the announced address) and unsolicited neighbour advertisements with the
// override flag (RFC 4861, 7.2.6).
package announce

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
)

// Announce sends one announcement for each address, from the link's own MAC
// address, in the network namespace of the calling thread. Needs CAP_NET_RAW.
// A link without a 6-byte MAC address (tun, loopback) is an error.
func Announce(link string, addrs []netip.Addr) error {
	ifi, err := net.InterfaceByName(link)
	if err != nil {
		return fmt.Errorf("announce on link %s: %w", link, err)
	}
	if len(ifi.HardwareAddr) != 6 {
		return fmt.Errorf("announce on link %s: it has no Ethernet address", link)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("announce on link %s: open a packet socket: %w", link, err)
	}
	defer unix.Close(fd)
	var errs []error
	for _, a := range addrs {
		frame, err := frame(ifi.HardwareAddr, a.Unmap())
		if err == nil {
			err = unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: ifi.Index})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("announce %s on link %s: %w", a, link, err))
		}
	}
	return errors.Join(errs...)
}

func frame(mac net.HardwareAddr, a netip.Addr) ([]byte, error) {
	if a.Is4() {
		return serialize(
			&layers.Ethernet{SrcMAC: mac, DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeARP},
			&layers.ARP{
				AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
				Operation: layers.ARPRequest, SourceHwAddress: mac, SourceProtAddress: a.AsSlice(),
				DstHwAddress: make([]byte, 6), DstProtAddress: a.AsSlice(),
			})
	}
	ip := &layers.IPv6{
		Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6,
		SrcIP: a.AsSlice(), DstIP: net.IPv6linklocalallnodes,
	}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborAdvertisement, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil, err
	}
	const router, override = 0x80, 0x20 // without the router flag, hosts would drop us as their gateway
	return serialize(
		&layers.Ethernet{SrcMAC: mac, DstMAC: net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, EthernetType: layers.EthernetTypeIPv6},
		ip, icmp,
		&layers.ICMPv6NeighborAdvertisement{
			Flags: router | override, TargetAddress: a.AsSlice(),
			Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: mac}},
		})
}

func serialize(l ...gopacket.SerializableLayer) ([]byte, error) {
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

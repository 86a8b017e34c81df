// Package announce tells the neighbours on a link where addresses live now:
// gratuitous ARP (RFC 5227, 3: an ARP request in which sender and target are
// the announced address) and unsolicited neighbour advertisements with the
// override flag (RFC 4861, 7.2.6). Before an IPv4 address is used, Probe finds
// out whether somebody else has it.
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

// Announce sends one announcement for each address, by links, from the link's own
// MAC address, in the network namespace of the calling thread. Links that aren't
// there, aren't Ethernet or have no carrier are left out: there is nobody to tell.
// Needs CAP_NET_RAW.
func Announce(byLink map[string][]netip.Addr) error {
	if len(byLink) == 0 {
		return nil
	}
	// One socket for all: to close it waits for all processors (packet(7) in the
	// kernel: synchronize_net), 13 ms and more.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("announce addresses: open a packet socket: %w", err)
	}
	defer unix.Close(fd)
	var errs []error
	for link, addrs := range byLink {
		ifi, err := ethernet(link)
		switch {
		case errors.Is(err, errNotEthernet) || errors.Is(err, unix.ENODEV):
			continue
		case err != nil:
			errs = append(errs, fmt.Errorf("announce on %w", err))
			continue
		}
		for _, a := range addrs {
			frame, err := frame(ifi.HardwareAddr, a.Unmap())
			if err == nil {
				err = sent(unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: ifi.Index}))
			}
			if err != nil && !errors.Is(err, ErrNoCarrier) {
				errs = append(errs, fmt.Errorf("announce %s on link %s: %w", a, link, err))
			}
		}
	}
	return errors.Join(errs...)
}

func frame(mac net.HardwareAddr, a netip.Addr) ([]byte, error) {
	if a.Is4() {
		return arp(mac, a, a)
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

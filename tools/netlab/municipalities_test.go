package netlab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"komainu/tools/lab"
)

const municipalitiesTOML = `[[interface]]
name = "hinata"
on = "port0.110"
address = ["10.110.0.1/24", "2001:db8:110::1/64"]
[[interface]]
name = "kawakami"
on = "port0.120"
address = ["10.120.0.1/24", "2001:db8:120::1/64"]
`

// municipality is one side of TestHostNetMunicipalities.
type municipality struct {
	name    string
	vlan    uint16
	host    *lab.Host
	mac     net.HardwareAddr
	own     [2]netip.Addr // of the host, IPv4 and IPv6
	gate    [2]netip.Addr // of the box
	marker  []byte        // in everything that its host sends
	capture []*capture    // of the switch's side of the VLAN and of the host
}

// TestHostNetMunicipalities: two municipalities on one port of the box, in
// VLANs of their own, with forwarding on, send each other all that a host can.
// Nothing of the one may be seen in the other's VLAN (AT-170).
func TestHostNetMunicipalities(t *testing.T) {
	stockOnly(t)
	p := newPlace(t)
	trunk, err := p.NewTrunk("switch", false)
	must(t, err)
	sides := []*municipality{
		{name: "hinata", vlan: 110, marker: []byte("komainu-of-hinata")},
		{name: "kawakami", vlan: 120, marker: []byte("komainu-of-kawakami")},
	}
	for _, m := range sides {
		lan, err := trunk.VLAN(m.vlan)
		must(t, err)
		m.own = [2]netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.%d.0.7", m.vlan)), netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::7", m.vlan))}
		m.gate = [2]netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.%d.0.1", m.vlan)), netip.MustParseAddr(fmt.Sprintf("2001:db8:%d::1", m.vlan))}
		m.host = p.host(m.name, lan, m.own[0].String()+"/24", m.own[1].String()+"/64")
		m.mac = mac(t, m.host)
	}
	p.start("10.110.0.1", municipalitiesTOML, lab.Port{Link: "port0", LAN: trunk.Ports})
	for _, m := range sides {
		m.capture = []*capture{
			listen(t, trunk.Do, fmt.Sprintf("trunk.%d", m.vlan)),
			listen(t, m.host.Do, "eth0"),
		}
	}
	boxMAC := p.boxMAC("port0")
	sent := 0
	for i, m := range sides {
		sent += m.sendAll(t, sides[1-i], boxMAC)
	}
	for _, m := range sides { // the last word of each is there, so is all before
		m.sentinel(t)
	}
	seen, foreign, why := 0, 0, ""
	for i, m := range sides {
		for _, c := range m.capture {
			for _, f := range c.all() {
				if m.mine(f) {
					seen++
				}
				if sides[1-i].mine(f) {
					foreign++
					why = fmt.Sprintf("; for example in the VLAN of %s: %v", m.name, gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default))
				}
			}
		}
	}
	result(t, "AT-170", foreign == 0 && seen >= sent,
		"two municipalities in tagged VLANs on one port of the box, forwarding on; each sends the other unicast, broadcast, multicast, ARP, neighbour solicitations, forged sources and double tags, IPv4 and IPv6",
		fmt.Sprintf("%d frames of %d sendings crossed, %d of their own seen%s", foreign, sent, seen, why))
}

// boxMAC is the hardware address of a port of the box.
func (p *place) boxMAC(port string) net.HardwareAddr {
	p.t.Helper()
	var out net.HardwareAddr
	must(p.t, p.box.Do(func() error {
		i, err := net.InterfaceByName(port)
		if err == nil {
			out = i.HardwareAddr
		}
		return err
	}))
	return out
}

// mine tells whether a frame comes from m's host, whoever sent it on.
func (m *municipality) mine(frame []byte) bool {
	if len(frame) < 14 {
		return false
	}
	return bytes.Contains(frame, m.marker) || bytes.Equal(frame[6:12], m.mac) || m.asks(frame)
}

// asks: an ARP packet (RFC 826) with an address of m as its sender.
func (m *municipality) asks(frame []byte) bool {
	own := m.own[0].As4()
	return binary.BigEndian.Uint16(frame[12:]) == 0x0806 && len(frame) >= 42 && (bytes.Equal(frame[28:32], own[:]) || bytes.Equal(frame[22:28], m.mac))
}

// sendAll lets m's host send to o all that could cross, and counts it.
func (m *municipality) sendAll(t *testing.T, o *municipality, box net.HardwareAddr) (sent int) {
	t.Helper()
	raw := packetSocket(t, m.host.Do, "eth0")
	defer raw.Close()
	send := func(ls ...gopacket.SerializableLayer) {
		b := gopacket.NewSerializeBuffer()
		must(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, append(ls, gopacket.Payload(m.marker))...))
		_, err := raw.Write(b.Bytes())
		must(t, err)
		sent++
	}
	all := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for _, dst := range []net.HardwareAddr{box, o.mac, all} {
		for _, from := range []*municipality{m, o} { // o: forged
			for _, to := range []netip.Addr{o.own[0], o.gate[0], netip.MustParseAddr(fmt.Sprintf("10.%d.0.255", o.vlan)), netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("224.0.0.1")} {
				eth := &layers.Ethernet{SrcMAC: m.mac, DstMAC: dst, EthernetType: layers.EthernetTypeIPv4}
				ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: from.own[0].AsSlice(), DstIP: to.AsSlice()}
				udp := &layers.UDP{SrcPort: 40000, DstPort: 5432}
				must(t, udp.SetNetworkLayerForChecksum(ip))
				send(eth, ip, udp)
				tcp := &layers.TCP{SrcPort: 40000, DstPort: 5432, SYN: true, Window: 1024}
				must(t, tcp.SetNetworkLayerForChecksum(ip))
				ip.Protocol = layers.IPProtocolTCP
				send(eth, ip, tcp)
				ip.Protocol = layers.IPProtocolICMPv4
				send(eth, ip, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: 1, Seq: 1})
				// A tag inside the tag that the switch adds.
				ip.Protocol = layers.IPProtocolUDP
				eth.EthernetType = layers.EthernetTypeDot1Q
				send(eth, &layers.Dot1Q{VLANIdentifier: o.vlan, Type: layers.EthernetTypeIPv4}, ip, udp)
			}
			for _, to := range []netip.Addr{o.own[1], o.gate[1], netip.MustParseAddr("ff02::1")} {
				eth := &layers.Ethernet{SrcMAC: m.mac, DstMAC: dst, EthernetType: layers.EthernetTypeIPv6}
				ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: from.own[1].AsSlice(), DstIP: to.AsSlice()}
				udp := &layers.UDP{SrcPort: 40000, DstPort: 5432}
				must(t, udp.SetNetworkLayerForChecksum(ip))
				send(eth, ip, udp)
				icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)}
				must(t, icmp.SetNetworkLayerForChecksum(ip))
				ip.NextHeader = layers.IPProtocolICMPv6
				send(eth, ip, icmp, &layers.ICMPv6Echo{Identifier: 1, SeqNumber: 1})
				solicit := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
				must(t, solicit.SetNetworkLayerForChecksum(ip))
				ip.HopLimit = 255
				send(eth, ip, solicit, &layers.ICMPv6NeighborSolicitation{TargetAddress: o.own[1].AsSlice()})
			}
		}
		for _, to := range []netip.Addr{o.own[0], o.gate[0]} {
			send(&layers.Ethernet{SrcMAC: m.mac, DstMAC: dst, EthernetType: layers.EthernetTypeARP}, &layers.ARP{
				AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
				SourceHwAddress: m.mac, SourceProtAddress: m.own[0].AsSlice(), DstHwAddress: make([]byte, 6), DstProtAddress: to.AsSlice()})
		}
		send(&layers.Ethernet{SrcMAC: m.mac, DstMAC: dst, EthernetType: 0x88b5}) // of no protocol (IEEE 802 local experiments)
	}
	return sent
}

// sentinel is a question to the box that it answers, so that the VLAN is seen to
// work; then what is still under way has had time.
func (m *municipality) sentinel(t *testing.T) {
	t.Helper()
	before := len(m.capture[1].all())
	c, err := m.host.Dial(t.Context(), "udp", netip.AddrPortFrom(m.gate[0], 9).String())
	must(t, err)
	defer c.Close()
	_, err = c.Write(m.marker)
	must(t, err)
	eventually(t, time.Minute, func() error {
		if len(m.capture[1].all()) == before {
			return fmt.Errorf("%s sees nothing of its own", m.name)
		}
		return nil
	})
	time.Sleep(time.Second) // silence is what is waited for: a neighbour's failed search lasts as long
}

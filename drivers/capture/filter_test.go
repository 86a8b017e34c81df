package capture

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/net/bpf"
)

var (
	mac  = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	a4   = net.IP{192, 0, 2, 10}
	b4   = net.IP{10, 1, 9, 7}
	a6   = net.ParseIP("fd00:1::10")
	b6   = net.ParseIP("fd00:2::7")
	eth4 = &layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4}
	eth6 = &layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv6}
)

func ip4(p layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: p, SrcIP: a4, DstIP: b4}
}

func ip6(p layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: p, SrcIP: a6, DstIP: b6}
}

func frame(t testing.TB, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, l...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tagged(id uint16, t layers.EthernetType) *layers.Dot1Q {
	return &layers.Dot1Q{VLANIdentifier: id, Priority: 3, Type: t}
}

// packets are those that the table below speaks of.
func packets(t testing.TB) map[string][]byte {
	tcp, udp := &layers.TCP{SrcPort: 40000, DstPort: 5432}, &layers.UDP{SrcPort: 53, DstPort: 41000}
	data := gopacket.Payload("payload of the packet")
	options := ip4(layers.IPProtocolTCP)
	options.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 0}}
	later := ip4(layers.IPProtocolUDP)
	later.FragOffset = 100
	vlan, qinq := *eth4, *eth6
	vlan.EthernetType, qinq.EthernetType = layers.EthernetTypeDot1Q, layers.EthernetTypeQinQ
	arp := &layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: 1,
		SourceHwAddress: mac, SourceProtAddress: a4, DstHwAddress: make([]byte, 6), DstProtAddress: b4}
	ether := func(e layers.Ethernet, kind layers.EthernetType) *layers.Ethernet { e.EthernetType = kind; return &e }
	hop := append([]byte{6, 0, 1, 4, 0, 0, 0, 0}, frame(t, tcp, data)...)
	frag := append([]byte{6, 0, 0, 1, 0, 0, 0, 1}, frame(t, tcp, data)...)
	fragLater := append([]byte{6, 0, 0x01, 0x01, 0, 0, 0, 1}, frame(t, tcp, data)...)
	return map[string][]byte{
		"tcp4":     frame(t, eth4, ip4(layers.IPProtocolTCP), tcp, data),
		"options4": frame(t, eth4, options, tcp, data),
		"udp4":     frame(t, eth4, ip4(layers.IPProtocolUDP), udp, data),
		"later4":   frame(t, eth4, later, data),
		"icmp4":    frame(t, eth4, ip4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: 8 << 8}, data),
		"esp4":     frame(t, eth4, ip4(layers.IPProtocolESP), data),
		"tcp6":     frame(t, eth6, ip6(layers.IPProtocolTCP), tcp, data),
		"udp6":     frame(t, eth6, ip6(layers.IPProtocolUDP), udp, data),
		"icmp6":    frame(t, eth6, ip6(layers.IPProtocolICMPv6), gopacket.Payload{128, 0, 0, 0, 0, 0, 0, 0}),
		"hop6":     frame(t, eth6, ip6(0), gopacket.Payload(hop)),
		"frag6":    frame(t, eth6, ip6(44), gopacket.Payload(frag)),
		"later6":   frame(t, eth6, ip6(44), gopacket.Payload(fragLater)),
		"arp":      frame(t, ether(*eth4, layers.EthernetTypeARP), arp),
		"vlan":     frame(t, &vlan, tagged(110, layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP), tcp, data),
		"qinq":     frame(t, &qinq, tagged(200, layers.EthernetTypeDot1Q), tagged(110, layers.EthernetTypeIPv6), ip6(layers.IPProtocolTCP), tcp, data),
		"lldp":     append(append(append([]byte{}, mac...), mac...), 0x88, 0xcc, 2, 7, 4),
		"short":    {1, 2, 3},
		"cut4":     frame(t, eth4, ip4(layers.IPProtocolTCP), tcp)[:14+20+2],
		"cutip":    frame(t, eth4, ip4(layers.IPProtocolTCP), tcp)[:14+10],
	}
}

const withoutPorts = "esp4 icmp4 icmp6 later4 later6 arp lldp short cut4 cutip"

func TestFilters(t *testing.T) {
	all := packets(t)
	for filter, want := range map[string]string{
		"":                              "all",
		"host 192.0.2.10":               "tcp4 options4 udp4 later4 icmp4 esp4 arp vlan cut4",
		"host 10.1.9.7":                 "tcp4 options4 udp4 later4 icmp4 esp4 arp vlan cut4",
		"host 10.1.9.8":                 "",
		"net 10.1.0.0/16":               "tcp4 options4 udp4 later4 icmp4 esp4 arp vlan cut4",
		"net 10.1.8.0/23":               "tcp4 options4 udp4 later4 icmp4 esp4 arp vlan cut4",
		"net 10.1.10.0/23":              "",
		"net 0.0.0.0/0":                 "tcp4 options4 udp4 later4 icmp4 esp4 arp vlan cut4",
		"host fd00:1::10":               "tcp6 udp6 icmp6 hop6 frag6 later6 qinq",
		"net fd00:2::/33":               "tcp6 udp6 icmp6 hop6 frag6 later6 qinq",
		"net fd00:2::/64":               "tcp6 udp6 icmp6 hop6 frag6 later6 qinq",
		"net fd00:3::/64":               "",
		"port 5432":                     "tcp4 options4 tcp6 hop6 frag6 vlan qinq",
		"port 40000":                    "tcp4 options4 tcp6 hop6 frag6 vlan qinq",
		"port 53":                       "udp4 udp6",
		"port 54":                       "",
		"tcp":                           "tcp4 options4 tcp6 hop6 frag6 later6 vlan qinq cut4",
		"udp":                           "udp4 udp6 later4",
		"icmp":                          "icmp4 icmp6",
		"arp":                           "arp",
		"esp":                           "esp4",
		"ip":                            "tcp4 options4 udp4 later4 icmp4 esp4 vlan cut4 cutip",
		"ip6":                           "tcp6 udp6 icmp6 hop6 frag6 later6 qinq",
		"vlan":                          "vlan qinq",
		"vlan 110":                      "vlan",
		"vlan 200":                      "qinq", // the outer one counts
		"vlan 111":                      "",
		"vlan 200 and tcp port 5432":    "qinq",
		"not port 5432":                 "udp4 udp6 " + withoutPorts,
		"not ( port 5432 or port 53 )":  withoutPorts,
		"not(port 5432 or port 53)":     withoutPorts,
		"! host 192.0.2.10":             "tcp6 udp6 icmp6 hop6 frag6 later6 qinq lldp short cutip",
		"not not arp":                   "arp",
		"udp or arp and host 192.0.2.9": "udp4 udp6 later4",
		"(udp or arp) host 192.0.2.10":  "udp4 later4 arp",
		"not ip and not ip6":            "arp lldp short",
	} {
		f, err := Parse(strings.Fields(filter))
		if err != nil {
			t.Errorf("%s: %v", filter, err)
			continue
		}
		again, err := Parse(strings.Fields(f.String()))
		if err != nil || again.String() != f.String() {
			t.Errorf("%s: written as %q, which reads as %q: %v", filter, f, again, err)
		}
		vm := machine(t, f, Ethernet)
		for name, b := range all {
			n, err := vm.Run(b)
			wants := want == "all" || strings.Contains(" "+want+" ", " "+name+" ")
			if err != nil || (n > 0) != wants {
				t.Errorf("%q of %s: %d %v, want %v", filter, name, n, err, wants)
			}
		}
		if _, err := f.Program(Ethernet); err != nil {
			t.Errorf("%s: %v", filter, err)
		}
	}
}

// machine runs a filter without a kernel; the virtual machine has no metadata,
// so tags are in the frame.
func machine(t testing.TB, f Filter, link Link) *bpf.VM {
	t.Helper()
	code, err := f.assemble(link, []bpf.Instruction{bpf.LoadConstant{Dst: bpf.RegA, Val: noTag}, bpf.StoreScratch{Src: bpf.RegA, N: atTag}})
	if err != nil {
		t.Fatal(err)
	}
	vm, err := bpf.NewVM(code)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func TestRawLinks(t *testing.T) {
	all := packets(t)
	for filter, want := range map[string]string{"tcp port 5432": "tcp4 options4 tcp6 hop6 frag6", "host 10.1.9.7": "tcp4 options4 udp4 later4 icmp4 esp4 cut4", "vlan": ""} {
		f, err := Parse(strings.Fields(filter))
		if err != nil {
			t.Fatal(err)
		}
		vm := machine(t, f, Raw)
		for name, b := range all {
			if len(b) < 14 || b[12] == 0x81 || b[12] == 0x88 || b[12] == 8 && b[13] == 6 {
				continue
			}
			if n, err := vm.Run(b[14:]); err != nil || (n > 0) != strings.Contains(" "+want+" ", " "+name+" ") {
				t.Errorf("%q of %s: %d %v", filter, name, n, err)
			}
		}
		if n, err := vm.Run([]byte{0xff}); n != 0 || err != nil {
			t.Errorf("%q of nothing: %d %v", filter, n, err)
		}
	}
}

func TestNotFilters(t *testing.T) {
	for _, words := range []string{"host", "host a", "host 1.2.3", "net 10.0.0.1", "net 10.0.0.0/33", "port", "port 0", "port 65536", "port x", "vlan 4095", "and", "or tcp",
		"tcp or", "not", "(", "( tcp", "tcp )", "tcp ) udp", "sctp", "host 10.0.0.1 foo", strings.Repeat("( ", 40) + "tcp" + strings.Repeat(" )", 40),
		strings.Repeat("tcp or ", 70) + "tcp", strings.Repeat("not ", 30) + "tcp"} {
		if f, err := Parse(strings.Fields(words)); !errors.Is(err, ErrFilter) {
			t.Errorf("%q: %q %v", words, f, err)
		}
	}
}

func TestWithout(t *testing.T) {
	own := Connection{netip.MustParseAddrPort("192.0.2.10:40000"), netip.MustParseAddrPort("10.1.9.7:5432")}
	vm := machine(t, Filter{}.Without([]Connection{own}), Ethernet)
	for name, b := range packets(t) {
		ours := name == "tcp4" || name == "options4" || name == "vlan"
		if n, err := vm.Run(b); err != nil || (n > 0) == ours {
			t.Errorf("%s: %d %v", name, n, err)
		}
	}
	long := Filter{}
	for range 20 {
		long = long.Without([]Connection{own, {netip.MustParseAddrPort("[fd00:1::10]:22"), netip.MustParseAddrPort("[fd00:2::7]:999")}})
	}
	if _, err := long.Program(Ethernet); err != nil {
		t.Error(err)
	}
}

// FuzzFilter: no words and no packet upset the compiler, and what is compiled
// always ends.
func FuzzFilter(f *testing.F) {
	for name, b := range packets(f) {
		f.Add("tcp and not ( port 53 or vlan 7 ) or net fd00::/9 "+name, b)
	}
	f.Fuzz(func(t *testing.T, words string, b []byte) {
		for _, link := range []Link{Ethernet, Raw} {
			got, err := Parse(strings.Fields(words))
			if err != nil {
				return
			}
			if _, err := got.Program(link); err != nil && !errors.Is(err, ErrFilter) {
				t.Fatal(err)
			}
			yes, _ := machine(t, got, link).Run(b)
			no, _ := machine(t, Filter{not{anything(got)}}, link).Run(b)
			if (yes > 0) == (no > 0) {
				t.Fatalf("%q and its opposite both say %d", got, yes)
			}
		}
	})
}

func anything(f Filter) node {
	if f.root == nil {
		return either{proto("arp"), not{proto("arp")}}
	}
	return f.root
}

package rtnl_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/netns/netnstest"
	"komainu/netstack/plan"
	"komainu/netstack/spec"
)

// tunnels is a box with a line and the inside of two tunnels over it.
func tunnels(ids ...uint32) spec.Network {
	n := spec.Network{Links: []spec.Link{{Name: "p0", Kind: spec.Port, Label: "wan", Up: true}}}
	n.Addresses = []spec.Address{on("p0", "198.51.100.1/24"), on("p0", "fd00:2::1/64")}
	n.Routes = []spec.Route{{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("198.51.100.2"), Link: "p0"},
		{To: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("fd00:2::2"), Link: "p0"}}
	for i, id := range ids {
		name := fmt.Sprintf("vpn-%d", i)
		n.Links = append(n.Links, spec.Link{Name: name, Kind: spec.XFRM, Label: name, Up: true, MTU: 1400, IfID: id})
		four, six := on(name, fmt.Sprintf("10.255.%d.1/30", i)), on(name, fmt.Sprintf("fd00:255:%d::1/126", i))
		n.Addresses = append(n.Addresses, four, six)
		n.Routes = append(n.Routes, spec.Route{To: netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", i+1)), Link: name, Source: four.Prefix.Addr()},
			spec.Route{To: netip.MustParsePrefix(fmt.Sprintf("fd00:%d00::/32", i+1)), Link: name, Source: six.Prefix.Addr()})
	}
	return n
}

func TestHostTunnelsComeChangeAndGo(t *testing.T) {
	p := newPair(t)
	p.makes(spec.XFRM)
	mtu := func(n spec.Network, mtu int) spec.Network {
		n.Links[1].MTU = mtu
		return n
	}
	other := tunnels(7, 8)
	other.Links[1].Name, other.Links[1].Label = "vpn-9", "vpn-9" // another name has the if_id
	other.Addresses, other.Routes = other.Addresses[:2], other.Routes[:2]
	for i, want := range []spec.Network{
		tunnels(7), tunnels(7, 8), tunnels(8, 7), tunnels(4294967295, 7), mtu(tunnels(7), 1300), mtu(tunnels(7), 1060), tunnels(7), other, tunnels(), {},
	} {
		t.Log("network", i)
		p.converge(want)
	}
	// A link of somebody else has the if_id: nothing is taken from it.
	netnstest.IP(t, p.box, "link add foreign type xfrm if_id 7")
	if err := p.try(plan.Diff(p.observe(), tunnels(7))...); !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "if_id 7") {
		t.Errorf("an if_id of somebody else: %v", err)
	}
	netnstest.Run(t, p.box, "ip", "link", "show", "foreign")
	// What has our name but is no tunnel is made anew.
	p.converge(spec.Network{Links: []spec.Link{{Name: "vpn-0", Kind: spec.Bridge, Label: "b", Up: true}}})
	p.converge(tunnels(8))
}

// What IPv6 needs at least: the kernel takes its addresses away, and they come
// back with the MTU.
func TestHostNarrowTunnelHasNoIPv6(t *testing.T) {
	p := newPair(t)
	p.makes(spec.XFRM)
	narrow := tunnels(7)
	narrow.Links[1].MTU = 1279
	six := func() (n int) {
		for _, a := range p.observe().Addresses {
			if a.Link == "vpn-0" && a.Prefix.Addr().Is6() && !a.Prefix.Addr().IsLinkLocalUnicast() {
				n++
			}
		}
		return n
	}
	p.converge(tunnels(7))
	wide := six()
	p.converge(narrow)
	if n := six(); wide != 1 || n != 0 {
		t.Errorf("%d addresses of IPv6 before, %d with an MTU of 1279", wide, n)
	}
	p.converge(tunnels(7))
	if six() != 1 {
		t.Error("the address hasn't come back")
	}
}

// A route's MTU and a rule's mark, as ip(8) shows them, changed in place.
func TestHostRouteMTUAndMarks(t *testing.T) {
	p := newPair(t)
	want := spec.Network{
		Links:     []spec.Link{{Name: "p0", Kind: spec.Port, Label: "wan", Up: true}},
		Addresses: []spec.Address{on("p0", "198.51.100.1/24"), on("p0", "fd00:2::1/64")},
		Routes: []spec.Route{
			{To: netip.MustParsePrefix("10.1.0.0/16"), Link: "p0"}, {To: netip.MustParsePrefix("fd00:100::/32"), Link: "p0"},
			{To: netip.MustParsePrefix("10.1.0.0/16"), Via: netip.MustParseAddr("198.51.100.2"), Link: "p0", Table: 1901},
			{To: netip.MustParsePrefix("fd00:100::/32"), Via: netip.MustParseAddr("fd00:2::2"), Link: "p0", Table: 1901},
		},
		Rules: []spec.Rule{
			{Priority: 1001, From: netip.MustParsePrefix("0.0.0.0/0"), Mark: 0x10000, Mask: 0xff0000, Table: 1901},
			{Priority: 1001, From: netip.MustParsePrefix("::/0"), Mark: 0x10000, Mask: 0xff0000, Table: 1901},
			{Priority: 1002, From: netip.MustParsePrefix("10.9.0.0/16"), Mark: 0x20000, Mask: 0xff0000, Table: 1901},
		},
	}
	p.converge(want)
	for i := range want.Routes {
		want.Routes[i].MTU = 1300 + i
	}
	changes := plan.Diff(p.observe(), want)
	if len(changes) != len(want.Routes) || slices.ContainsFunc(changes, func(c plan.Change) bool { return c.Kind != plan.ReplaceRoute }) {
		t.Errorf("other MTUs: %v", changes)
	}
	p.converge(want)
	for _, x := range []struct{ family, to, mark, mtu string }{
		{"-4", "10.1.2.3", "0", "mtu 1300"}, {"-6", "fd00:100::9", "0", "mtu 1301"},
		{"-4", "10.1.2.3", "0x10000", "mtu 1302"}, {"-6", "fd00:100::9", "0x10000", "mtu 1303"}, {"-4", "10.1.2.3", "0x03010000", "mtu 1302"},
	} {
		if s := netnstest.Run(t, p.box, "ip", x.family, "route", "get", x.to, "mark", x.mark); !strings.Contains(s, x.mtu) {
			t.Errorf("to %s with mark %s: %s, want %s", x.to, x.mark, s, x.mtu)
		}
	}
	want.Routes[0].MTU, want.Routes[1].MTU = 0, 0
	want.Rules[0].Mark, want.Rules = 0x30000, want.Rules[:2]
	p.converge(want)
	if s := netnstest.Run(t, p.box, "ip", "rule"); !strings.Contains(s, "fwmark 0x30000/0xff0000") || strings.Contains(s, "0x20000") {
		t.Errorf("rules:\n%s", s)
	}
	p.converge(spec.Network{})
}

// Without a security association nothing that is routed into a tunnel leaves the
// box, not over the line either, and whoever sends learns it at once.
func TestHostTunnelWithoutAssociationDrops(t *testing.T) {
	p := newPair(t)
	p.makes(spec.XFRM)
	netnstest.IP(t, p.far, "addr add 198.51.100.2/24 dev p0\naddr add fd00:2::2/64 dev p0 nodad")
	p.converge(tunnels(7))
	p.unusable(on("p0", "fd00:2::1/64"))
	before := p.detail(p.c, "vpn-0").Counters
	wire := sniff(t, p.far)
	for _, to := range []string{"10.1.2.3:9", "[fd00:100::9]:9", "198.51.100.2:9", "[fd00:2::2]:9"} {
		netnstest.Do(t, p.box, func() error {
			c, err := net.Dial("udp", to)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("secret"))
			if into := strings.Contains(to, "10.1.") || strings.Contains(to, "fd00:100"); err != nil && !into {
				return err
			}
			return nil
		})
	}
	// The last two come; the first two would have come before them.
	heard := map[netip.Addr]bool{}
	for len(heard) < 2 {
		for _, to := range wire() {
			heard[to] = true
		}
	}
	for _, to := range []string{"198.51.100.2", "fd00:2::2"} {
		if !heard[netip.MustParseAddr(to)] {
			t.Errorf("on the line: %v", heard)
		}
	}
	if len(heard) != 2 {
		t.Errorf("on the line: %v", heard)
	}
	after := p.detail(p.c, "vpn-0").Counters
	if after.TxPackets != before.TxPackets || after.TxErrors+after.TxDropped < before.TxErrors+before.TxDropped+2 {
		t.Errorf("counters of the tunnel: %+v, before %+v", after, before)
	}
}

// sniff hears the line at p0 of a namespace; each call gives where the next UDP
// packet goes to.
func sniff(t *testing.T, ns string) func() []netip.Addr {
	t.Helper()
	var fd int
	netnstest.Do(t, ns, func() (err error) {
		const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(fd) })
		i, err := net.InterfaceByName("p0")
		if err != nil {
			return err
		}
		return errors.Join(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index}),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(5 * time.Second / time.Second)}))
	})
	b := make([]byte, 2000)
	return func() []netip.Addr {
		t.Helper()
		n, err := unix.Read(fd, b)
		if err != nil {
			t.Fatalf("nothing on the line: %v", err)
		}
		switch {
		case n >= 28 && b[0]>>4 == 4 && b[9] == unix.IPPROTO_UDP:
			return []netip.Addr{netip.AddrFrom4([4]byte(b[16:20]))}
		case n >= 48 && b[0]>>4 == 6 && b[6] == unix.IPPROTO_UDP:
			return []netip.Addr{netip.AddrFrom16([16]byte(b[24:40]))}
		}
		return nil
	}
}

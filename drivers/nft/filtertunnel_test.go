package nft_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/netns/netnstest"
	"komainu/netstack/firewall"
	"komainu/netstack/firewall/firewalltest"
)

// inner are addresses of the data centre behind the tunnels, IPv4 first.
var inner = [2]netip.Addr{netip.MustParseAddr("10.1.4.20"), netip.MustParseAddr("2001:db8:1::20")}

// closedTown is a town whose box reaches the data centre's inner network through
// tunnels alone: two, made by hand, over the same line. Skips where the kernel
// has none.
func closedTown(t *testing.T) walled {
	t.Helper()
	w := wall(t)
	netnstest.Do(t, w.Box, func() error {
		if out, err := exec.Command("ip", "link", "add", "vpn-dc-main", "type", "xfrm", "if_id", "7").CombinedOutput(); err != nil {
			t.Skipf("this kernel has no XFRM interfaces; it runs in the virtual machine: %s", out)
		}
		return nil
	})
	netnstest.IP(t, w.Box, `link add vpn-dc-alt type xfrm if_id 8
link set vpn-dc-main mtu 1400 up
link set vpn-dc-alt mtu 1400 up
addr add 10.255.7.2/30 dev vpn-dc-main
addr add fd00:7::2/126 dev vpn-dc-main
addr add 10.255.8.2/30 dev vpn-dc-alt
route add default via 198.51.100.2
route add default via fd00:2::2`)
	netnstest.IP(t, w.DC, `link add vpn-a type xfrm if_id 7
link add vpn-b type xfrm if_id 8
link set vpn-a mtu 1400 up
link set vpn-b mtu 1400 up
addr add 10.255.7.1/30 dev vpn-a
addr add fd00:7::1/126 dev vpn-a
addr add 10.255.8.1/30 dev vpn-b
addr add 10.1.4.20/32 dev lo
addr add 2001:db8:1::20/128 dev lo nodad`)
	lead(t, w.Box, "10.1.0.0/16", "2001:db8:1::/48", "vpn-dc-main")
	lead(t, w.DC, "192.0.2.0/24", "fd00:1::/64", "vpn-a")
	associate(t, w)
	return w
}

// lead routes both families over a link.
func lead(t *testing.T, ns, four, six, link string) {
	t.Helper()
	netnstest.IP(t, ns, fmt.Sprintf("route replace %s dev %s\nroute replace %s dev %s", four, link, six, link))
}

// associate installs security associations and policies of both tunnels on both
// sides.
func associate(t *testing.T, w walled) {
	t.Helper()
	key := "0x" + strings.Repeat("7a", 36)
	for _, side := range []struct{ ns, here, there string }{{w.Box, "198.51.100.1", "198.51.100.2"}, {w.DC, "198.51.100.2", "198.51.100.1"}} {
		var lines []string
		for _, id := range []int{7, 8} {
			for _, x := range []struct{ src, dst string }{{side.here, side.there}, {side.there, side.here}} {
				spi := 0x1000 + id
				if x.src == "198.51.100.2" {
					spi += 0x100
				}
				lines = append(lines, fmt.Sprintf("xfrm state add src %s dst %s proto esp spi %d reqid %d mode tunnel flag af-unspec if_id %d aead rfc4106(gcm(aes)) %s 128", x.src, x.dst, spi, id, id, key))
			}
			for _, all := range []string{"0.0.0.0/0", "::/0"} {
				for _, dir := range []string{"out", "in", "fwd"} {
					src, dst := side.here, side.there
					if dir != "out" {
						src, dst = dst, src
					}
					lines = append(lines, fmt.Sprintf("xfrm policy add src %s dst %s dir %s if_id %d tmpl src %s dst %s proto esp reqid %d mode tunnel", all, all, dir, id, src, dst, id))
				}
			}
		}
		netnstest.IP(t, side.ns, strings.Join(lines, "\n"))
	}
}

// forget takes the associations away, as when charon stops.
func forget(t *testing.T, ns string) {
	t.Helper()
	netnstest.IP(t, ns, "xfrm state flush\nxfrm policy flush")
}

// clear lists the protocols and ends of packets on the line so far that no
// tunnel covers, but for the outer addresses' own.
func clear(t *testing.T, fd int) []string {
	t.Helper()
	var found []string
	b := make([]byte, 2000)
	for {
		n, _, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		var src, dst netip.Addr
		switch {
		case n >= 20 && b[0]>>4 == 4:
			src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		case n >= 40 && b[0]>>4 == 6:
			src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		default:
			continue
		}
		for _, a := range []netip.Addr{src, dst} {
			if a == inner[0] || a == inner[1] || strings.HasPrefix(a.String(), "10.255.") || strings.HasPrefix(a.String(), "fd00:7:") {
				found = append(found, fmt.Sprintf("%s > %s", src, dst))
			}
		}
	}
}

// onLine opens a socket that sees what comes to the line's other end.
func onLine(t *testing.T, w walled) int {
	t.Helper()
	fd := sniff(t, w.DC)
	netnstest.Do(t, w.DC, func() error {
		i, err := net.InterfaceByName("wan")
		if err != nil {
			return err
		}
		const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index})
	})
	return fd
}

// Through the tunnels everything that is allowed passes, by whichever of them;
// nothing that belongs there is ever on the line in clear.
func TestHostFilterOfTheClosedLine(t *testing.T) {
	w := closedTown(t)
	r := firewall.Rules(firewalltest.ClosedHall())
	w.apply(t, r)
	w.matches(t, true)
	line := onLine(t, w)
	var old [2]*netnstest.Client
	for i, to := range inner {
		netnstest.Serve(t, w.DC, "dc", netip.AddrPortFrom(to, 80))
		old[i] = netnstest.MustDial(t, w.Client, netip.AddrPortFrom(to, 80), "dc "+netnstest.ClientAddr[i].String())
	}
	echo := func(when string) {
		t.Helper()
		for i, c := range old {
			if err := c.Echo(netnstest.Patience); err != nil {
				t.Errorf("%s: connection to %s: %v", when, inner[i], err)
			}
		}
	}
	none := func(when string) {
		t.Helper()
		if found := clear(t, line); len(found) > 0 {
			t.Errorf("%s, in clear on the line: %v", when, found)
		}
	}
	// The ways there and back differ, then both move.
	lead(t, w.DC, "192.0.2.0/24", "fd00:1::/64", "vpn-b")
	echo("back by the other tunnel")
	lead(t, w.Box, "10.1.0.0/16", "2001:db8:1::/48", "vpn-dc-alt")
	echo("both ways by the other tunnel")
	lead(t, w.Box, "10.1.0.0/16", "2001:db8:1::/48", "vpn-dc-main")
	lead(t, w.DC, "192.0.2.0/24", "fd00:1::/64", "vpn-a")
	echo("back at the first")
	for _, zone := range []string{"tunnels", "line", "office"} {
		if n := w.count(t, "spoofed "+zone); n != 0 {
			t.Errorf("%d packets counted as spoofed %s", n, zone)
		}
	}
	none("with associations")

	// Without associations the tunnel drops what is routed into it.
	forget(t, w.Box)
	unreached(t, w)
	none("without associations")
	if n := w.count(t, "in clear line"); n != 0 {
		t.Errorf("%d packets were routed to the line", n)
	}

	// Without the tunnel's link, routes lead to the line: the firewall refuses,
	// also what belongs to connections that live, and those live on afterwards.
	netnstest.IP(t, w.Box, "link set vpn-dc-main down")
	unreached(t, w)
	for _, c := range old {
		if err := c.Echo(300 * time.Millisecond); err == nil {
			t.Error("an answer without a tunnel")
		}
	}
	none("without the tunnel's link")
	if n := w.count(t, "in clear line"); n < 6 {
		t.Errorf("%d packets were refused on the way to the line, want 6 at least", n)
	}
	netnstest.IP(t, w.Box, "link set vpn-dc-main up\naddr replace fd00:7::2/126 dev vpn-dc-main")
	lead(t, w.Box, "10.1.0.0/16", "2001:db8:1::/48", "vpn-dc-main")
	forget(t, w.DC)
	associate(t, w)
	for i, c := range old {
		// What was sent in vain comes once more, by TCP itself.
		if err := c.Echo(netnstest.Patience); err != nil {
			t.Errorf("the connection to %s has died: %v", inner[i], err)
		}
	}
	none("at the end")
}

// unreached sends to the inner network, from the box and from a client.
func unreached(t *testing.T, w walled) {
	t.Helper()
	for _, to := range inner {
		for _, from := range []string{w.Box, w.Client} {
			netnstest.Do(t, from, func() error {
				c, err := net.Dial("udp", netip.AddrPortFrom(to, 99).String())
				if err != nil {
					return nil // no route is one way not to leave
				}
				defer c.Close()
				_, _ = c.Write([]byte("x")) // an error is another; what left shows on the line
				return nil
			})
			if _, err := netnstest.Dial(t, from, netip.AddrPortFrom(to, 80), 300*time.Millisecond); err == nil {
				t.Errorf("%s answers without a tunnel", to)
			}
		}
	}
}

// Who isn't registered, or says in clear that it belongs inside, is refused.
func TestHostFilterRefusesStrangersOfTunnels(t *testing.T) {
	w := closedTown(t)
	p := firewalltest.ClosedHall()
	p.Accept = append(p.Accept, firewalltest.Outer("line", prefixes("198.51.100.8/32"), netnstest.BoxWAN[:1])...)
	w.apply(t, firewall.Rules(p))
	netnstest.IP(t, w.DC, "addr add 198.51.100.8/24 dev wan\naddr add 198.51.100.9/24 dev wan")
	box := netip.AddrPortFrom(netnstest.BoxWAN[0], 500)
	for _, c := range []struct{ from, rule string }{
		{"198.51.100.2", "ike line"}, {"198.51.100.9", "input line"}, {"10.1.4.20", "spoofed line"},
	} {
		before := w.count(t, c.rule)
		send(t, w.DC, c.from, box, 1)
		eventually(t, c.from+" is counted as "+c.rule, func() bool { return w.count(t, c.rule) == before+1 })
	}
	// The data centre in clear, with its true addresses.
	netnstest.IP(t, w.DC, "route replace 192.0.2.0/24 via 198.51.100.1\nroute replace fd00:1::/64 via fd00:2::1")
	for i, from := range inner {
		before := w.count(t, "spoofed line")
		send(t, w.DC, from.String(), netip.AddrPortFrom(netnstest.BoxLAN[i], 22), 1)
		eventually(t, from.String()+" is spoofed", func() bool { return w.count(t, "spoofed line") == before+1 })
	}
	// ESP of a stranger, and of a peer that nobody has sent anything to.
	for from, rule := range map[string]string{"198.51.100.9": "input line", "198.51.100.8": "esp line"} {
		before := w.count(t, rule)
		netnstest.Do(t, w.DC, func() error {
			c, err := net.DialIP("ip4:50", &net.IPAddr{IP: net.ParseIP(from)}, &net.IPAddr{IP: net.ParseIP("198.51.100.1")})
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write(make([]byte, 64))
			return err
		})
		eventually(t, "ESP of "+from+" is counted as "+rule, func() bool { return w.count(t, rule) == before+1 })
	}
}

// A SYN says what fits into the tunnel, whichever end it comes from, and what
// the route knows of the path counts where it is less.
func TestHostFilterClampsMSSForTunnels(t *testing.T) {
	w := closedTown(t)
	p := firewalltest.ClosedHall()
	p.Forward = append(p.Forward, firewall.Forward{Name: "back", FromZone: "dc-main", ToZone: "office", Proto: "tcp", Ports: []uint16{80}})
	w.apply(t, firewall.Rules(p))
	netnstest.IP(t, w.Box, "link set vpn-dc-main mtu 1300")
	for _, c := range []struct {
		route string // what the box's route says beside the link
		mss   [2]int
	}{{"", [2]int{1260, 1240}}, {" mtu 1281", [2]int{1241, 1221}}} {
		lead(t, w.Box, "10.1.0.0/16", "2001:db8:1::/48", "vpn-dc-main"+c.route)
		for i := range inner {
			out, back := netip.AddrPortFrom(inner[i], 80), netip.AddrPortFrom(netnstest.ClientAddr[i], 80)
			for _, x := range []struct {
				what, from, at string
				to             netip.AddrPort
			}{{"out", w.Client, w.DC, out}, {"in", w.DC, w.Client, back}} {
				wire := sniff(t, x.at)
				greeted := "there " + netnstest.ClientAddr[i].String()
				if x.what == "in" {
					netnstest.IP(t, w.DC, fmt.Sprintf("route replace %s dev vpn-a src %s", netip.PrefixFrom(netnstest.ClientAddr[i], netnstest.ClientAddr[i].BitLen()), inner[i]))
					greeted = "there " + inner[i].String()
				}
				if c.route == "" {
					netnstest.Serve(t, x.at, "there", x.to)
				}
				netnstest.MustDial(t, x.from, x.to, greeted)
				if got := mssOf(t, wire, x.to.Port()); got != c.mss[i] {
					t.Errorf("%s to %s with route%q: the SYN offers %d bytes, want %d", x.what, x.to, c.route, got, c.mss[i])
				}
			}
		}
	}
}

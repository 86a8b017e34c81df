package nft_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/conntrack"
	"komainu/drivers/icmp"
	"komainu/drivers/kick"
	"komainu/drivers/netns"
	"komainu/drivers/netns/netnstest"
	"komainu/drivers/nflog"
	"komainu/drivers/nft"
	"komainu/drivers/park"
	"komainu/netstack/firewall"
	"komainu/netstack/steer"
)

// nftFilter opens a filter in the namespace of the thread, for the test.
func nftFilter(t *testing.T) (*nft.Filter, error) {
	f, err := nft.OpenFilter()
	if err == nil {
		t.Cleanup(func() { f.Close() })
	}
	return f, err
}

// policy is that of a town hall: an office, whose clients use services and the
// data centre, and a line.
func policy() firewall.Policy {
	dc := netnstest.DCAddr[:]
	return firewall.Policy{
		Zones: []firewall.Zone{
			{
				Name: "office", Side: firewall.Service, Link: "lan", Networks: prefixes("192.0.2.0/24", "fd00:1::/64"),
				Addresses: prefixes("192.0.2.1/24", "fd00:1::1/64"),
			},
			{Name: "line", Side: firewall.WAN, Link: "wan", Addresses: prefixes("198.51.100.1/24", "fd00:2::1/64")},
		},
		Accept: []firewall.Accept{
			{Name: "health", Zone: "office", To: netnstest.BoxLAN[:], Proto: "tcp", Ports: []uint16{8443}},
			{Name: "orders", From: wholes(dc), To: netnstest.BoxLAN[:], Proto: "tcp", Ports: []uint16{7443}},
			{Name: "database", From: wholes(dc), To: netnstest.BoxLAN[:], Proto: "tcp", Ports: []uint16{15432}},
			{Name: "ntp", From: prefixes("192.0.2.0/24", "fd00:1::/64"), To: netnstest.BoxLAN[:], Proto: "udp", Ports: []uint16{123}, Stateless: true},
		},
		Forward: []firewall.Forward{
			{Name: "web", FromZone: "office", ToZone: "line", Proto: "tcp", Ports: []uint16{80}},
			{Name: "far", FromZone: "office", ToZone: "line", To: prefixes("203.0.113.0/24", "fd00:9::/64"), Proto: "udp"},
			{Name: "ping", FromZone: "office", ToZone: "line", Proto: "icmp"},
		},
		Own: []string{"komainu-park"},
	}
}

func wholes(addrs []netip.Addr) []netip.Prefix {
	var all []netip.Prefix
	for _, a := range addrs {
		all = append(all, netip.PrefixFrom(a, a.BitLen()))
	}
	return all
}

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// ignoredDial needs a connection to be ignored, not refused.
func ignoredDial(t *testing.T, ns string, to netip.AddrPort) {
	t.Helper()
	var timeout net.Error
	if _, err := netnstest.Dial(t, ns, to, 300*time.Millisecond); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("dial %s gave %v, want no answer", to, err)
	}
}

func TestHostTownIsClosedButForWhatIsAllowed(t *testing.T) {
	w := wall(t)
	lines := w.hear(t)
	w.apply(t, firewall.Rules(policy()))
	for i := range 2 {
		client, dc, box := netnstest.ClientAddr[i], netnstest.DCAddr[i], netnstest.BoxLAN[i]
		for _, s := range []struct {
			ns, word string
			at       netip.AddrPort
		}{
			{w.Box, "box", at(box, 8443)},
			{w.Box, "box", at(box, 7443)},
			{w.Box, "box", at(box, 22)},
			{w.Box, "box", at(netnstest.BoxWAN[i], 22)},
			{w.DC, "dc", at(dc, 80)},
			{w.DC, "dc", at(dc, 81)},
			{w.Client, "client", at(client, 80)},
		} {
			netnstest.Serve(t, s.ns, s.word, s.at)
		}
		netnstest.MustDial(t, w.Client, at(box, 8443), "box "+client.String())
		netnstest.MustDial(t, w.DC, at(box, 7443), "box "+dc.String())
		netnstest.MustDial(t, w.Client, at(dc, 80), "dc "+client.String())
		netnstest.MustDial(t, w.Box, at(dc, 81), "dc "+netnstest.BoxWAN[i].String())
		refusedDial(t, w.Client, at(box, 22))
		refusedDial(t, w.Client, at(box, 7443))
		refusedDial(t, w.Client, at(dc, 81))
		ignoredDial(t, w.DC, at(box, 8443))
		ignoredDial(t, w.DC, at(netnstest.BoxWAN[i], 22))
		ignoredDial(t, w.DC, at(client, 80))
		ping(t, w.Client, box)
		ping(t, w.DC, box)
		ping(t, w.Client, dc)
		await(t, lines, "input office", client, at(box, 22), unix.IPPROTO_TCP)
		await(t, lines, "forward office", client, at(dc, 81), unix.IPPROTO_TCP)
		await(t, lines, "input line", dc, at(box, 8443), unix.IPPROTO_TCP)
		await(t, lines, "forward line", dc, at(client, 80), unix.IPPROTO_TCP)
	}
	w.matches(t, true)
}

func ping(t *testing.T, ns string, to netip.Addr) {
	t.Helper()
	netnstest.Do(t, ns, func() error {
		c, err := icmp.Open(t.Context(), icmp.Target{Host: to})
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.Send(1, 64); err != nil {
			return err
		}
		a, err := c.Receive(t.Context(), time.Now().Add(netnstest.Patience))
		if err == nil && (a.Kind != icmp.EchoReply || a.From != to) {
			err = fmt.Errorf("ping %s: %+v", to, a)
		}
		return err
	})
}

// await waits for a line, past others.
func await(t *testing.T, lines <-chan nflog.Refusal, rule string, from netip.Addr, to netip.AddrPort, proto uint8) {
	t.Helper()
	var seen []nflog.Refusal
	for {
		select {
		case r := <-lines:
			if r.Rule == rule && r.Src == from && r.Dst == to.Addr() && r.DstPort == to.Port() && r.Proto == proto && r.SrcPort != 0 && r.In != 0 {
				return
			}
			seen = append(seen, r)
		case <-time.After(netnstest.Patience):
			t.Fatalf("no line of rule %q from %s to %s but %+v", rule, from, to, seen)
		}
	}
}

func TestHostTownRefusesForeignSources(t *testing.T) {
	w := wall(t)
	netnstest.IP(t, w.Client, "addr add 203.0.113.5/32 dev lo\naddr add fd00:9::5/128 dev lo nodad\naddr add 198.51.100.7/32 dev lo\naddr add fd00:2::7/128 dev lo nodad")
	netnstest.IP(t, w.DC, "addr add 192.0.2.77/32 dev lo\naddr add fd00:1::77/128 dev lo nodad\naddr add 203.0.113.6/32 dev lo\naddr add fd00:9::6/128 dev lo nodad")
	netnstest.Do(t, w.DC, func() error { // it may send in others' names
		return os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("0"), 0o644)
	})
	lines := w.hear(t)
	w.apply(t, firewall.Rules(policy()))
	spoofed := map[string]uint64{}
	for i, to := range netnstest.BoxLAN {
		for _, c := range []struct {
			rule, ns string
			from     [2]string
			wrong    bool
		}{
			{"spoofed office", w.Client, [2]string{"203.0.113.5", "fd00:9::5"}, true},
			{"spoofed office", w.Client, [2]string{"198.51.100.7", "fd00:2::7"}, true},
			{"spoofed line", w.DC, [2]string{"192.0.2.77", "fd00:1::77"}, true},
			{"spoofed line", w.DC, [2]string{"203.0.113.6", "fd00:9::6"}, false}, // a line may bring anybody
		} {
			send(t, c.ns, c.from[i], at(to, 123), 3)
			if !c.wrong {
				eventually(t, "a stranger is refused as such", func() bool { return w.count(t, "input line") == uint64(3*(i+1)) })
				continue
			}
			spoofed[c.rule] += 3
			eventually(t, fmt.Sprintf("%s from %s", c.rule, c.from[i]), func() bool { return w.count(t, c.rule) == spoofed[c.rule] })
			await(t, lines, c.rule, netip.MustParseAddr(c.from[i]), at(to, 123), unix.IPPROTO_UDP)
		}
	}
	if n := w.count(t, "ntp"); n != 0 {
		t.Errorf("%d spoofed packets reached the time", n)
	}
}

// The management's addresses and network are for its own link only (VIR-21,
// AT-177); with a VRF where the kernel has it.
func TestHostTownKeepsServiceFromManagement(t *testing.T) {
	for _, vrf := range []bool{false, true} {
		t.Run(fmt.Sprint("vrf ", vrf), func(t *testing.T) {
			w := wall(t)
			p := policy()
			p.Zones[1] = firewall.Zone{Name: "port", Side: firewall.Management, Link: "wan", Addresses: p.Zones[1].Addresses}
			p.Accept = []firewall.Accept{{Name: "ssh", Zone: "port", To: netnstest.BoxWAN[:], Proto: "tcp", Ports: []uint16{22}}, {Name: "any", Proto: "tcp", Ports: []uint16{23}}}
			for i := range 2 {
				for _, port := range []uint16{22, 23} {
					netnstest.Serve(t, w.Box, "box", at(netnstest.BoxWAN[i], port))
					netnstest.Serve(t, w.DC, "dc", at(netnstest.DCAddr[i], port))
				}
			}
			if vrf {
				netnstest.Do(t, w.Box, func() error {
					if out, err := exec.Command("ip", "link", "add", "mgmt", "type", "vrf", "table", "100").CombinedOutput(); err != nil {
						t.Skipf("this kernel has no VRF: %s", out)
					}
					// The servers are bound to no link; IPv6 keeps its addresses on the way into the VRF.
					for _, key := range []string{"ipv4/tcp_l3mdev_accept", "ipv6/conf/all/keep_addr_on_down"} {
						if err := os.WriteFile("/proc/sys/net/"+key, []byte("1"), 0o644); err != nil {
							return err
						}
					}
					return nil
				})
				netnstest.IP(t, w.Box, "link set mgmt up\nlink set wan master mgmt")
				p.Zones[1].VRF = "mgmt"
			}
			lines := w.hear(t)
			w.apply(t, firewall.Rules(p))
			for i := range 2 {
				box, dc := netnstest.BoxWAN[i], netnstest.DCAddr[i]
				for _, port := range []uint16{22, 23} {
					refusedDial(t, w.Client, at(box, port))
					await(t, lines, "management office", netnstest.ClientAddr[i], at(box, port), unix.IPPROTO_TCP)
					refusedDial(t, w.Client, at(dc, port))
					await(t, lines, "management office", netnstest.ClientAddr[i], at(dc, port), unix.IPPROTO_TCP)
				}
				netnstest.MustDial(t, w.DC, at(box, 22), "box "+dc.String())
				refusedDial(t, w.DC, at(box, 23))
				await(t, lines, "input port", dc, at(box, 23), unix.IPPROTO_TCP)
			}
		})
	}
}

// A hundred changes, or as many as fit into some seconds, while a client hammers and another one talks.
func TestHostTownIsChangedUnnoticed(t *testing.T) {
	w := wall(t)
	to := at(netnstest.BoxLAN[0], 8443)
	netnstest.Serve(t, w.Box, "box", to)
	rules := func(n int) firewall.Ruleset {
		p := policy()
		p.Accept = append(p.Accept, firewall.Accept{Name: fmt.Sprint("more ", n), From: prefixes(fmt.Sprintf("10.%d.0.0/16", n), "10.255.0.0/16"), Proto: "tcp", Ports: []uint16{uint16(1000 + n)}})
		p.Zones[0].Networks = append(p.Zones[0].Networks, prefixes(fmt.Sprintf("172.16.%d.0/24", n))...)
		return firewall.Rules(p)
	}
	w.apply(t, rules(0))
	talk := netnstest.MustDial(t, w.Client, to, "box "+netnstest.ClientAddr[0].String())
	stop, ended := make(chan struct{}), make(chan error, 1)
	lost := syns(t, w)
	dials := 0
	go func() {
		ended <- netns.Do(w.Client, func() error {
			for {
				select {
				case <-stop:
					return nil
				default:
				}
				c, err := net.DialTimeout("tcp", to.String(), netnstest.Patience)
				if err != nil {
					return fmt.Errorf("dial %d: %w", dials, err)
				}
				c.(*net.TCPConn).SetLinger(0)
				c.Close()
				dials++
			}
		})
	}()
	var slowest time.Duration
	changes := 0
	for end := time.Now().Add(5 * time.Second); changes < 100 && (changes < 10 || time.Now().Before(end)); {
		changes++
		begun := time.Now()
		if !w.apply(t, rules(changes)) {
			t.Error("nothing was changed")
		}
		slowest = max(slowest, time.Since(begun))
		if err := talk.Echo(netnstest.Patience); err != nil {
			t.Fatalf("an established connection after change %d: %v", changes, err)
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	t.Logf("%d connections during %d changes, the slowest took %v", dials, changes, slowest)
	refused := uint64(0)
	for _, rule := range []string{"input office", "invalid office", "spoofed office", "input"} {
		refused += w.count(t, rule)
	}
	eventually(t, "every SYN passed", func() bool { return lost() == 0 })
	if dials < changes || refused != 0 {
		t.Errorf("%d connections were tried, %d packets refused", dials, refused)
	}
	// What a change takes away ends for newcomers; who is inside stays.
	p := policy()
	p.Accept = nil
	w.apply(t, firewall.Rules(p))
	if err := talk.Echo(netnstest.Patience); err != nil {
		t.Errorf("an established connection after its permission went: %v", err)
	}
	refusedDial(t, w.Client, to)
}

// A router beyond tells the client that its packets are too big.
func TestHostTownLetsPathMTUThrough(t *testing.T) {
	w := wall(t)
	far := w.DC + "far"
	if err := netns.New(far); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Delete(far); err != nil {
			t.Error(err)
		}
	})
	netnstest.IP(t, w.DC, fmt.Sprintf("link add far type veth peer name far netns %s\nlink set far mtu 1300 up\naddr add 203.0.113.1/24 dev far\naddr add fd00:9::1/64 dev far nodad", far))
	netnstest.IP(t, far, "link set lo up\nlink set far up")
	netnstest.IP(t, w.Box, "route add 203.0.113.0/24 via 198.51.100.2\nroute add fd00:9::/64 via fd00:2::2")
	w.apply(t, firewall.Rules(policy()))
	for _, to := range []string{"203.0.113.9", "fd00:9::9"} {
		netnstest.Do(t, w.Client, func() error {
			c, err := net.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr(to), 99).String())
			if err != nil {
				return err
			}
			defer c.Close()
			raw, err := c.(*net.UDPConn).SyscallConn()
			if err != nil {
				return err
			}
			var mtu int
			level, discover, do, option := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO, unix.IP_MTU
			if strings.Contains(to, ":") {
				level, discover, do, option = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO, unix.IPV6_MTU
			}
			var failed error
			if err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), level, discover, do) }); err != nil || failed != nil {
				return errors.Join(err, failed)
			}
			eventually(t, "the client learns of 1300 bytes towards "+to, func() bool {
				_, _ = c.Write(make([]byte, 1400)) // refused here, once it knows
				err = raw.Control(func(fd uintptr) { mtu, failed = unix.GetsockoptInt(int(fd), level, option) })
				return err != nil || failed != nil || mtu == 1300
			})
			return errors.Join(err, failed)
		})
	}
	if n := w.count(t, "forward line"); n != 0 {
		t.Errorf("%d packets were refused", n)
	}
}

// Time is answered, and leaves no trace in connection tracking.
func TestHostTownKeepsTimeOutOfTracking(t *testing.T) {
	w := wall(t)
	w.apply(t, firewall.Rules(policy()))
	for _, box := range netnstest.BoxLAN {
		var l net.PacketConn
		netnstest.Do(t, w.Box, func() (err error) {
			l, err = net.ListenPacket("udp", at(box, 123).String())
			return err
		})
		answered := make(chan struct{})
		t.Cleanup(func() { l.Close(); <-answered })
		go func() {
			defer close(answered)
			b := make([]byte, 100)
			for {
				n, from, err := l.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = l.WriteTo(b[:n], from)
			}
		}()
		netnstest.Do(t, w.Client, func() error {
			c, err := net.Dial("udp", at(box, 123).String())
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(netnstest.Patience))
			if _, err := c.Write([]byte("time?")); err != nil {
				return err
			}
			_, err = c.Read(make([]byte, 10))
			return err
		})
		if n := tracked(t, w.Box, "port=123"); n != 0 {
			t.Errorf("%d entries are tracked", n)
		}
	}
}

// The whole of the failover, with the box closed: steering, resets of old
// connections, hairpins, parking and kicks.
func TestHostTownFailsOverBehindTheFilter(t *testing.T) {
	f := town(t)
	var w walled
	w.Town = f.Town
	var queue *park.Park
	netnstest.Do(t, f.Box, func() (err error) {
		if w.Filter, err = nftFilter(t); err != nil {
			return err
		}
		queue, err = park.Open("komainu-park")
		return err
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- queue.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		netnstest.Do(t, f.Box, queue.Close)
	})
	w.apply(t, firewall.Rules(policy()))
	f.apply(t, table(steer.DC, 1), netnstest.DCAddr[0], netnstest.DCAddr[1])
	epoch := uint16(1)
	swap := func(to steer.Target) {
		epoch++
		f.apply(t, table(to, epoch), netnstest.DCAddr[0], netnstest.DCAddr[1])
		if err := f.flows.Delete(7, steer.ServiceMask); err != nil {
			t.Fatal(err)
		}
	}
	for i, e := range table(steer.DC, 1).Entries {
		swap(steer.DC)
		me := netnstest.ClientAddr[i].String()
		old := netnstest.MustDial(t, f.Client, e.Stable, "dc "+me)
		silent := netnstest.MustDial(t, f.Client, e.Stable, "dc "+me)
		netnstest.MustDial(t, f.Client, e.Direct, "locked "+me)
		netnstest.MustDial(t, f.Box, e.Stable, fmt.Sprint("dc ", e.Stable.Addr()))
		netnstest.MustDial(t, f.DC, e.Local, fmt.Sprint("local ", netnstest.DCAddr[i]))
		refusedDial(t, f.Client, e.Local)

		queue.Hold(e.Stable)
		f.apply(t, table(steer.Parked, epoch))
		waiting := make(chan error, 2)
		for _, ns := range []string{f.Client, f.Box} {
			go func() {
				c, err := netnstest.Dial(t, ns, e.Stable, netnstest.Patience)
				if err == nil && !strings.HasPrefix(c.Greeting, "local ") {
					err = fmt.Errorf("a parked client of %s was greeted by %q", ns, c.Greeting)
				}
				waiting <- err
			}()
		}
		eventually(t, "both SYNs are parked", func() bool { return queue.Waiting() == 2 })
		var flows []conntrack.Flow
		all, err := f.flows.Flows(t.Context(), 7, steer.ServiceMask)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range all {
			if x.Original.Source.Port() == silent.LocalAddr().(*net.TCPAddr).AddrPort().Port() {
				flows = append(flows, x)
			}
		}
		swap(steer.Local)
		if _, err := queue.Release(e.Stable); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := <-waiting; err != nil {
				t.Error(err)
			}
		}
		if err := old.Echo(netnstest.Patience); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("old flow after the swap: %v, want a reset", err)
		}
		var r kick.Result
		netnstest.Do(t, f.Box, func() error { r, err = kick.Kick(t.Context(), flows); return err })
		if r.Reset != 1 || r.Unanswered != 0 {
			t.Errorf("kicked %d of %d silent clients: %+v", r.Reset, len(flows), r)
		}
		silent.SetReadDeadline(time.Now().Add(netnstest.Patience))
		if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("a silent client: %v, want a reset", err)
		}
		netnstest.MustDial(t, f.Client, e.Stable, "local "+me)
		swap(steer.None)
		refusedDial(t, f.Client, e.Stable)
	}
	swap(steer.DC)
	for _, rule := range []string{"forward", "input", "no zone", "spoofed office", "spoofed line", "forward office", "forward line"} {
		if n := w.count(t, rule); n != 0 {
			t.Errorf("rule %q refused %d packets", rule, n)
		}
	}
}

// Client and server on one LAN, with the filter.
func TestHostTownTurnsHairpins(t *testing.T) {
	f := town(t)
	netnstest.Do(t, f.Box, func() error {
		w, err := nftFilter(t)
		if err == nil {
			_, err = w.Apply(firewall.Rules(policy()))
		}
		return err
	})
	netnstest.IP(t, f.Client, "addr add 192.0.2.20/24 dev lan\naddr add fd00:1::20/64 dev lan nodad")
	tab := table(steer.DC, 1)
	for i := range tab.Entries {
		tab.Entries[i].DC = at(netip.MustParseAddr([]string{"192.0.2.20", "fd00:1::20"}[i]), 5432)
	}
	f.apply(t, tab)
	for _, e := range tab.Entries {
		netnstest.Serve(t, f.Client, "beside", e.DC)
		if _, err := netnstest.Dial(t, f.Client, e.Stable, netnstest.Patience); err != nil {
			t.Error(err)
		}
	}
}

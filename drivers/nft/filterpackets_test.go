package nft_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/netns"
	"komainu/drivers/netns/netnstest"
	"komainu/drivers/nflog"
	"komainu/netstack/firewall"
)

// hear collects the lines that the box's filter logs. The listener must stand
// before the packets come: it is proved by a rule of the test's own.
func (w walled) hear(t *testing.T) <-chan nflog.Refusal {
	t.Helper()
	lines, ended := make(chan nflog.Refusal, 10000), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		ended <- netns.Do(w.Box, func() error {
			return nflog.Run(ctx, firewall.LogGroup, func(r nflog.Refusal) { lines <- r })
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	netnstest.Run(t, w.Box, "nft", fmt.Sprintf(`table inet prove { chain c { type filter hook output priority -400; udp dport 9 log prefix "prove" group %d; }; }`, firewall.LogGroup))
	eventually(t, "the listener hears", func() bool {
		send(t, w.Box, "", netip.AddrPortFrom(netnstest.ClientAddr[0], 9), 1)
		return len(lines) > 0
	})
	netnstest.Run(t, w.Box, "nft", "delete table inet prove")
	for done := false; !done; {
		select {
		case <-lines:
		case <-time.After(50 * time.Millisecond): // those under way
			done = true
		}
	}
	return lines
}

// send sends n datagrams, from an address of the namespace or any.
func send(t *testing.T, ns, from string, to netip.AddrPort, n int) {
	t.Helper()
	netnstest.Do(t, ns, func() error {
		var d net.Dialer
		if from != "" {
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))
		}
		c, err := d.Dial("udp", to.String())
		if err != nil {
			return err
		}
		defer c.Close()
		for sent, tried := 0, 0; sent < n; tried++ {
			// An ICMP error for one before may come back instead of sending.
			if _, err = c.Write([]byte("x")); err == nil {
				sent++
			} else if tried > 3*n {
				return err
			}
		}
		return nil
	})
}

func TestHostFilterDropsSpoofedSources(t *testing.T) {
	w := wall(t)
	netnstest.IP(t, w.Client, "addr add 203.0.113.5/32 dev lo\naddr add fd00:9::5/128 dev lo nodad")
	rules := []firewall.Rule{
		{Name: "spoofed 4", In: "lan", SrcSet: "lan4", SrcNot: true, Action: firewall.Discard, Log: true},
		{Name: "spoofed 6", In: "lan", SrcSet: "lan6", SrcNot: true, Action: firewall.Discard, Log: true},
	}
	r := closed(firewall.Rule{Name: "service", Proto: "udp", DstPorts: []uint16{99}})
	r.Sets = []firewall.Set{{Name: "lan4", Networks: prefixes("192.0.2.0/24")}, {Name: "lan6", V6: true, Networks: prefixes("fd00:1::/64", "fe80::/10")}}
	r.Chains = append(r.Chains, firewall.Chain{Name: "spoofed", Hook: firewall.Prerouting, Priority: -300, Rules: rules})
	lines := w.hear(t)
	w.apply(t, r)
	for i, from := range []string{"203.0.113.5", "fd00:9::5"} {
		to := netip.AddrPortFrom(netnstest.BoxLAN[i], 99)
		send(t, w.Client, "", to, 1)
		send(t, w.Client, from, to, 3)
		eventually(t, "the spoofed packets are counted", func() bool { return w.count(t, rules[i].Name) == 3 })
		if n := w.count(t, "service"); n != uint64(i+1) {
			t.Errorf("the service saw %d packets, want %d", n, i+1)
		}
		for range 3 {
			select {
			case l := <-lines:
				if l.Rule != rules[i].Name || l.Src != netip.MustParseAddr(from) || l.Dst != to.Addr() || l.DstPort != 99 || l.Proto != unix.IPPROTO_UDP || l.In == 0 {
					t.Errorf("heard %+v", l)
				}
			case <-time.After(netnstest.Patience):
				t.Fatal("a line is missing")
			}
		}
	}
}

// Two hundred registered networks for each family, of which one is the client's.
func TestHostFilterLetsRegisteredPeersIn(t *testing.T) {
	w := wall(t)
	peers := func(with bool) firewall.Ruleset {
		r := closed(
			firewall.Rule{Name: "peers 4", SrcSet: "peers4", Proto: "tcp", DstPorts: []uint16{80}},
			firewall.Rule{Name: "peers 6", SrcSet: "peers6", Proto: "tcp", DstPorts: []uint16{80}})
		r.Sets = []firewall.Set{{Name: "peers4"}, {Name: "peers6", V6: true}}
		add := func(p4, p6 string) {
			r.Sets[0].Networks = append(r.Sets[0].Networks, netip.MustParsePrefix(p4))
			r.Sets[1].Networks = append(r.Sets[1].Networks, netip.MustParsePrefix(p6))
		}
		for i := range 100 {
			add(fmt.Sprintf("10.%d.%d.0/24", i/50, i%50), fmt.Sprintf("fc00:0:%x::/48", i+1)) // they touch
		}
		for i := range 99 {
			add(fmt.Sprintf("172.16.%d.0/25", i), fmt.Sprintf("fc01:0:%x::/64", i))
		}
		if with {
			add("192.0.2.10/32", "fd00:1::10/128")
		}
		return r
	}
	for i, addr := range netnstest.BoxLAN {
		netnstest.Serve(t, w.Box, "box", netip.AddrPortFrom(addr, 80))
		w.apply(t, peers(true))
		w.matches(t, true)
		netnstest.MustDial(t, w.Client, netip.AddrPortFrom(addr, 80), "box "+netnstest.ClientAddr[i].String())
		w.apply(t, peers(false))
		refusedDial(t, w.Client, netip.AddrPortFrom(addr, 80))
	}
}

// The MSS option that leaves towards a narrower line is what the line carries.
func TestHostFilterClampsMSSOnTheWire(t *testing.T) {
	w := wall(t)
	netnstest.IP(t, w.Box, "link set wan mtu 1400")
	w.apply(t, firewall.Ruleset{Chains: []firewall.Chain{{Name: "forward", Hook: firewall.Forwarding, Drop: true, Rules: []firewall.Rule{
		{Name: "mss", SYN: true, Action: firewall.ClampMSS}, {Name: "out", In: "lan", Out: "wan"}, {State: firewall.Established | firewall.Related},
	}}}})
	for i, addr := range netnstest.DCAddr {
		to := netip.AddrPortFrom(addr, 80)
		netnstest.Serve(t, w.DC, "dc", to)
		wire := sniff(t, w.DC)
		netnstest.MustDial(t, w.Client, to, "dc "+netnstest.ClientAddr[i].String())
		if got, want := mssOf(t, wire, to.Port()), []int{1360, 1340}[i]; got != want {
			t.Errorf("the SYN to %s offers %d bytes, want %d", addr, got, want)
		}
	}
}

// sniff opens a socket that sees every packet of a namespace.
func sniff(t *testing.T, ns string) (fd int) {
	t.Helper()
	netnstest.Do(t, ns, func() (err error) {
		const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, all)
		if err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(fd) })
		return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
	})
	return fd
}

// mssOf waits for a SYN to a port and returns its MSS option, 0 without one.
func mssOf(t *testing.T, fd int, port uint16) int {
	t.Helper()
	b := make([]byte, 2000)
	for {
		n, err := unix.Read(fd, b)
		if err != nil {
			t.Fatalf("no SYN came: %v", err)
		}
		p := b[:n]
		switch {
		case n >= 40 && p[0]>>4 == 4 && p[9] == unix.IPPROTO_TCP:
			p = p[int(p[0]&15)*4:]
		case n >= 60 && p[0]>>4 == 6 && p[6] == unix.IPPROTO_TCP:
			p = p[40:]
		default:
			continue
		}
		if p[13]&0x12 != 0x02 || uint16(p[2])<<8|uint16(p[3]) != port {
			continue
		}
		for o := p[20 : int(p[12]>>4)*4]; len(o) >= 4; {
			switch o[0] {
			case 2:
				return int(o[2])<<8 | int(o[3])
			case 1:
				o = o[1:]
			default:
				o = o[max(2, int(o[1])):]
			}
		}
		return 0
	}
}

func TestHostFilterKeepsTimeOutOfConnectionTracking(t *testing.T) {
	w := wall(t)
	r := closed(firewall.Rule{Name: "ntp", Proto: "udp", DstPorts: []uint16{123}, State: firewall.Untracked})
	r.Chains = append(r.Chains, firewall.Chain{Name: "raw", Hook: firewall.Prerouting, Priority: -300, Rules: []firewall.Rule{
		{Proto: "udp", DstPorts: []uint16{123}, Action: firewall.NoTrack},
	}})
	w.apply(t, r)
	for i, addr := range netnstest.BoxLAN {
		send(t, w.Client, "", netip.AddrPortFrom(addr, 124), 1) // refused; its tracking goes with it
		send(t, w.Client, "", netip.AddrPortFrom(addr, 123), 10)
		eventually(t, "the untracked packets are counted", func() bool { return w.count(t, "ntp") == uint64(10*(i+1)) })
		if n := tracked(t, w.Box, "dport=123"); n != 0 {
			t.Errorf("%d connections to port 123 are tracked", n)
		}
	}
}

func tracked(t *testing.T, ns, what string) int {
	t.Helper()
	var b []byte
	netnstest.Do(t, ns, func() (err error) {
		b, err = os.ReadFile("/proc/thread-self/net/nf_conntrack")
		if os.IsNotExist(err) {
			b, err = os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
			if strings.TrimSpace(string(b)) == "0" {
				b = nil
			} else {
				b = append([]byte(what+" "), b...)
			}
		}
		return err
	})
	return strings.Count(string(b), what)
}

func TestHostFilterLimitsPerSource(t *testing.T) {
	w := wall(t)
	netnstest.IP(t, w.Client, "addr add 192.0.2.11/24 dev lan\naddr add fd00:1::11/64 dev lan nodad")
	w.apply(t, closed(firewall.Rule{Name: "limited", Proto: "udp", DstPorts: []uint16{99}, Rate: 1.0 / 60, Burst: 3, PerSource: true}))
	want := uint64(0)
	for i, addr := range netnstest.BoxLAN {
		for _, from := range [][]string{{"192.0.2.10", "192.0.2.11"}, {"fd00:1::10", "fd00:1::11"}}[i] {
			// Each in a flow of its own: the replies of established ones pass.
			for range 5 {
				send(t, w.Client, from, netip.AddrPortFrom(addr, 99), 1)
			}
			want += 3
			eventually(t, fmt.Sprintf("%s is let in 3 times of 5", from), func() bool {
				return w.count(t, "limited") == want && w.count(t, "refuse") == want/3*2
			})
		}
	}
}

// syns counts SYNs where the client sends them and where the box has let them
// in, from now on: how many are missing there.
func syns(t *testing.T, w walled) (lost func() int) {
	t.Helper()
	hooks := map[string]string{w.Client: "output", w.Box: "input"}
	for ns, hook := range hooks {
		netnstest.Run(t, ns, "nft", "table inet syns { chain c { type filter hook "+hook+" priority 300; tcp flags & (syn | ack) == syn counter; }; }")
	}
	count := func(ns string) (n int) {
		_, text, _ := strings.Cut(netnstest.Run(t, ns, "nft", "list", "table", "inet", "syns"), "packets ")
		if _, err := fmt.Sscan(text, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	return func() int { return count(w.Client) - count(w.Box) }
}

// Replacing the rules is nothing that a client notices: not a refusal, and not
// a lost SYN, which would cost it a second.
func TestHostFilterIsReplacedUnnoticed(t *testing.T) {
	w := wall(t)
	to := netip.AddrPortFrom(netnstest.BoxLAN[0], 80)
	netnstest.Serve(t, w.Box, "box", to)
	rules := func(n int) firewall.Ruleset {
		r := closed(firewall.Rule{Name: "web", SrcSet: "peers", Proto: "tcp", DstPorts: []uint16{80}}, firewall.Rule{Name: fmt.Sprint("rule ", n), Mark: 1, Mask: 1})
		r.Sets = []firewall.Set{{Name: "peers", Networks: prefixes(fmt.Sprintf("10.0.%d.0/24", n), "192.0.2.0/24")}}
		return r
	}
	w.apply(t, rules(0))
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
	for n := range 50 {
		if !w.apply(t, rules(n+1)) {
			t.Error("nothing was changed")
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if dials < 50 {
		t.Errorf("only %d connections were tried", dials)
	}
	eventually(t, "every SYN passed", func() bool { return lost() == 0 })
	t.Logf("%d connections during 50 changes", dials)
}

// A flood is counted to the last packet, but not logged.
func TestHostFilterLogsAtABoundedRate(t *testing.T) {
	w := wall(t)
	lines := w.hear(t)
	r := closed()
	r.Chains[0].Rules[2].Action = firewall.Discard
	w.apply(t, r)
	begun := time.Now()
	const flood = 3000
	send(t, w.Client, "", netip.AddrPortFrom(netnstest.BoxLAN[0], 99), flood)
	eventually(t, "the flood is counted", func() bool { return w.count(t, "refuse") == flood })
	got, bound := len(lines), 20+10*time.Since(begun).Seconds()+1
	if got < 1 || float64(got) > bound {
		t.Errorf("%d lines of %d packets, want 1 to %.0f", got, flood, bound)
	}
}

func TestHostFilterOfTwoHundredEntries(t *testing.T) {
	w := wall(t)
	rules := make([]firewall.Rule, 200)
	var sets []firewall.Set
	for i := range rules {
		name := fmt.Sprintf("entry %d", i)
		rules[i] = firewall.Rule{Name: name, In: "lan", Proto: "tcp", DstPorts: []uint16{80, 443, 8080}, SrcSet: fmt.Sprintf("from%d", i), State: firewall.New}
		sets = append(sets, firewall.Set{Name: fmt.Sprintf("from%d", i), Networks: prefixes(fmt.Sprintf("10.%d.0.0/24", i), fmt.Sprintf("172.16.%d.0/24", i))})
	}
	r := closed(rules...)
	r.Sets = sets
	for _, what := range []string{"first", "unchanged", "unchanged again"} {
		begun := time.Now()
		changed := w.apply(t, r)
		t.Logf("200 entries, %s: %v", what, time.Since(begun))
		if changed != (what == "first") {
			t.Errorf("%s: changed is %t", what, changed)
		}
	}
	begun := time.Now()
	if n, err := w.Counters(); err != nil || len(n) != 202 {
		t.Errorf("%d counters, %v", len(n), err)
	}
	t.Logf("counters: %v", time.Since(begun))
}

// A packet that comes in over a port of a VRF passes prerouting twice, over the
// port and over the VRF; from input on, its link is the VRF.
func TestHostFilterSeesVRFPortsInPreroutingOnly(t *testing.T) {
	w := wall(t)
	netnstest.Do(t, w.Box, func() error {
		if out, err := exec.Command("ip", "link", "add", "mgmt", "type", "vrf", "table", "100").CombinedOutput(); err != nil {
			t.Skipf("this kernel has no VRF: %s", out)
		}
		return nil
	})
	netnstest.IP(t, w.Box, "link set mgmt up\nlink set lan master mgmt")
	look := func(where string) []firewall.Rule {
		var rules []firewall.Rule
		for _, link := range []string{"lan", "mgmt"} {
			rules = append(rules, firewall.Rule{Name: where + " " + link, In: link, Proto: "udp", DstPorts: []uint16{99}, Action: firewall.LogOnly})
		}
		return rules
	}
	w.apply(t, firewall.Ruleset{Chains: []firewall.Chain{
		{Name: "first", Hook: firewall.Prerouting, Priority: -300, Rules: look("first")},
		{Name: "input", Hook: firewall.Input, Rules: look("input")},
	}})
	send(t, w.Client, "", netip.AddrPortFrom(netnstest.BoxLAN[0], 99), 1)
	eventually(t, "the packet came in", func() bool { return w.count(t, "input mgmt")+w.count(t, "input lan") > 0 })
	for rule, want := range map[string]uint64{"first lan": 1, "first mgmt": 1, "input lan": 0, "input mgmt": 1} {
		if n := w.count(t, rule); n != want {
			t.Errorf("rule %q saw %d packets, want %d", rule, n, want)
		}
	}
}

package nft_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/netns/netnstest"
	"komainu/drivers/nft"
	"komainu/netstack/firewall"
)

// walled is a town whose box has a filter.
type walled struct {
	netnstest.Town
	*nft.Filter
}

func wall(t *testing.T) walled {
	t.Helper()
	w := walled{Town: netnstest.New(t)}
	netnstest.Do(t, w.Box, func() (err error) {
		w.Filter, err = nft.OpenFilter()
		return err
	})
	t.Cleanup(func() { w.Close() })
	return w
}

// apply needs the box's namespace: a failed transaction opens a new socket.
func (w walled) apply(t *testing.T, r firewall.Ruleset) bool {
	t.Helper()
	var changed bool
	netnstest.Do(t, w.Box, func() (err error) {
		changed, err = w.Apply(r)
		return err
	})
	return changed
}

func (w walled) matches(t *testing.T, want bool) {
	t.Helper()
	got, err := w.Matches()
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("Matches gave %t, want %t:\n%s", got, want, netnstest.Run(t, w.Box, "nft", "list", "ruleset"))
	}
}

func (w walled) count(t *testing.T, rule string) uint64 {
	t.Helper()
	all, err := w.Counters()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.Rule == rule {
			return c.Packets
		}
	}
	t.Fatalf("no counter %q in %v", rule, all)
	return 0
}

// eventually waits until f holds.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(netnstest.Patience); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came true: %s", what)
		}
	}
}

// neighbours lets IPv6 find them, and connections go on.
func neighbours() []firewall.Rule {
	return []firewall.Rule{
		{State: firewall.Established | firewall.Related},
		{Name: "neighbours", Proto: "icmpv6", ICMP: []uint8{133, 134, 135, 136}},
	}
}

// closed is a filter that lets nothing in but what rules say.
func closed(rules ...firewall.Rule) firewall.Ruleset {
	return firewall.Ruleset{Chains: []firewall.Chain{
		{Name: "input", Hook: firewall.Input, Drop: true, Rules: append(append(neighbours(), rules...),
			firewall.Rule{Name: "refuse", Log: true, Action: firewall.Refuse})},
	}}
}

// everything uses all that a Ruleset can say.
func everything() firewall.Ruleset {
	return firewall.Ruleset{
		Sets: []firewall.Set{
			{Name: "peers4", Networks: prefixes("10.0.0.0/9", "10.128.0.0/9", "192.0.2.0/24", "255.255.255.255/32")},
			{Name: "peers6", V6: true, Networks: prefixes("::/64", "fd00:1::/64", "fd00:2::1/128")},
			{Name: "none4"},
		},
		Chains: []firewall.Chain{
			{Name: "more", Rules: []firewall.Rule{{Name: "more", Src: netip.MustParsePrefix("10.0.0.0/9"), Action: firewall.Discard}}},
			{Name: "raw", Hook: firewall.Prerouting, Priority: -300, Rules: []firewall.Rule{
				{Name: "ntp", Proto: "udp", DstPorts: []uint16{123}, Action: firewall.NoTrack},
				{Name: "spoofed", In: "lan", SrcSet: "peers4", SrcNot: true, Action: firewall.Discard, Log: true},
			}},
			{Name: "input", Hook: firewall.Input, Drop: true, Rules: []firewall.Rule{
				{State: firewall.Established | firewall.Related},
				{Name: "steered", DNAT: true, Mark: 0x200, Mask: 0xff00},
				{Name: "ping", Proto: "icmp", ICMP: []uint8{8}, Rate: 2.5, Burst: 4},
				{Name: "new", Proto: "tcp", SYN: true, DstPorts: []uint16{22, 80, 443}, Rate: 5, Burst: 3, PerSource: true, DstLocal: true},
				{Name: "slow", SrcSet: "peers6", DstSet: "peers6", Rate: 1.0 / 7, PerSource: true, Log: true, Action: firewall.Refuse},
				{Name: "jump", V4: true, Action: firewall.Jump, Chain: "more", Log: true},
				{Name: "refuse", Action: firewall.Refuse, Log: true},
			}},
			{Name: "forward", Hook: firewall.Forwarding, Drop: true, Rules: []firewall.Rule{
				{Name: "mss", SYN: true, Action: firewall.ClampMSS},
				{Name: "out", In: "lan", Out: "wan", OutNot: true, Proto: "udp", SrcPorts: []uint16{1, 2}},
				{Name: "look", Log: true, Action: firewall.LogOnly},
			}},
			{Name: "output", Hook: firewall.Output, Priority: -300, Rules: []firewall.Rule{
				{Name: "ntp", Proto: "udp", SrcPorts: []uint16{123}, Action: firewall.NoTrack},
			}},
		},
	}
}

func prefixes(list ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// A second Apply changes nothing, an empty one takes the table away.
func TestHostFilterIsAppliedOnceAndTakenAway(t *testing.T) {
	w := wall(t)
	w.matches(t, true) // nothing is wanted, nothing is there
	if w.apply(t, firewall.Ruleset{}) {
		t.Error("an empty Ruleset on an empty kernel changed something")
	}
	for range 2 { // the second time over what is there, with other hooks
		if !w.apply(t, everything()) {
			t.Error("applied the first time, changed nothing")
		}
		w.matches(t, true)
		if w.apply(t, everything()) {
			t.Errorf("applied again, it changed something:\n%s", netnstest.Run(t, w.Box, "nft", "list", "ruleset"))
		}
		other := everything()
		other.Chains[1].Hook, other.Chains[2].Drop = firewall.Output, false
		other.Chains, other.Sets = other.Chains[:4], other.Sets[:2]
		if !w.apply(t, other) || w.apply(t, other) {
			t.Error("the other Ruleset: want one change, then none")
		}
		w.matches(t, true)
	}
	if !w.apply(t, firewall.Ruleset{}) {
		t.Error("the deletion changed nothing")
	}
	w.matches(t, true)
	if out := netnstest.Run(t, w.Box, "nft", "list", "tables"); strings.Contains(out, firewall.Table) {
		t.Errorf("the table is still there: %s", out)
	}
}

// What nft shows of each kind of rule.
func TestHostFilterInTheWordsOfNft(t *testing.T) {
	w := wall(t)
	w.apply(t, everything())
	text := netnstest.Run(t, w.Box, "nft", "list", "table", "inet", firewall.Table)
	for _, line := range []string{
		"10.0.0.0/9", "255.255.255.255", "fd00:2::1",
		"type filter hook prerouting priority raw; policy accept;",
		"type filter hook input priority filter; policy drop;",
		"udp dport 123 counter packets 0 bytes 0 notrack",
		`iifname "lan" ip saddr != @peers4 counter packets 0 bytes 0 jump then_raw_1`,
		"limit rate 10/second burst 20 packets log prefix \"spoofed\" group 250 snaplen 128",
		"ct state established,related accept",
		"ct status dnat meta mark & 0x0000ff00 == 0x00000200 counter",
		"icmp type echo-request limit rate 150/minute burst 4 packets counter",
		"tcp dport { 22, 80, 443 } tcp flags syn / syn,rst fib daddr type local update @rate4_input_3 { ip saddr timeout 1s limit rate 5/second burst 3 packets }",
		"update @rate6_input_3 { ip6 saddr",
		"jump more", "reject with tcp reset", "reject with icmpx admin-prohibited",
		"tcp option maxseg size set rt mtu",
		`oifname != "wan"`, "udp sport { 1, 2 }", "ip saddr 10.0.0.0/9 counter",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("nft doesn't show %q", line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestHostFilterIsClosedByDefault(t *testing.T) {
	w := wall(t)
	var opened firewall.Ruleset
	for i := range 2 {
		netnstest.Serve(t, w.Box, "box", netip.AddrPortFrom(netnstest.BoxLAN[i], 80))
		netnstest.Serve(t, w.Box, "box", netip.AddrPortFrom(netnstest.BoxLAN[i], 81))
	}
	w.apply(t, closed())
	for i, addr := range netnstest.BoxLAN {
		refusedDial(t, w.Client, netip.AddrPortFrom(addr, 80))
		if n := w.count(t, "refuse"); n != uint64(i+1) {
			t.Errorf("%d packets were refused, want %d", n, i+1)
		}
	}
	opened = closed(firewall.Rule{Name: "web", Proto: "tcp", DstPorts: []uint16{80, 8080}})
	w.apply(t, opened)
	for i, addr := range netnstest.BoxLAN {
		c := netnstest.MustDial(t, w.Client, netip.AddrPortFrom(addr, 80), "box "+netnstest.ClientAddr[i].String())
		refusedDial(t, w.Client, netip.AddrPortFrom(addr, 81))
		w.apply(t, closed()) // what was let in goes on
		if err := c.Echo(netnstest.Patience); err != nil {
			t.Errorf("an established connection after the change: %v", err)
		}
		refusedDial(t, w.Client, netip.AddrPortFrom(addr, 80))
		w.apply(t, opened)
	}
	// UDP is answered by ICMP: the client learns at once.
	netnstest.Do(t, w.Client, func() error {
		c, err := net.Dial("udp", netip.AddrPortFrom(netnstest.BoxLAN[0], 99).String())
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(netnstest.Patience))
		c.Write([]byte("x"))
		_, err = c.Read(make([]byte, 1))
		if !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EACCES) {
			return fmt.Errorf("a refused datagram gave %w, want an ICMP error", err)
		}
		return nil
	})
}

// A failing transaction leaves what there was.
func TestHostFilterStaysWhenTheKernelRefuses(t *testing.T) {
	w := wall(t)
	w.apply(t, closed())
	bad := closed()
	bad.Chains = append(bad.Chains, firewall.Chain{Name: "mss", Hook: firewall.Input, Rules: []firewall.Rule{{SYN: true, Action: firewall.ClampMSS}}})
	netnstest.Do(t, w.Box, func() error {
		if _, err := w.Apply(bad); err == nil {
			t.Error("the kernel took a route's MSS in the input hook")
		}
		return nil
	})
	w.matches(t, true)
	if w.apply(t, closed()) {
		t.Error("the former Ruleset had to be applied again")
	}
	for _, r := range []firewall.Rule{
		{DstPorts: []uint16{1}}, {Proto: "sctp"}, {ICMP: []uint8{1}, Proto: "tcp"}, {Action: firewall.Jump, Chain: "nowhere"},
		{SrcSet: "nothing"}, {PerSource: true}, {V4: true, V6: true}, {In: "a-name-that-is-too-long"}, {Name: strings.Repeat("x", 101)},
		{Rate: -1}, {Action: 99}, {Proto: "udp", SYN: true},
	} {
		if _, err := w.Apply(closed(r)); !errors.Is(err, nft.ErrRuleset) {
			t.Errorf("rule %+v gave %v, want ErrRuleset", r, err)
		}
	}
}

// Changes by hand are noticed and put right.
func TestHostFilterNoticesDrift(t *testing.T) {
	w := wall(t)
	r := everything()
	w.apply(t, r)
	ctx, cancel := context.WithCancel(t.Context())
	told, done := make(chan struct{}, 100), make(chan error, 1)
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	listening := make(chan struct{})
	go func() {
		first := true
		done <- func() error {
			var err error
			netnstest.Do(t, w.Box, func() error {
				err = w.Watch(ctx, func() {
					if first {
						first = false
						close(listening)
						return
					}
					told <- struct{}{}
				})
				return nil
			})
			return err
		}()
	}()
	<-listening
	for _, order := range []string{
		"delete rule inet komainu_filter raw handle %d",
		"flush table inet komainu_filter",
		"add rule inet komainu_filter input accept",
		"add element inet komainu_filter peers4 { 172.16.0.0/12 }",
		"delete element inet komainu_filter peers6 { ::/64 }",
		"add chain inet komainu_filter input { type filter hook input priority filter; policy accept; }",
		"add chain inet komainu_filter other",
		"add set inet komainu_filter other { type ipv4_addr; }",
		"delete table inet komainu_filter",
	} {
		if strings.Contains(order, "%d") {
			order = fmt.Sprintf(order, handle(t, w.Box, "raw"))
		}
		netnstest.Run(t, w.Box, "nft", order)
		select {
		case <-told:
		case <-time.After(netnstest.Patience):
			t.Errorf("nobody told of %q", order)
		}
		w.matches(t, false)
		if !w.apply(t, r) {
			t.Errorf("%q wasn't put right", order)
		}
		w.matches(t, true)
		<-told // our own change
	}
	// What happens elsewhere doesn't concern us.
	netnstest.Run(t, w.Box, "nft", "add table inet other; add chain inet other c")
	netnstest.Run(t, w.Box, "nft", "add table ip komainu_filter")
	netnstest.Run(t, w.Box, "nft", "add chain inet komainu_filter last")
	<-told
	if n := len(told); n != 0 {
		t.Errorf("told %d times too often", n)
	}
}

// handle is the number of the first rule of a chain.
func handle(t *testing.T, ns, chain string) int {
	t.Helper()
	for line := range strings.Lines(netnstest.Run(t, ns, "nft", "-a", "list", "chain", "inet", firewall.Table, chain)) {
		var n int
		if i := strings.Index(line, "# handle "); i >= 0 && strings.Contains(line, "counter") {
			if _, err := fmt.Sscanf(line[i:], "# handle %d", &n); err == nil {
				return n
			}
		}
	}
	t.Fatalf("no rule in chain %s", chain)
	return 0
}

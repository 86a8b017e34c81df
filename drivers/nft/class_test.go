package nft_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"komainu/drivers/netns/netnstest"
	"komainu/drivers/nft"
	"komainu/netstack/qos"
)

// halls is a line with n peers, whose networks lie side by side.
func halls(n int) qos.Plan {
	l := qos.Line{Name: "wan", Link: "wan", Kind: qos.HTB, Rate: 1e9}
	for i := range n {
		b := byte(i / 256)
		l.Shares = append(l.Shares, qos.Share{Peer: fmt.Sprintf("town-%d", i), Networks: []netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64 + b, byte(i), 0}), 24),
			netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0, 10, 64 + b, byte(i)}), 48)}})
	}
	return qos.Plan{Lines: []qos.Line{l}, Classes: []qos.Class{
		{Name: "time", Number: 1, Match: []qos.Match{{Proto: "udp", Port: 123}}},
		{Name: "copies", Number: 2, Match: []qos.Match{{Proto: "udp", Port: 5000, Last: 5010, Network: netip.MustParsePrefix("10.64.0.0/16")}}, Paths: []string{"alt", "main"}},
		{Name: "business", Number: qos.MaxClasses}}}
}

// slot is where a plan puts a peer.
func slot(p qos.Plan, i int) uint16 {
	for _, t := range p.Trees(qos.Moment{})[0].Nodes {
		if t.Peer == fmt.Sprintf("town-%d", i) {
			return t.ID >> 4
		}
	}
	return 0
}

func sorted(t *testing.T, town netnstest.Town, p qos.Plan) bool {
	t.Helper()
	var changed bool
	netnstest.Do(t, town.Box, func() error {
		c, err := nft.OpenClasses()
		if err != nil {
			return err
		}
		defer c.Close()
		changed, err = c.Apply(p.Sorting())
		return err
	})
	return changed
}

// TestHostPacketsAreSorted: what leaves has the leaf of its class and peer, among
// as many peers as a prefecture's hub ever has, in both families.
func TestHostPacketsAreSorted(t *testing.T) {
	town := netnstest.New(t)
	netnstest.IP(t, town.Box, "route add 10.64.0.0/10 dev wan\nroute add fd00:a40::/26 dev wan")
	const many = 1700
	p := halls(many)
	if !sorted(t, town, p) {
		t.Error("nothing changed")
	}
	if sorted(t, town, p) {
		t.Error("the same again changed something")
	}
	// Behind everything else, the priorities that packets have are counted.
	leaf := func(slot uint16, class uint8) string { return fmt.Sprintf("%x:%x", qos.Major, qos.Leaf(slot, class)) }
	var rules strings.Builder
	expected := map[string]int{}
	want := func(to string, slot uint16, class uint8, mark uint32) {
		at := netip.MustParseAddrPort(to)
		name := fmt.Sprintf("%s mark %#x to %d", leaf(slot, class), mark, at.Port())
		if expected[name] == 0 {
			fmt.Fprintf(&rules, "udp dport %d meta priority %s meta mark & 0xff0000 == %#x counter comment \"%s\";", at.Port(), leaf(slot, class), mark, name)
		}
		expected[name]++
	}
	var targets []string
	for _, i := range []int{0, 1, 255, 256, 999, 1000, 1001, many - 1} {
		for _, host := range []int{0, 1, 255} { // the first and the last address belong to it, too
			a := fmt.Sprintf("10.%d.%d.%d", 64+i/256, i%256, host)
			targets = append(targets, a+":123", a+":9", a+":5010")
			s := slot(p, i)
			want(a+":123", s, 1, 0)
			want(a+":9", s, qos.MaxClasses, 0)
			if i < 256 {
				want(a+":5010", s, 2, 2<<qos.MarkShift)
			} else {
				want(a+":5010", s, qos.MaxClasses, 0)
			}
		}
		b := fmt.Sprintf("[fd00:a%x:%x00::1]:123", 64+i/256, i%256)
		targets = append(targets, b)
		want(b, slot(p, i), 1, 0)
	}
	for _, x := range []string{"10.127.0.1:123", "10.70.164.0:123"} { // behind the last one
		targets = append(targets, x)
		want(x, 0, 1, 0)
	}
	netnstest.Run(t, town.Box, "nft", "table inet prove { chain c { type filter hook postrouting priority 0; "+rules.String()+" }; }")
	for _, x := range targets {
		send(t, town.Box, "", netip.MustParseAddrPort(x), 1)
	}
	seen := netnstest.Run(t, town.Box, "nft", "list", "table", "inet", "prove")
	for name, n := range expected {
		found := false
		for line := range strings.Lines(seen) {
			if strings.Contains(line, `"`+name+`"`) {
				found = strings.Contains(line, fmt.Sprintf("counter packets %d ", n))
				if !found {
					t.Errorf("want %d: %s", n, strings.TrimSpace(line))
				}
				break
			}
		}
		if !found {
			t.Errorf("%s: not counted %d times", name, n)
		}
	}
}

// TestHostSortingIsPutRight: what is changed by hand is found, and nothing is
// left when nothing is to be sorted.
func TestHostSortingIsPutRight(t *testing.T) {
	town := netnstest.New(t)
	p := halls(3)
	sorted(t, town, p)
	for _, by := range []string{"flush chain inet komainu_class leaves", "delete table inet komainu_class", "add rule inet komainu_class leaf_1 accept"} {
		netnstest.Run(t, town.Box, "nft", by)
		if !sorted(t, town, p) {
			t.Errorf("%s: not put right", by)
		}
		if sorted(t, town, p) {
			t.Errorf("%s: put right twice", by)
		}
	}
	if !sorted(t, town, qos.Plan{}) {
		t.Error("the table stays")
	}
	if out := netnstest.Run(t, town.Box, "nft", "list", "tables"); strings.Contains(out, "komainu_class") {
		t.Error(out)
	}
	if sorted(t, town, qos.Plan{}) {
		t.Error("nothing was there")
	}
}

// TestHostMarkedPacketsTakeTheirPath: a class with paths of its own goes by the
// table of its mark, what the box sends as well as what it passes on.
func TestHostMarkedPacketsTakeTheirPath(t *testing.T) {
	town := netnstest.New(t)
	netnstest.IP(t, town.Box, `link add alt type veth peer name alt-end
link set alt up
link set alt-end up
addr add 203.0.113.1/24 dev alt
route add 10.64.0.0/10 dev wan
route add 10.64.0.0/10 dev alt table 1902
rule add priority 1002 fwmark 0x20000/0xff0000 lookup 1902`)
	sorted(t, town, halls(2))
	netnstest.Run(t, town.Box, "nft", `table inet prove { chain c { type filter hook postrouting priority 0;
		oifname "alt" udp dport 5010 counter comment "copies"; oifname "wan" udp dport 9 counter comment "others";
		ip daddr 10.64.0.0/10 udp dport { 9, 5010 } counter comment "all"; }; }`)
	for _, from := range []string{town.Box, town.Client} {
		for _, to := range []string{"10.64.1.7:5010", "10.64.1.7:9"} {
			send(t, from, "", netip.MustParseAddrPort(to), 1)
		}
	}
	// The client's come a moment later.
	var seen string
	for end := time.Now().Add(netnstest.Patience); time.Now().Before(end); {
		seen = netnstest.Run(t, town.Box, "nft", "list", "table", "inet", "prove")
		if strings.Contains(seen, `packets 4 `) {
			break
		}
	}
	for _, name := range []string{"copies", "others"} {
		found := false
		for line := range strings.Lines(seen) {
			found = found || strings.Contains(line, `"`+name+`"`) && strings.Contains(line, "packets 2 ")
		}
		if !found {
			t.Errorf("%s:\n%s", name, seen)
		}
	}
}

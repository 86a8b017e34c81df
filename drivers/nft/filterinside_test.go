package nft

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"komainu/netstack/firewall"
)

func TestIntervalsOfNetworks(t *testing.T) {
	for list, want := range map[string]string{
		"":                               "",
		"10.0.0.0/8":                     "10.0.0.0 -11.0.0.0",
		"10.0.0.0/9 10.128.0.0/9":        "10.0.0.0 -10.128.0.0 10.128.0.0 -11.0.0.0", // each can go without the other
		"0.0.0.0/0":                      "0.0.0.0",
		"128.0.0.0/1":                    "128.0.0.0",
		"192.0.2.1/32 192.0.2.3/32":      "192.0.2.1 -192.0.2.2 192.0.2.3 -192.0.2.4",
		"fd00::/16 ffff::/16":            "fd00:: -fd01:: ffff::",
		"10.0.0.1/8":                     "error",
		"10.0.0.0/8 10.1.0.0/16":         "error",
		"10.1.0.0/16 10.0.0.0/16":        "error",
		"128.0.0.0/1 255.255.255.255/32": "error",
		"10.0.0.0/8 fd00::/16":           "error",
	} {
		s := firewall.Set{Name: "s", V6: strings.HasPrefix(list, "f")}
		for f := range strings.FieldsSeq(list) {
			s.Networks = append(s.Networks, netip.MustParsePrefix(f))
		}
		elements, err := intervals(s)
		var got []string
		for _, e := range elements {
			a, _ := netip.AddrFromSlice(e.Key)
			sign := ""
			if e.IntervalEnd {
				sign = "-"
			}
			got = append(got, sign+a.String())
		}
		if errors.Is(err, ErrRuleset) {
			got = []string{"error"}
		}
		if d := cmp.Diff(want, strings.Join(got, " ")); d != "" {
			t.Errorf("%q (-want +got):\n%s", list, d)
		}
	}
}

func TestLimitsTakeTheShortestUnit(t *testing.T) {
	for rate, want := range map[float64]string{10: "10/1", 0.5: "30/60", 2.5: "150/60", 1.0 / 60: "1/60", 1.0 / 3600: "1/3600", 1e-9: "1/86400", 1.0 / 7: "12343/86400"} {
		l := limitOf(rate, 0)
		if got := fmt.Sprintf("%d/%d", l.Rate, l.Unit); got != want || l.Burst != 1 {
			t.Errorf("rate %v gave %s burst %d, want %s burst 1", rate, got, l.Burst, want)
		}
	}
}

// The digest tells rules apart that differ in anything, and only those.
func TestCommentsTellRulesApart(t *testing.T) {
	seen := map[string]firewall.Rule{}
	for _, r := range []firewall.Rule{
		{Name: "a"}, {Name: "b"}, {Name: "a", V4: true}, {Name: "a", V6: true}, {Name: "a", Proto: "tcp", DstPorts: []uint16{1, 2}},
		{Name: "a", Proto: "tcp", DstPorts: []uint16{1, 3}}, {Name: "a", Proto: "tcp", SrcPorts: []uint16{1, 2}}, {Name: "a", Action: firewall.Discard},
		{Name: "a", Rate: 1}, {Name: "a", Rate: 1, Burst: 2}, {Name: "a", Src: netip.MustParsePrefix("10.0.0.0/8")},
		{Name: "a", Src: netip.MustParsePrefix("10.0.0.0/9")}, {Name: "a", Src: netip.MustParsePrefix("10.0.0.0/8"), SrcNot: true},
		{Name: "a", Dst: netip.MustParsePrefix("10.0.0.0/8")}, {Name: "a", In: "x"}, {Name: "a", Out: "x"}, {Name: "a", Out: "x", OutNot: true},
		{Name: "a", Mark: 1, Mask: 1}, {Name: "a", Mark: 1, Mask: 3}, {Name: "a", State: firewall.New}, {Name: "a", SYN: true}, {Name: "a", DNAT: true},
	} {
		var comments [2]string
		for i := range comments {
			w, err := encode(firewall.Ruleset{Chains: []firewall.Chain{{Name: "c", Rules: []firewall.Rule{r}}}})
			if err != nil {
				t.Fatal(err)
			}
			comments[i] = w.chains[0].rules[0].comment
		}
		if comments[0] != comments[1] || nameOf(comments[0]) != r.Name {
			t.Errorf("%+v: comments %q", r, comments)
		}
		if other, ok := seen[comments[0]]; ok {
			t.Errorf("%+v and %+v have one comment", r, other)
		}
		seen[comments[0]] = r
	}
}

// What others put into the kernel may be anything.
func TestForeignBytesAreNoComment(t *testing.T) {
	for b, want := range map[string]string{
		"": "", "\x00": "", "\x00\xff": "", "\x00\x02a\x00": "a", "\x01\x01x\x00\x01b": "b", "\x01\x05x": "", "\x00\x00": "",
	} {
		if got := commentOf([]byte(b)); got != want {
			t.Errorf("%q gave %q, want %q", b, got, want)
		}
	}
	if got := commentOf(comment("a rule #1")); got != "a rule #1" || nameOf(got) != "a rule" || nameOf("#1") != "" {
		t.Errorf("a comment came back as %q", got)
	}
}

func TestNoticesOfOurTable(t *testing.T) {
	notice := func(kind netlink.HeaderType, family byte, table string) netlink.Message {
		b, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_TABLE_NAME, Data: []byte(table + "\x00")}})
		if err != nil {
			t.Fatal(err)
		}
		return netlink.Message{Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | kind}, Data: append([]byte{family, 0, 0, 0}, b...)}
	}
	for want, list := range map[bool][]netlink.Message{
		true: {notice(unix.NFT_MSG_DELRULE, unix.NFPROTO_INET, firewall.Table), notice(unix.NFT_MSG_NEWSETELEM, unix.NFPROTO_INET, firewall.Table)},
		false: {
			notice(unix.NFT_MSG_NEWGEN, unix.NFPROTO_INET, firewall.Table), notice(unix.NFT_MSG_DELRULE, unix.NFPROTO_IPV4, firewall.Table),
			notice(unix.NFT_MSG_DELRULE, unix.NFPROTO_INET, "komainu_steer"), {Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES << 8}},
			{Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES << 8}, Data: []byte{unix.NFPROTO_INET, 0, 0, 0, 9}},
		},
	} {
		for _, m := range list {
			if concernsFilter(m) != want {
				t.Errorf("%+v: want %t", m, want)
			}
		}
	}
	// A verdict of a rule must not be lost in the encoding.
	w, err := encode(firewall.Ruleset{Chains: []firewall.Chain{{Name: "c", Rules: []firewall.Rule{{Action: firewall.Discard}}}}})
	if err != nil || len(w.chains[0].rules[0].exprs) != 1 || w.chains[0].rules[0].exprs[0].(*expr.Verdict).Kind != expr.VerdictDrop {
		t.Errorf("a bare discard became %+v, %v", w, err)
	}
}

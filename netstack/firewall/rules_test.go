package firewall_test

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"komainu/netstack/firewall"
	"komainu/netstack/firewall/firewalltest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// What a box refuses and lets pass, as nft reads it.
func TestRulesets(t *testing.T) {
	for name, p := range firewalltest.Policies() {
		file := filepath.Join("testdata", name+".nft")
		got := firewall.Rules(p).String()
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil { //nolint:gosec // a golden file
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got); d != "" {
			t.Errorf("%s (-want +got); if it is right, go test -update:\n%s", file, d)
		}
	}
}

func TestWithoutZonesThereIsNoTable(t *testing.T) {
	if r := firewall.Rules(firewall.Policy{Accept: []firewall.Accept{{Name: "ssh"}}}); len(r.Chains)+len(r.Sets) != 0 {
		t.Errorf("rules without zones:\n%s", r)
	}
}

// A port that isn't there takes nothing along but what was allowed over it.
func TestZonesWithoutTheirPortAreLeftOut(t *testing.T) {
	p := firewalltest.Managed()
	for i := range p.Zones {
		p.Zones[i].Link = "pci:0000:02:00." + string(rune('0'+i))
	}
	p.Zones[0].Link = "eth0"
	r := firewall.Rules(p)
	if s := r.String(); strings.Contains(s, "pci:") || strings.Contains(s, "vrf-port") || !strings.Contains(s, `"eth0" : jump in_office`) ||
		!strings.Contains(s, `ip daddr 10.99.0.0/24 counter drop comment "management office"`) {
		t.Errorf("rules without ports:\n%s", s)
	}
}

// Whatever is in a policy, names are unique and what rules name is there.
func FuzzRules(f *testing.F) {
	f.Add("office", "役場", "a-b", "a_b", []byte{10, 0, 0, 0, 8, 10, 1, 0, 0, 16})
	f.Add("", "", "", "", []byte{0, 0, 0, 0, 0, 255, 255, 255, 255, 32})
	f.Fuzz(func(t *testing.T, a, b, c, d string, bytes []byte) {
		var networks []netip.Prefix
		for ; len(bytes) >= 5; bytes = bytes[5:] {
			addr := netip.AddrFrom4([4]byte(bytes))
			networks = append(networks, netip.PrefixFrom(addr, int(bytes[4]%33)), netip.PrefixFrom(netip.AddrFrom16([16]byte{bytes[0], 15: bytes[3]}), int(bytes[4]%129)))
		}
		p := firewall.Policy{
			Zones: []firewall.Zone{
				{Name: a, Side: firewall.Service, Link: "l0", Networks: networks, Addresses: networks}, {Name: b, Side: firewall.WAN, Link: "l1"},
				{Name: c, Side: firewall.Management, Link: "l2", VRF: "v", Addresses: networks}, {Name: d, Side: firewall.Tunnel, Link: "l3", Networks: networks},
			},
			Accept:  []firewall.Accept{{Name: c, Zone: b, From: networks, Proto: "udp", Ports: []uint16{1}, Stateless: true}},
			Forward: []firewall.Forward{{Name: d, FromZone: a, ToZone: b, To: networks, Proto: "icmp"}},
			Own:     []string{"park"},
		}
		r := firewall.Rules(p)
		sets, chains := map[string]bool{"": true}, map[string]bool{"": true}
		for _, s := range r.Sets {
			if sets[s.Name] || len(s.Networks) == 0 {
				t.Errorf("set %q is there twice or empty", s.Name)
			}
			sets[s.Name] = true
			for i, n := range s.Networks {
				if n != n.Masked() || n.Addr().Is4() == s.V6 || i > 0 && (s.Networks[i-1].Overlaps(n) || n.Addr().Less(s.Networks[i-1].Addr())) {
					t.Errorf("set %s: %v", s.Name, s.Networks)
				}
			}
		}
		for _, c := range r.Chains {
			if chains[c.Name] {
				t.Errorf("chain %q is there twice", c.Name)
			}
			chains[c.Name] = true
		}
		for _, c := range r.Chains {
			for _, x := range c.Rules {
				if !sets[x.SrcSet] || !sets[x.DstSet] || !chains[x.Chain] {
					t.Errorf("chain %s: a rule names what isn't there: %+v", c.Name, x)
				}
			}
		}
		_ = r.String()
	})
}

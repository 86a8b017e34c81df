package config

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"komainu/netstack/firewall"
	"komainu/netstack/spec"
)

// A town hall with two tunnels to the data centre and one to the prefecture:
// links, addresses, zones and permissions.
func TestTunnelsAreLinksAndZones(t *testing.T) {
	f, err := Load(filepath.Join("testdata", "closed.toml"))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "closed.network.golden", []byte(groundText(f.Ground())))
	rules := firewall.Rules(f.Firewall()).String()
	for _, want := range []string{
		`oifname "eth1" ip daddr @inside4 counter jump`, // nothing for the data centre leaves in clear
		"meta l4proto esp ip saddr 10.1.0.10 accept\n",  // although its end is in its own network
		`meta l4proto esp ip daddr 10.20.7.2 counter accept comment "esp main"`,
	} {
		if !strings.Contains(rules, want) {
			t.Errorf("the firewall lacks %s:\n%s", want, rules)
		}
	}
}

// Whatever a peer sends may come by each of its tunnels, and by nothing else.
func TestPeersBelongIntoAllOfTheirTunnels(t *testing.T) {
	f, err := Load(filepath.Join("testdata", "closed.toml"))
	if err != nil {
		t.Fatal(err)
	}
	main, alt, other := f.inside("dc-main"), f.inside("dc-alt"), f.inside("prefecture-backup")
	for _, p := range prefixesOf("10.1.0.0/16", "2001:db8:1::/48", "10.255.7.1/32", "10.255.8.1/32") {
		if !slices.Contains(main, p) || !slices.Contains(alt, p) || slices.Contains(other, p) {
			t.Errorf("%s: main %v, alt %v, other %v", p, main, alt, other)
		}
	}
}

func TestPathsInClearBesideATunnel(t *testing.T) {
	good := site(t, "closed")
	line := `[[path]]
name = "line"
peer = "dc-edge"
interface = "alt"
local = "10.20.8.2"
remote = "10.20.8.1"
`
	if _, problems := Parse("closed.toml", []byte(good+line)); codes(problems) != "config-path-clear line dc-edge main" {
		t.Errorf("a path in clear beside a tunnel: %s", codes(problems))
	}
}

func TestMTUOfTunnels(t *testing.T) {
	for _, c := range []struct {
		name, old, new string
		want           int
	}{
		{"dc-main", "", "", 1446}, {"dc-alt", "", "", 1346}, {"prefecture-backup", "", "", 1380},
		{"dc-alt", "mtu = 1400", "mtu = 1300", 1280}, {"dc-alt", "mtu = 1400", "mtu = 9000", 8946},
	} {
		f, problems := Parse("closed.toml", []byte(strings.Replace(site(t, "closed"), c.old, c.new, 1)))
		if problems != nil {
			t.Fatal(problems)
		}
		n, _ := f.Network()
		i := slices.IndexFunc(n.Links, func(l spec.Link) bool { return l.Label == c.name })
		if i < 0 || n.Links[i].MTU != c.want {
			t.Errorf("%s with %s: %+v, want %d", c.name, c.new, n.Links, c.want)
		}
	}
}

func prefixesOf(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

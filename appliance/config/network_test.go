package config

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"komainu/appliance/agent"
	"komainu/appliance/say"
	"komainu/netstack/plan"
	"komainu/netstack/spec"
)

// groundText shows a network, one line per value.
func groundText(g agent.Ground) string {
	var b strings.Builder
	for _, l := range g.Network.Links {
		fmt.Fprintf(&b, "link %+v\n", l)
	}
	for _, a := range g.Network.Addresses {
		fmt.Fprintf(&b, "address %s on %s\n", a.Prefix, a.Link)
	}
	for _, r := range g.Network.Routes {
		fmt.Fprintf(&b, "route %+v\n", r)
	}
	for _, r := range g.Network.Rules {
		fmt.Fprintf(&b, "rule %+v\n", r)
	}
	for _, r := range g.Tracked {
		fmt.Fprintf(&b, "tracked %+v\n", r)
	}
	for _, z := range g.Firewall.Zones {
		fmt.Fprintf(&b, "zone %+v\n", z)
	}
	for _, a := range g.Firewall.Accept {
		fmt.Fprintf(&b, "accept %+v\n", a)
	}
	for _, f := range g.Firewall.Forward {
		fmt.Fprintf(&b, "forward %+v\n", f)
	}
	fmt.Fprintln(&b, "own", g.Firewall.Own)
	return b.String()
}

func site(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".toml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func codes(ps Problems) string {
	var out []string
	for _, p := range ps {
		out = append(out, strings.Join(append([]string{p.Code}, p.Args...), " "))
	}
	return strings.Join(out, "; ")
}

// TestNetworkRules makes one change to a file with every table of the network
// and demands exactly what it must be answered with.
func TestNetworkRules(t *testing.T) {
	good := site(t, "field")
	for _, c := range []struct{ old, new, want string }{
		{`gateway = ["10.20.7.1", "2001:db8:7:1::1"]\nmetric = 10`, `gateway = ["10.20.9.1"]`, "config-not-in-network gateway 10.20.9.1 main"},
		{`"10.20.8.1", "fe80::1"`, `"10.20.8.2"`, "config-hop-own gateway 10.20.8.2"},
		{`metric = 20\n\n[[interface]]`, "metric = 10\n[[interface]]", "config-metric-twice alt main 10"},
		{`on = "bond0.110"`, `on = "bond2.110"`, "config-refers on bond2 [[bond]] bond0, bond1"},
		{`on = "bond0.110"`, `on = "bond0.4095"`, "config-want-link on bond0.4095"},
		{`on = "bond0.110"`, `on = "bond0.200"`, "config-port-not-interface bond0.200 [[bridge]] br0"},
		{`on = "bond0.110"`, `on = "eth4"`, "config-port-not-interface eth4 [[bond]] bond1"},
		{`on = "bond0.110"`, `on = "eth4.7"`, "config-port-not-interface eth4 [[bond]] bond1"},
		{`on = "bond0.110"`, `on = "bond1"`, "config-link-twice bond1 main"},
		{`on = "bond0.110"`, `on = "komainu-park"`, "config-want-link on komainu-park"},
		{`on = "bond0.110"`, `vlan = 110`, "config-missing on [[interface]]; config-vlan-written"},
		{`"eth4", "eth5"`, `"eth4", "pci:0000:03:00.0"`, "config-port-twice pci:0000:03:00.0 [[bond]] bond0"},
		{`"eth4", "eth5"`, `"eth4", "bond0"`, "config-port-made bond0 [[bond]] bond0"},
		{`ports = ["eth4", "eth5"]`, `ports = []`, "config-want-some ports; config-primary-not-port eth4"},
		{`name = "br0"`, `name = "bond0"`, "config-link-name bond0 [[bond]] bond0; config-port-made bond0.200 [[bridge]] bond0; config-refers on br0 [[bridge]] bond0"},
		{`primary = "eth4"`, `primary = "eth6"`, "config-primary-not-port eth6"},
		{`arp-targets = ["10.20.8.1"]`, ``, "config-missing arp-targets [[bond]]"},
		{`monitor = "arp"`, ``, "config-only-with arp-targets monitor = \"arp\""},
		{`mode = "active-backup"`, `mode = "802.3ad"`, "config-only-with monitor mode = \"active-backup\"; config-only-with primary mode = \"active-backup\""},
		{`mode = "802.3ad"`, ``, "config-only-with lacp-rate mode = \"802.3ad\"; config-only-with min-links mode = \"802.3ad\""},
		{`min-links = 1`, `min-links = 3`, "config-min-links"},
		{`mtu = 1400`, `mtu = 1200`, "config-mtu-ipv6 1200"},
		{"on = \"bond1\"", "on = \"pci:0000:04:00.1\"", "config-mtu-vlan 9000 1500 alt"},
		{`zone = "management"`, "", ""},
		{`on = "dummy"`, "on = \"dummy\"\nzone = \"management\"", "config-management-twice maintenance-port"},
		{`via = "192.168.50.254"`, `via = "192.168.51.254"`, "config-via-nowhere 192.168.51.254; config-source-elsewhere 192.168.51.0/24 office"},
		{`via = "192.168.50.254"`, `interface = "wan"`, "config-refers interface wan [[interface]] office, main, alt, printers, maintenance-port, stable; config-source-elsewhere 192.168.51.0/24 office"},
		{`via = "192.168.50.254"`, ``, "config-missing via [[route]]; config-source-elsewhere 192.168.51.0/24 office"},
		{`to = "172.16.0.0/16"`, `to = "192.168.60.0/24"`, "config-route-attached 192.168.60.0/24 printers"},
		{`track = "main"`, `track = "mian"`, "config-refers-near track mian [[path]] main"},
		{`from = "192.168.50.64/26"`, "from = \"192.168.50.64/26\"\ntrack = \"alt\"", "config-not-beside track from"},
		{`from = "192.168.50.64/26"`, "metric = 10", "config-metric-twice guests main 10"},
		{`source = ["192.168.50.7/32"`, `source = ["192.168.60.7/32"`, "config-source-elsewhere 192.168.60.7/32 office"},
		{`to = "printers"`, `to = "printer"`, "config-refers-near to printer [[interface]] printers"},
		{`to = "printers"`, `to = "maintenance-port"`, "config-management-use maintenance-port [[allow]]"},
		{`to = "printers"`, `to = "office"`, "config-allow-same office"},
		{`name = "snmp"`, `name = "print"`, "config-name-twice print [[allow]] 99"},
		{`service = "udp/161"`, `service = ["icmp", "udp/0"]`, "config-allow-ping; config-want-service service udp/0"},
		{`maintenance-port:22`, `mgmt:22`, "config-refers ssh mgmt [[interface]] office, main, alt, printers, maintenance-port, stable"},
		{`"maintenance-port:22"`, `"192.168.50.1:8443"`, "config-port-taken 192.168.50.1:8443 [health]"},
		{`ssh-ed25519 AAAA`, `ssh-ed25519 AAAB`, "config-want-key keys"},
		{`role = "field"`, `role = "root"`, "config-want-word role root viewer, field, operator, admin"},
		{"[console]", "[[user]]\nname = \"sato\"\nrole = \"admin\"\n[console]", "config-user-without sato; config-name-twice sato [[user]] 113"},
		{`"192.168.60.1/24"`, `"192.168.60.255/24"`, "config-address-of-all address 192.168.60.255/24"},
		{"[console]", "[vlan]\nx = 1\n[console]", "config-vlan-written"},
	} {
		old := strings.ReplaceAll(c.old, `\n`, "\n")
		if !strings.Contains(good, old) {
			t.Errorf("no %q", old)
			continue
		}
		f, problems := Parse("x", []byte(strings.Replace(good, old, c.new, 1)))
		if diff := cmp.Diff(c.want, codes(problems)); diff != "" {
			t.Errorf("%q → %q (-want +got)\n%s", old, c.new, diff)
		}
		if f != nil {
			consistent(t, f)
		}
	}
}

// TestOrdinaryServer: a database host's network is its own.
func TestOrdinaryServer(t *testing.T) {
	text := strings.Replace(site(t, "dc-db"), `on = "eth0"`, "on = \"pci:0000:02:00.0\"\ngateway = \"10.1.4.1\"", 1) +
		"\n[[bond]]\nname = \"bond0\"\nports = \"eth1\"\n[[user]]\nname = \"sato\"\nrole = \"admin\"\nkeys = [\"x\"]\n[console]\n"
	_, problems := Parse("x", []byte(text))
	want := "config-link-of-system pci:0000:02:00.0; config-key-not-in-role gateway dc-db; config-not-in-role [[bond]] dc-db; config-not-in-role [[user]] dc-db; config-want-key keys; config-not-in-role [console] dc-db"
	if diff := cmp.Diff(want, codes(problems)); diff != "" {
		t.Error(diff)
	}
}

// TestPaste: what terminals and word processors do to a file is taken as meant,
// or named.
func TestPaste(t *testing.T) {
	good := site(t, "field")
	for _, c := range []struct{ name, text, want string }{
		{"CRLF", strings.ReplaceAll(good, "\n", "\r\n"), ""},
		{"tabs", strings.ReplaceAll(good, " = ", "\t=\t"), ""},
		{"byte order mark", "\ufeff" + good, ""},
		{"quotes", strings.Replace(good, `"br0"`, "“br0”", 1), `config-full-width “ " 201C`},
		{"last quote", strings.Replace(good, `"br0"`, `"br0”`, 1), `config-full-width ” " 201D`},
		{"equals", strings.Replace(good, "metric =", "metric ＝", 1), "config-full-width ＝ = FF1D"},
		{"space", strings.Replace(good, "metric =", "metric\u3000=", 1), "config-full-width-space 3000"},
		{"digits", strings.Replace(good, "metric = 10", "metric = １０", 1), "config-full-width １ 1 FF11"},
		{"digits in a text", strings.Replace(good, "10.20.7.2/29", "10.20.7.２/29", 1), "config-full-width ２ 2 FF12"},
		{"comment", good + "# “全角”\n", ""},
		{"Shift_JIS", good + "# \x93\xfa\n", "config-not-utf8"},
		{"newer", strings.Replace(good, "schema = 1", "schema = 2\nnew = 1", 1), "config-newer-schema 2 1"},
		{"older", strings.Replace(good, "schema = 1", "schema = 0", 1), "config-want-schema 0"},
	} {
		_, problems := Parse("x", []byte(c.text))
		if diff := cmp.Diff(c.want, codes(problems)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", c.name, diff)
		}
	}
}

// consistent demands that everything that a network and its firewall name is
// there, and fits into the kernel.
func consistent(t testing.TB, f *File) {
	t.Helper()
	n, tracked := f.Network()
	links := map[string]spec.Link{}
	for _, l := range n.Links {
		if _, twice := links[l.Name]; twice || l.Name == "" || l.Label == "" || len(l.Name) > 15 && !strings.HasPrefix(l.Name, "pci:") {
			t.Errorf("link %+v", l)
		}
		links[l.Name] = l
	}
	known := func(what, name string) {
		t.Helper()
		if _, ok := links[name]; !ok {
			t.Errorf("%s: no link %q", what, name)
		}
	}
	for _, l := range n.Links {
		if l.Master != "" {
			known(l.Name, l.Master)
		}
		if l.Kind == spec.VLAN {
			if known(l.Name, l.Parent); l.VLAN < 1 || l.VLAN > 4094 {
				t.Errorf("VLAN %d", l.VLAN)
			}
		}
	}
	for _, a := range n.Addresses {
		if known(a.Prefix.String(), a.Link); !a.Prefix.IsValid() {
			t.Error("no prefix")
		}
	}
	routes := slices.Clone(n.Routes)
	for _, r := range tracked {
		routes = append(routes, r.Route)
	}
	for _, r := range routes {
		if known(r.To.String(), r.Link); !r.To.IsValid() || r.To != r.To.Masked() || r.Via.IsValid() && r.Via.Is4() != r.To.Addr().Is4() {
			t.Errorf("route %+v", r)
		}
	}
	for _, r := range n.Rules {
		if r.Mark != 0 { // the agent fills the tables of classes
			if !slices.ContainsFunc(f.Ground().ClassPaths, func(c agent.ClassPath) bool { return c.Table == r.Table }) {
				t.Errorf("rule %+v", r)
			}
			continue
		}
		if r.Priority < 1000 || r.Priority > 1999 || !slices.ContainsFunc(n.Routes, func(x spec.Route) bool { return x.Table == r.Table }) {
			t.Errorf("rule %+v", r)
		}
	}
	plan.Diff(spec.Network{}, n)
	zones := map[string]bool{"": true}
	p := f.Firewall()
	for _, z := range p.Zones {
		known(z.Name, z.Link)
		zones[z.Name] = true
	}
	for _, a := range p.Accept {
		if !zones[a.Zone] || a.Proto != "tcp" && a.Proto != "udp" && !a.Outer || len(a.Ports) == 0 && a.Proto != "esp" {
			t.Errorf("accept %+v", a)
		}
	}
	for _, x := range p.Forward {
		if !zones[x.FromZone] || !zones[x.ToZone] || x.FromZone == "" {
			t.Errorf("forward %+v", x)
		}
	}
}

// TestMutated changes good files at random: lines go, move and are doubled, and
// values are replaced by others of the same files. Nothing panics, and what
// passes is consistent.
func TestMutated(t *testing.T) {
	passed := 0
	from := []string{shared(t)}
	for _, name := range append(slices.Clone(sites), "closed") {
		from = append(from, site(t, name))
	}
	for seed := range uint64(1500) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		lines := strings.Split(from[seed%uint64(len(from))], "\n")
		for range 1 + rnd.IntN(3) {
			i, j := rnd.IntN(len(lines)), rnd.IntN(len(lines))
			switch rnd.IntN(5) {
			case 0:
				lines = slices.Delete(lines, i, i+1)
			case 1:
				lines = slices.Insert(lines, i, lines[j])
			case 2:
				lines[i], lines[j] = lines[j], lines[i]
			case 3: // the value of another key
				key, _, _ := strings.Cut(lines[i], "=")
				_, value, ok := strings.Cut(lines[j], "=")
				if ok {
					lines[i] = key + "=" + value
				}
			default: // one character
				if b := []byte(lines[i]); len(b) > 0 {
					b[rnd.IntN(len(b))] = byte(32 + rnd.IntN(95))
					lines[i] = string(b)
				}
			}
		}
		f, problems := Parse("x", []byte(strings.Join(lines, "\n")))
		if f != nil {
			passed++
			f.Agent()
			consistent(t, f)
		}
		for _, lang := range say.Languages() {
			problems.Render(lang)
		}
		if t.Failed() {
			t.Fatalf("seed %d:\n%s", seed, strings.Join(lines, "\n"))
		}
	}
	if passed < 100 {
		t.Errorf("%d of 1500 passed: the changes are too coarse to find anything", passed)
	}
}

package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"komainu/netstack/qos"
)

// shared is a site with classes of its own on one shared line.
func shared(t testing.TB) string {
	return site(t, "closed") + `
[[class]]
name = "copies"
match = ["tcp/445 10.1.4.0/24", "udp/5000-5010", "bulk"]
paths = ["alt"]

[[class]]
name = "heartbeat"
paths = ["main", "alt"]

[[qos]]
interface = "main"
rate = "10mbit"
overhead = 4
class = [
  { name = "heartbeat", min = "64kbit", prio = 0 },
  { name = "copies", max = "48KB/s", prio = 6 },
  { name = "copies", max = "8mbit", prio = 6, when = "mon-fri 19:00-07:00" },
]
peer = [{ name = "dc-edge", min = "5mbit", max = "10mbit", prio = 1 }]
`
}

// TestSharingRules makes one change to a file with shared lines and demands
// exactly what it must be answered with.
func TestSharingRules(t *testing.T) {
	good := shared(t)
	for _, c := range []struct{ old, new, want string }{
		{"", "", ""},
		{`name = "copies", max = "48KB/s"`, `name = "copeis", max = "48KB/s"`, "config-refers-near name copeis [[class]] copies"},
		{`interface = "main"` + "\nrate", `interface = "mian"` + "\nrate", "config-refers-near interface mian [[interface]] main"},
		{`{ name = "dc-edge", min`, `{ name = "dc-egde", min`, "config-refers-near name dc-egde [[peer]] dc-edge"},
		{`paths = ["alt"]`, `paths = ["lte"]`, "config-refers paths lte [[path]] main, alt"},
		{`paths = ["alt"]`, `paths = ["alt", "alt"]`, "config-value-twice paths alt"},
		{`min = "5mbit", max = "10mbit"`, `min = "5mbit", max = "4mbit"`, "config-qos-min"},
		{`min = "5mbit", max = "10mbit"`, `min = "11mbit"`, "config-qos-sum peer 11000 10000; config-qos-line min"},
		{`max = "8mbit"`, `max = "80mbit"`, "config-qos-line max"},
		{`min = "64kbit"`, `min = "10.1mbit"`, "config-qos-sum class 10100 10000; config-qos-line min"},
		{`"48KB/s"`, `"48 kilo"`, "config-want-bits max 48 kilo"},
		{`"48KB/s"`, `"1bit"`, "config-rate-range max 1bit"},
		{`rate = "10mbit"`, ``, "config-missing rate [[qos]]"},
		{`19:00-07:00`, `19:00-19:00`, "config-want-hours when mon-fri 19:00-19:00"},
		{`mon-fri`, `mo-fr`, "config-want-hours when mo-fr 19:00-07:00"},
		{`, when = "mon-fri 19:00-07:00"`, ``, "config-name-twice copies class 116"},
		{`prio = 6, when`, `min = "9.95mbit", prio = 6, when`, "config-qos-sum-at 10014 10000 mon 19:00; config-qos-min"},
		{`07:00" },`, `07:00" }, { name = "copies", max = "1mbit", when = "fri,sat 22:00-23:00" }, { name = "copies", max = "1mbit", when = "mon 07:00-19:00" },`, "config-qos-overlap copies mon-fri 19:00-07:00 117 fri 22:00"},
		{`07:00" },`, `07:00" }, { name = "copies", max = "1mbit", when = "sat 06:00-23:00" },`, "config-qos-overlap copies mon-fri 19:00-07:00 117 sat 06:00"},
		{`rate = "10mbit"`, "rate = \"10mbit\"\nkind = \"cake\"", "config-qos-cake"},
		{`"udp/5000-5010"`, `"udp/5010-5000"`, "config-want-match match udp/5010-5000"},
		{`match = ["tcp/445 10.1.4.0/24", "udp/5000-5010", "bulk"]`, ``, "config-missing match [[class]]"},
		{`{ name = "dc-edge", min = "5mbit", max = "10mbit", prio = 1 }`, `{ name = "dc-edge", min = "1mbit" }, { name = "dc-edge", max = "2mbit" }`, "config-qos-peer-twice dc-edge"},
		{`rate = "10mbit"`, "rate = \"10mbit\"\n[[qos]]\ninterface = \"main\"\nrate = \"1mbit\"", "config-name-twice main [[qos]] 110; config-qos-line max; config-qos-sum peer 5000 1000; config-qos-line min"},
		{`interface = "main"` + "\nrate", "interface = \"spare\"\nrate = \"1mbit\"\n[[interface]]\nname = \"spare\"\non = \"eth7\"\nzone = \"management\"\naddress = [\"192.168.99.1/24\"]\n[[qos]]\ninterface = \"main\"\nrate", "config-qos-management spare"},
		{`[[qos]]`, manyClasses(ownClasses) + "[[qos]]", "config-class-many 9"},
		{`name = "heartbeat"` + "\npaths", "name = \"business\"\nmatch = [\"tcp/1\"]\npaths", "config-class-rest business"},
	} {
		if !strings.Contains(good, c.old) {
			t.Errorf("no %q", c.old)
			continue
		}
		f, problems := Parse("x", []byte(strings.Replace(good, c.old, c.new, 1)))
		if diff := cmp.Diff(c.want, codes(problems)); diff != "" {
			t.Errorf("%q → %q (-want +got)\n%s", c.old, c.new, diff)
		}
		if f != nil {
			f.Sharing()
		}
	}
}

// manyClasses are n classes that nothing uses.
func manyClasses(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "[[class]]\nname = \"own-%d\"\nmatch = [\"tcp/%d\"]\n\n", i, 7000+i)
	}
	return b.String()
}

// TestOrdinaryServerQueues: a database host's queues are its own.
func TestOrdinaryServerQueues(t *testing.T) {
	_, problems := Parse("x", []byte(site(t, "dc-db")+"\n[[class]]\nname = \"time\"\n[[qos]]\ninterface = \"lan\"\nrate = \"10mbit\"\n"))
	if diff := cmp.Diff("config-not-in-role [[class]] dc-db; config-not-in-role [[qos]] dc-db", codes(problems)); diff != "" {
		t.Error(diff)
	}
}

// TestSharedLines holds the queues, marks and orders of paths of a hall and of a
// hub, on a Monday's morning.
func TestSharedLines(t *testing.T) {
	hub := site(t, "dc-edge") + `
[[class]]
name = "bulk"
paths = ["hinata-cho-alt"]

[[qos]]
interface = "main"
rate = "100mbit"
class = [{ name = "heartbeat", min = "1mbit", prio = 0 }, { name = "bulk", max = "48KB/s", prio = 6 }]
peer = [{ name = "hinata-cho", min = "10mbit", max = "50mbit", prio = 1 }]

[[qos]]
interface = "alt"
rate = "2mbit"
kind = "cake"
`
	for _, c := range []struct{ name, text string }{{"hall-qos", shared(t)}, {"hub-qos", hub}} {
		f, problems := Parse("x", []byte(c.text))
		if f == nil {
			t.Fatal(codes(problems))
		}
		g := f.Ground()
		var b strings.Builder
		for _, x := range g.Sharing.Classes {
			fmt.Fprintf(&b, "class %+v\n", x)
		}
		for _, tree := range g.Sharing.Trees(qos.Moment{Day: time.Monday, Minute: 600}) {
			fmt.Fprintf(&b, "line %s on %s: %s, %d bit/s, overhead %d, rest %#x\n", tree.Name, tree.Link, tree.Kind, tree.Rate, tree.Overhead, tree.Rest)
			for _, n := range tree.Nodes {
				fmt.Fprintf(&b, "  %+v\n", n)
			}
		}
		for _, x := range g.ClassPaths {
			fmt.Fprintf(&b, "paths %+v\n", x)
		}
		for _, x := range g.Network.Rules {
			if x.Mark != 0 {
				fmt.Fprintf(&b, "rule %+v\n", x)
			}
		}
		golden(t, c.name+".golden", []byte(b.String()))
	}
}

// TestRates: kilobytes are thousands of bytes, as providers count.
func TestRates(t *testing.T) {
	for text, want := range map[string]uint64{"48KB/s": 384_000, "384kbit": 384_000, "1mbit": 1e6, "1.5mbit": 1_500_000, "1gbit": 1e9, "0.5MB/s": 4e6} {
		f, problems := Parse("x", []byte(strings.Replace(shared(t), "10mbit", text, 1)))
		_ = problems // slower lines don't hold the shares of this one
		if f != nil && f.QoS[0].Rate != want {
			t.Errorf("%s: %d, want %d", text, f.QoS[0].Rate, want)
		}
	}
}

// TestSharing: what becomes of a file's classes.
func TestSharing(t *testing.T) {
	f, problems := Parse("x", []byte(shared(t)))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	p := f.Sharing()
	var names []string
	numbers := map[uint8]bool{}
	for _, c := range p.Classes {
		names = append(names, c.Name)
		if numbers[c.Number] || c.Number == 0 || c.Number > qos.MaxClasses {
			t.Errorf("%s has number %d", c.Name, c.Number)
		}
		numbers[c.Number] = true
	}
	// Own ones first, what nobody takes last.
	if names[0] != "copies" || names[len(names)-1] != "business" {
		t.Error(names)
	}
	if l := p.Lines[0]; l.Name != "main" || l.Kind != qos.HTB || l.Rate != 10e6 || l.Overhead != 4 || len(l.Classes) != 3 || len(l.Shares) != 1 || len(l.Shares[0].Networks) < 2 {
		t.Errorf("%+v", l)
	}
	if all := f.classPaths(); len(all) != 2 || all[0].Class != "copies" || all[0].Table != classTable+6 {
		t.Errorf("%+v", all)
	}
}

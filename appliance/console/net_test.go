package console

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"

	"komainu/appliance/control"
	"komainu/appliance/say"
	"komainu/drivers/netns"
	"komainu/drivers/netns/netnstest"
)

func townNetwork() control.Network {
	return control.Network{
		Digest: "00", Settled: true,
		Links: []control.NetLink{
			{Name: "lo", Kind: "port", Up: true, Carrier: true, MTU: 65536},
			{Name: "eth0", Kind: "port", Place: "pci:0000:02:00.0", MAC: "52:54:00:12:34:56", Master: "bond0", Up: true, Carrier: true, Mbit: 1000, Duplex: "full", MTU: 1500,
				Counters: control.Counters{RxPackets: 812345, RxBytes: 734e6, TxPackets: 1, TxBytes: 60, RxErrors: 12, RxDropped: 3}},
			{Name: "eth1", Kind: "port", Place: "pci:0000:03:00.0", Master: "bond0", Up: true, MTU: 1500},
			{Name: "bond0", Interface: "bond0", Kind: "bond", Up: true, Carrier: true, Mbit: 1000, Duplex: "full", MTU: 1500,
				Bond: &control.Bond{Mode: "802.3ad", Partner: "00:1b:21:aa:bb:cc", Ports: []control.BondPort{{Name: "eth0", Carrier: true, Active: true}, {Name: "eth1", Failures: 4}}}},
			{Name: "bond0.110", Interface: "wan", Kind: "vlan", Master: "", Up: true, Carrier: true, Mbit: 100, Duplex: "half", MTU: 1454, Zone: "wan",
				Addresses: []string{"10.20.7.2/29", "2001:db8:1234:5678:9abc:def0:1234:5678/64"}},
			{Name: "bond1", Kind: "bond", Up: true, Carrier: true, MTU: 1500,
				Bond: &control.Bond{Mode: "active-backup", Active: "eth2", Ports: []control.BondPort{{Name: "eth2", Carrier: true, Active: true}, {Name: "eth3", Carrier: true}}}},
			{Name: "eth9", Interface: "management", Kind: "port", MTU: 1500, Zone: "management", Addresses: []string{"192.168.99.1/24"}},
		},
		Gateways: []control.Gateway{{Address: netnstest.DCAddr[0].String(), Interface: "wan", Used: true}},
		Refused:  []control.Refusals{{Rule: "input office", Packets: 3, Bytes: 180}, {Rule: "spoofed", Packets: 4711, Bytes: 282660}, {Rule: "forward wan"}},
	}
}

func refusedAccesses() []control.AccessEntry {
	return []control.AccessEntry{
		{Time: noon, Rule: "input office", In: "office", From: "192.168.50.77", FromPort: 51234, To: "192.168.50.1", ToPort: 23, Proto: "tcp", Count: 1},
		{Time: noon.Add(-time.Minute), Rule: "spoofed", In: "wan", From: "2001:db8:1234:5678:9abc:def0:1234:5678", FromPort: 4000, To: "2001:db8::1", ToPort: 161, Proto: "udp", Count: 37},
		{Time: noon.Add(-time.Hour), Rule: "forward wan", In: "wan", From: "10.9.9.9", To: "192.168.50.7", Proto: "icmp", Count: 2},
	}
}

// netAgent answers about a network.
func netAgent(t *testing.T, n *control.Network, access *[]control.AccessEntry) (run string) {
	t.Helper()
	run = t.TempDir()
	serve(t, &control.Server{Socket: filepath.Join(run, "agent.sock"), Routes: []control.Route{
		{Pattern: "GET " + control.NetworkPath, Handle: func(context.Context, *control.Request) (any, error) { return *n, nil }},
		{Pattern: "GET " + control.AccessPath, Handle: func(context.Context, *control.Request) (any, error) { return *access, nil }},
		{Pattern: "GET " + control.StatusPath, Handle: func(context.Context, *control.Request) (any, error) {
			return control.Status{Site: "hinata-cho", Role: "town-hall", Time: noon, Services: []control.Service{{Name: "resident-db", Endpoint: netnstest.DCAddr[0].String() + ":5432"}}}, nil
		}},
	}})
	return run
}

// said runs a command of Net alone; out and words are apart.
func said(ctx context.Context, dir, line string) (code int, out, words string) {
	var o, w bytes.Buffer
	c := &Console{Commands: Net(filepath.Join(dir, "state")), Run: dir, Lang: "en", User: "sato", Role: control.Admin, Out: &o, Err: &w}
	argv, err := split(line)
	if err != nil {
		return exitUsage, "", err.Error()
	}
	return c.Main(ctx, argv), o.String(), w.String()
}

func TestShowNetwork(t *testing.T) {
	n, access := townNetwork(), refusedAccesses()
	n.Settled = true
	n.Gateways = []control.Gateway{{Address: "10.20.7.1", Interface: "wan", Metric: 10, Reason: control.Reason{Code: "gateway-down"}}, {Address: "10.30.7.1", Interface: "alt", Metric: 20, Used: true}}
	n.Drift = []control.Drift{{At: time.Date(2026, 11, 22, 9, 30, 0, 0, time.UTC), Change: "add address 10.20.7.2/29 on bond0.110"}}
	dir := netAgent(t, &n, &access)
	show := func(line string) string {
		t.Helper()
		all := "> " + line + "\n"
		for _, lang := range say.Languages() {
			code, got, words := said(t.Context(), dir, line+" --lang "+lang)
			if code != 0 || words != "" || strings.Contains(got, "label-") {
				t.Errorf("%s: %d %s\n%s", line, code, words, got)
			}
			for _, l := range strings.Split(got, "\n") {
				if width(l) > screen {
					t.Errorf("%s: %d columns: %s", line, width(l), l)
				}
			}
			all += got
		}
		return all
	}
	good := ""
	for _, line := range []string{"show interface", "show interface wan", "sh int eth0", "show interface pci:0000:03:00.0", "show bond", "show bond bond1", "show network", "show firewall", "show log access"} {
		good += show(line)
		code, got, _ := said(t.Context(), dir, line+" --json")
		if code != 0 || !json.Valid([]byte(got)) {
			t.Errorf("%s: %d %s", line, code, got)
		}
	}
	golden(t, "net-good", good)

	n.Settled = false
	n.Links[3].Bond.Partner = ""
	n.Links[3].Bond.Ports[0].Active = false
	n.Links[5].Bond.Active = ""
	n.Problems = []control.Reason{{Code: "port-missing", Args: []string{"pci:0000:04:00.0"}}}
	bad := show("show interface") + show("show bond") + show("show network")
	n, access = control.Network{}, nil
	bad += show("show interface") + show("show bond") + show("show firewall") + show("show log access")
	golden(t, "net-bad", bad)

	for line, want := range map[string]string{"show interface wlan0": "wlan0 is no interface", "show bond wan": "wan is no interface", "show log access 0": "from 1 to 1000", "show log access x": "from 1 to 1000"} {
		if code, _, words := said(t.Context(), dir, line); code == 0 || !strings.Contains(words, want) {
			t.Errorf("%s: %d %s", line, code, words)
		}
	}
}

// inside runs a command in a namespace.
func inside(ctx context.Context, t *testing.T, ns, dir, line string) (code int, out, words string) {
	t.Helper()
	netnstest.Do(t, ns, func() error {
		code, out, words = said(ctx, dir, line)
		return nil
	})
	return code, out, words
}

func TestHostPingCommands(t *testing.T) {
	town := netnstest.New(t)
	n, access := townNetwork(), refusedAccesses()
	dir := netAgent(t, &n, &access)
	for _, c := range []struct {
		line string
		code int
		want string
	}{
		{"ping " + netnstest.DCAddr[0].String() + " 1", 0, "1: 198.51.100.2 answers in"},
		{"ping " + netnstest.DCAddr[1].String() + " 1", 0, "1 sent, 1 answered, 0 % lost"},
		{"ping resident-db 1 --size 1400", 0, "(TTL 63, 1400 bytes)"},
		{"ping wan 1 --source " + netnstest.ClientAddr[0].String(), 0, "1: 198.51.100.2 answers in"},
		{"ping resident-db 1 --interface lan", 0, "answers in"},
		{"ping resident-db 1 --size 1501", 1, "longer than the MTU of the own interface"},
		{"ping 192.0.2.77 1", 1, "1: no answer"},
		{"traceroute resident-db", 0, " 1  192.0.2.1  "},
		{"traceroute " + netnstest.DCAddr[1].String(), 0, " 2  fd00:2::2  "},
		{"mtu resident-db", 0, "1500 bytes is the longest IP packet that gets to 198.51.100.2 and back (TCP: MSS 1460)"},
	} {
		code, out, words := inside(t.Context(), t, town.Client, dir, c.line)
		if code != c.code || !strings.Contains(out, c.want) || words != "" {
			t.Errorf("%s: %d %s\n%s", c.line, code, words, out)
		}
		code, out, words = inside(t.Context(), t, town.Client, dir, c.line+" --json")
		d := json.NewDecoder(strings.NewReader(out))
		for d.More() {
			if err := d.Decode(new(any)); err != nil {
				t.Errorf("%s: %v\n%s", c.line, err, out)
				break
			}
		}
		if code != c.code || words != "" {
			t.Errorf("%s --json: %d %s", c.line, code, words)
		}
	}
	for line, want := range map[string]string{
		"ping nobody":                         "nobody is no address, and no service or interface with a gateway of this box: resident-db, wan",
		"ping resident-db 0":                  "0 isn't a number from 1 to 10000",
		"ping resident-db --size 20":          "20 isn't a number from 28 to 65535",
		"ping resident-db --source fd00::1":   "fd00::1",
		"ping resident-db --interface wlan0":  "wlan0 is no interface",
		"ping resident-db 1 --source 1.2.3.4": "resident-db:",
	} {
		if code, _, words := inside(t.Context(), t, town.Client, dir, line); code == 0 || !strings.Contains(words, want) {
			t.Errorf("%s: %d %s", line, code, words)
		}
	}
	// Without any route, and stopped by ^C.
	netnstest.IP(t, town.Client, "route del default via 192.0.2.1")
	if code, out, words := inside(t.Context(), t, town.Client, dir, "mtu 203.0.113.1"); code == 0 || !strings.Contains(words, "no route") {
		t.Errorf("%d %s %s", code, out, words)
	}
	ctx, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	if code, out, words := inside(ctx, t, town.Client, dir, "ping 192.0.2.1 1000"); code != 0 || !strings.Contains(out, "1 sent, 1 answered") {
		t.Errorf("%d %s %s", code, out, words)
	}
	stopped, end := context.WithCancel(t.Context())
	end()
	for _, line := range []string{"mtu 192.0.2.1", "traceroute 192.0.2.1"} {
		if code, out, words := inside(stopped, t, town.Client, dir, line); code != 0 || words != "" {
			t.Errorf("%s: %d %s %s", line, code, out, words)
		}
	}

	netnstest.IP(t, town.Client, "route add default via 192.0.2.1")
	netnstest.IP(t, town.Box, "link set wan mtu 1270")
	netnstest.Run(t, town.Box, "nft", "add table inet t; add chain inet t o { type filter hook output priority 0; }; add rule inet t o icmp type destination-unreachable drop")
	if code, out, _ := inside(t.Context(), t, town.Client, dir, "mtu resident-db"); code != 0 || !strings.Contains(out, "1270 bytes is the longest") || !strings.Contains(out, "set mtu = 1270") || !strings.Contains(out, "1500: no answer") {
		t.Errorf("%d\n%s", code, out)
	}
}

func TestHostCaptureCommand(t *testing.T) {
	town := netnstest.New(t)
	n, access := control.Network{Links: []control.NetLink{{Name: "lan", Interface: "office"}}}, []control.AccessEntry(nil)
	dir := netAgent(t, &n, &access)
	type result struct {
		code       int
		out, words string
	}
	done := make(chan result, 1)
	go func() {
		var r result
		if err := netns.Do(town.Box, func() error {
			r.code, r.out, r.words = said(t.Context(), dir, "capture office udp and port 4242 or ( port 1 and port 2 ) ssh --packets 2 --seconds 20")
			return nil
		}); err != nil {
			r.words = err.Error()
		}
		done <- r
	}()
	// Datagrams until the capture has seen enough.
	var c net.Conn
	netnstest.Do(t, town.Client, func() (err error) {
		c, err = net.Dial("udp", netnstest.BoxLAN[0].String()+":4242")
		return err
	})
	defer c.Close()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var got result
	for ended := false; !ended; {
		select {
		case got = <-done:
			ended = true
		case <-tick.C:
			_, _ = c.Write([]byte("x")) // refused: nobody listens
		}
	}
	if got.code != 0 || !strings.Contains(got.words, "capturing on lan for 20 s, 2 packets or 100 MB at most") || !strings.Contains(got.words, "2 packets, ") {
		t.Fatalf("%d %s", got.code, got.words)
	}
	r, err := pcapgo.NewNgReader(strings.NewReader(got.out), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	packets := 0
	for {
		if _, _, err := r.ReadPacketData(); err != nil {
			break
		}
		packets++
	}
	if packets != 2 || !strings.HasPrefix(r.SectionInfo().Comment, "hinata-cho, office, sato") {
		t.Errorf("%d packets, %+v", packets, r.SectionInfo())
	}

	for line, want := range map[string]string{
		"capture office tcp":                      "tcp is no place for packets",
		"capture office tcp and ssh":              "something is missing at the end",
		"capture office foo ssh":                  "isn't known",
		"capture wlan0 ssh":                       "wlan0 is no interface",
		"capture office ssh --packets 0":          "from 1 to 10000000",
		"capture office ssh --size 2000":          "from 1 to 1000",
		"capture office ssh --seconds 100000":     "from 1 to 86400",
		"capture office usb: --ring yes --size 5": "from 20 to 1000",
		"capture office ssh --ring yes":           "--ring is no option",
		"capture office ssh --own maybe":          "maybe",
		"capture office ssh | include x":          "can't be shown at a terminal",
		"capture office":                          "needs",
	} {
		if code, _, words := inside(t.Context(), t, town.Box, dir, line); code == 0 || !strings.Contains(words, want) {
			t.Errorf("%s: %d %s", line, code, words)
		}
	}
	if code, got := run1(t, dir, "capture office ssh"); code != exitFailed || !strings.Contains(got, "can't be shown at a terminal") {
		t.Errorf("%d %s", code, got)
	}
}

// run1 has one output for all, as a terminal.
func run1(t *testing.T, dir, line string) (int, string) {
	t.Helper()
	var out strings.Builder
	c := &Console{Commands: Net(""), Run: dir, Lang: "en", User: "sato", Out: &out, Err: &out}
	return c.Main(t.Context(), strings.Fields(line)), out.String()
}

func TestTechinfoCommand(t *testing.T) {
	n, access := townNetwork(), refusedAccesses()
	dir := netAgent(t, &n, &access)
	if err := os.MkdirAll(filepath.Join(dir, "state/log"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "state/log/agent.log"), []byte("password=hanami\nplain words\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(b []byte) {
		t.Helper()
		z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]string{}
		for _, f := range z.File {
			var text bytes.Buffer
			r, err := f.Open()
			if err == nil {
				_, err = text.ReadFrom(r)
			}
			if err != nil {
				t.Fatal(err)
			}
			all[f.Name] = text.String()
		}
		if !strings.Contains(all["state/log/agent.log"], "plain words") || strings.Contains(fmt.Sprint(all), "hanami") || !strings.Contains(all["index.html"], "bond0.110") || !strings.Contains(all["index.html"], "<h2>show status</h2>") {
			t.Errorf("%.2000s", all["index.html"])
		}
	}
	code, out, words := said(t.Context(), dir, "techinfo ssh")
	if code != 0 || !strings.Contains(words, "written: techinfo-hinata-cho-") || !strings.Contains(words, "parts are missing") {
		t.Errorf("%d %s", code, words)
	}
	check([]byte(out))

	name := filepath.Join(dir, "a.zip")
	code, out, words = said(t.Context(), dir, "techinfo "+name)
	b, err := os.ReadFile(name)
	if code != 0 || err != nil || !strings.Contains(out, "written: "+name) || words != "" {
		t.Fatalf("%d %s %s %v", code, out, words, err)
	}
	check(b)
	if code, _, words := said(t.Context(), dir, "techinfo "+name); code == 0 || !strings.Contains(words, "file exists") {
		t.Errorf("written over: %d %s", code, words)
	}
	code, out, _ = said(t.Context(), dir, "techinfo --json "+filepath.Join(dir, "b.zip"))
	if code != 0 || !json.Valid([]byte(out)) {
		t.Errorf("%d %s", code, out)
	}
	if code, got := run1(t, dir, "techinfo ssh"); code == 0 || !strings.Contains(got, "can't be shown at a terminal") {
		t.Errorf("%d %s", code, got)
	}
	if code, got := run1(t, dir, "techinfo /tmp/x.zip"); code == 0 || !strings.Contains(got, "sato") { // no administrator
		t.Errorf("%d %s", code, got)
	}
}

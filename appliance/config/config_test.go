package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"komainu/appliance/agent"
	"komainu/appliance/say"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got); if it is right, go test -update:\n%s", path, diff)
	}
}

// sites are the three boxes of the lab's town, and a town hall with every table
// of the network.
var sites = []string{"hinata-cho", "dc-edge", "dc-db", "field"}

// TestGood holds everything that a file turns into.
func TestGood(t *testing.T) {
	for _, site := range sites {
		f, err := Load(filepath.Join("testdata", site+".toml"))
		if err != nil {
			t.Fatal(err)
		}
		var spec any
		if f.NTP != nil {
			spec = f.Timer()
		}
		told := f.Agent()
		golden(t, site+".network.golden", []byte(groundText(told.Ground)))
		told.Ground = agent.Ground{}
		got, err := json.MarshalIndent(map[string]any{
			"ntp": f.NTP, "timer": spec,
			"agent": told, "beats": f.Beats(), "clusters": f.Clusters(), "probes": f.Probes(), "refusals": f.Refusals(),
			"health": f.Health.Listen, "orders": f.Orders, "users": f.Users, "console": f.Console,
		}, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, site+".golden", append(got, '\n'))
	}
}

// TestBad finds many faults in one pass, in both languages.
func TestBad(t *testing.T) {
	data, err := os.ReadFile("testdata/bad.toml")
	if err != nil {
		t.Fatal(err)
	}
	f, problems := Parse("bad.toml", data)
	if f != nil || len(problems) < 12 {
		t.Errorf("%d problems", len(problems))
	}
	for _, lang := range say.Languages() {
		golden(t, "bad."+lang+".golden", []byte(problems.Render(lang)))
	}
}

// TestRules makes one change to a good file and demands exactly what it must
// be answered with.
func TestRules(t *testing.T) {
	for _, c := range []struct{ site, old, new, want string }{
		{"hinata-cho", "schema = 1", "", "config-missing-schema"},
		{"hinata-cho", "schema = 1", "schema = 2", "config-newer-schema 2 1"},
		{"hinata-cho", "[orders]", "[ordrs]", "config-unknown-table-near ordrs orders; config-missing-table [orders]"},
		{"hinata-cho", `profile = "default"`, `profile = "fast"` + "\nmultiplier = 3", "config-profile-twice"},
		{"hinata-cho", `key = "secret:heartbeat"`, "port = 70000\n" + `key = "secret:heartbeat"`, "config-range port 70000 1 65535"},
		{"hinata-cho", `name = "alt"`, `name = "main"`, "config-name-twice main [[interface]] 21; config-refers interface alt [[interface]] office, main, main"},
		{"hinata-cho", `on = "alt"`, `on = "main"`, "config-link-twice main main"},
		{"hinata-cho", `"10.20.8.2/29"`, `"10.20.7.3/29", "10.20.8.2/29"`, "config-overlap 10.20.7.3/29 10.20.7.2/29 [[interface]] main 24"},
		{"hinata-cho", `"10.1.0.0/16"`, `"192.168.0.0/16"`, "config-overlap 192.168.0.0/16 192.168.50.1/24 [[interface]] office 19; config-unreached orders 10.1.4.1; config-unreached dc 10.1.4.20; config-unreached dc 10.1.4.30"},
		{"hinata-cho", `source = ["192.168.50.1"`, `source = ["192.168.50.7"`, "config-not-own source 192.168.50.7"},
		{"hinata-cho", `orders = "10.1.4.1:4796"`, "", "config-peer-without-orders dc-edge"},
		{"hinata-cho", `role = "dc-edge"`, `role = "dc-db"`, "config-no-peer dc-edge"},
		{"hinata-cho", `remote = "10.20.8.1"`, `remote = "10.20.7.2"`, "config-remote-own 10.20.7.2"},
		{"hinata-cho", `local = "10.20.8.2"`, `local = "10.20.7.2"`, "config-not-on-interface local 10.20.7.2 alt; config-path-socket 10.20.7.2:4795 main"},
		{"hinata-cho", `gateway = ["10.20.8.1"`, `gateway = ["10.20.9.1"`, "config-not-in-network gateway 10.20.9.1 alt"},
		{"hinata-cho", `vip = "192.168.50.10:80"`, `vip = "192.168.50.10:5432"`, "config-vip-twice 192.168.50.10:5432 resident-db"},
		{"hinata-cho", `vip = "192.168.50.10:80"`, `vip = ["192.168.50.10:80", "[2001:db8:7:50::10]:80"]`, "config-family-missing dc [2001:db8:7:50::10]:80; config-family-missing local [2001:db8:7:50::10]:80"},
		{"hinata-cho", `kind = "http"`, `kind = "tcp"`, "config-probe-path"},
		{"hinata-cho", `local = "192.168.50.1:8080"`, `local = "192.168.50.1:15433"`, "config-port-taken 192.168.50.1:15433 [[database]] resident locked-port"},
		{"hinata-cho", `local = "192.168.50.1:8080"`, `local = "192.168.50.1:8443"`, "config-port-taken 192.168.50.1:8443 [[service]] resident-web local"},
		{"hinata-cho", `:15432", "[2001`, `:5432", "[2001`, "config-port-taken 192.168.50.1:5432 [[database]] resident; config-one-port [2001:db8:7:50::1]:15432 5432"},
		{"hinata-cho", `[[database]]`, "[[group]]\nname = \"tax\"\n[[database]]", "config-group-empty tax"},
		{"hinata-cho", "[[group]]\nname = \"resident\"", "[[group]]\nname = \"residents\"", "config-refers-near group resident [[group]] residents; config-refers-near group resident [[group]] residents; " +
			"config-group-empty residents; config-refers-near group resident [[group]] residents"},
		{"hinata-cho", `key = "secret:service-key"`, "", "config-needs-too certificate key"},
		{"hinata-cho", `replication = "async"`, `write = "never"`, "config-host-only write"},
		{"hinata-cho", `office:8443`, `offce:8443`, "config-refers-near listen offce [[interface]] office"},
		{"dc-edge", `upstream = [{ address = "ntp.example.jp", pool = 4 }, "[2001:db8:1:4::20]:123"]`, "", "config-missing upstream [ntp]"},
		{"dc-edge", `upstream = [{ address = "ntp.example.jp", pool = 4 }, "[2001:db8:1:4::20]:123"]`, "upstream = []", "config-want-some upstream"},
		{"hinata-cho", `serve = ["office"]`, `port = 123`, "config-needs-too nts serve"},
		{"hinata-cho", `serve = ["office"]`, `serve = ["10.1.0.0/16"]`, "config-ntp-serve-where"},
		{"hinata-cho", `serve = ["office"]`, "serve = [\"main\"]\nport = 4795", "config-port-taken 10.20.7.2:4795 [[path]] main"},
		{"hinata-cho", `office:8443`, "office:4460", "config-port-taken 192.168.50.1:4460 [ntp] nts; config-port-taken [2001:db8:7:50::1]:4460 [ntp] nts"},
		{"hinata-cho", `keys = "secret:ntp-keys"`, "weak-keys = true", "config-needs-too key keys; config-needs-too weak-keys keys"},
		{"hinata-cho", `"10.1.0.5"`, `"10.1.0.6:123"`, "config-ntp-upstream-twice 10.1.0.6 110"},
		{"hinata-cho", `"10.1.0.5"`, `"10.20.8.2"`, "config-ntp-upstream-own 10.20.8.2"},
		{"hinata-cho", `min-sources = 2`, `min-sources = 4`, "config-ntp-min-sources 4 3"},
		{"hinata-cho", `orphan = 13`, `orphan = 10`, "config-ntp-orphan 10 10"},
		{"dc-edge", `[orders]`, "[[group]]\nname = \"x\"\n[orders]", "config-not-in-role [[group]] dc-edge; config-group-empty x"},
		{"dc-edge", `name = "dc-db"` + "\nrole", `name = "dc-edge"` + "\nrole", "config-peer-without-path dc-edge; config-peer-self dc-edge; config-refers peer dc-db [[peer]] hinata-cho, dc-edge"},
		{"dc-db", `group = "hinata-cho/resident"`, `group = "resident"`, "config-want-site-group group resident"},
		{"dc-db", `group = "hinata-cho/resident"`, `group = "dc-db/resident"`, "config-own-group dc-db/resident"},
		{"dc-db", `replication = "async"`, `primary = "10.1.4.20:5432"`, "config-hall-only primary"},
		{"dc-db", `listen = "10.1.4.20:4796"`, `listen = "10.1.4.21:4796"`, "config-not-own listen 10.1.4.21"},
		{"dc-db", `listen = "10.1.4.20:4796"`, ``, "config-missing listen [orders]"},
		{"dc-db", `schema = 1`, "schema = 1\nschema = = 2\n[heartbeat\n", "config-syntax unexpected character U+003D '=' at start of value; config-syntax expected ']' to close table name"},
		{"dc-db", `schema = 1`, "schema = 1\n[site]", "config-syntax table site already exists"},
	} {
		data, err := os.ReadFile(filepath.Join("testdata", c.site+".toml"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(data), c.old) {
			t.Errorf("%s: no %q", c.site, c.old)
			continue
		}
		_, problems := Parse("x", []byte(strings.Replace(string(data), c.old, c.new, 1)))
		var got []string
		for _, p := range problems {
			got = append(got, strings.Join(append([]string{p.Code}, p.Args...), " "))
		}
		if diff := cmp.Diff(c.want, strings.Join(got, "; ")); diff != "" {
			t.Errorf("%s: %q → %q (-want +got)\n%s", c.site, c.old, c.new, diff)
		}
	}
}

// TestCodes demands words for every code in the sources.
func TestCodes(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile(`"(config-[a-z-]+)"`)
	for _, name := range names {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range code.FindAllSubmatch(src, -1) {
			if !say.Known(string(m[1])) {
				t.Errorf("%s: no words for %s", name, m[1])
			}
		}
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		path, want string
		ok         bool
	}{
		{"testdata/hinata-cho.toml", "testdata/hinata-cho.toml is good: hinata-cho, town-hall\n", true},
		{"testdata/absent.toml", "testdata/absent.toml can't be read: configuration: open testdata/absent.toml: no such file or directory\n", false},
	} {
		var b bytes.Buffer
		if ok := Check(&b, c.path, "en"); ok != c.ok || b.String() != c.want {
			t.Errorf("%v %q", ok, b.String())
		}
	}
	var b bytes.Buffer
	if Check(&b, "testdata/bad.toml", "ja") || !strings.Contains(b.String(), "testdata/bad.toml:2:1: ") {
		t.Error(b.String())
	}
	if strings.Contains(b.String(), "hunter2") {
		t.Error("the report repeats a secret")
	}
}

// TestHostile: no control character of the file reaches the terminal, and a
// file beyond all measure is refused at once.
func TestHostile(t *testing.T) {
	_, problems := Parse("a\x1b[2Jb", []byte("schema = 1\n\"\\u001b[31m\" = 1 # \x7f\n"))
	if s := problems.Render("en"); strings.ContainsAny(s, "\x1b\x7f") {
		t.Errorf("%q", s)
	}
	if _, problems := Parse("x", bytes.Repeat([]byte("["), MaxSize+1)); len(problems) != 1 || problems[0].Code != "config-too-large" {
		t.Error(problems)
	}
	if _, problems := Parse("x", append([]byte("a = "), bytes.Repeat([]byte("["), MaxSize-10)...)); len(problems) == 0 {
		t.Error("no problem")
	}
}

// FuzzParse: no input panics, and every problem can be shown.
func FuzzParse(f *testing.F) {
	for _, site := range append(slices.Clone(sites), "bad") {
		data, err := os.ReadFile(filepath.Join("testdata", site+".toml"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, s := range []string{"", "\xff", "a.b.c = {d=[{e=1}]}", "[[site]]", "[site.name]", "[[a]]\n[a.b]\n[[a.b.c]]", "\r", "settings = 1\n[[database]]\nsettings.a.b.c = 1", "x = \"\"\"\n", "schema = 1 # \u65e5"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, problems := Parse("fuzz.toml", data)
		if (file == nil) != (len(problems) > 0) {
			t.Fatal("a file and problems, or neither")
		}
		if file != nil {
			file.Agent()
			consistent(t, file)
			file.Beats()
			file.Clusters()
			file.Probes()
			file.Refusals()
			if file.NTP != nil {
				file.Timer()
			}
			return
		}
		for _, lang := range say.Languages() {
			if problems.Render(lang) == "" {
				t.Fatal("nothing to show")
			}
		}
	})
}

package console

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"komainu/appliance/config"
	"komainu/appliance/control"
)

func threePorts() []control.Port {
	return []control.Port{
		{Name: "eth0", PCI: "0000:01:00.0", Driver: "igb", MAC: "02:00:00:00:00:01"},
		{Name: "eth1", PCI: "0000:02:00.0", Driver: "igb", MAC: "02:00:00:00:00:02", Carrier: true, Mbit: 1000},
		{Name: "eth2", PCI: "0000:03:00.0", Driver: "ixgbe", MAC: "02:00:00:00:00:03", Carrier: true},
	}
}

func halls() map[string]map[string]string {
	plain := map[string]string{
		"language": "ja", "role": "town-hall", "site": `hinata-cho 日向町 "本庁"`, "line": "1", "address": "10.20.7.2/29 10.20.7.1",
		"office": "2", "office-address": "192.168.50.1/24", "peer": "dc-edge 10.20.7.1 10.1.0.0/16", "time": "10.1.0.5 10.1.0.6 10.1.0.7", "ssh": "22",
	}
	bond := maps.Clone(plain)
	maps.Copy(bond, map[string]string{"line": "eth1,3.110", "bond": "802.3ad", "office": "2,3.200", "time": "-", "ssh": "-"})
	edge := maps.Clone(plain)
	maps.Copy(edge, map[string]string{"role": "dc-edge", "site": "dc-edge", "address": "10.20.7.1/29 10.20.7.2", "office-address": "10.1.4.1/24", "peer": "hinata-cho 10.20.7.2 192.168.50.0/24", "time": "10.1.4.5"})
	six := maps.Clone(plain)
	maps.Copy(six, map[string]string{"address": "2001:db8:7:1::2/64 2001:db8:7:1::1", "office-address": "2001:db8:7:50::1/64", "peer": "dc-edge 2001:db8:7:1::1 2001:db8:1::/48", "time": "-", "line": "1.7"})
	return map[string]map[string]string{"plain": plain, "bond": bond, "edge": edge, "six": six}
}

// TestWizardText: good answers make a file that passes `config check`.
func TestWizardText(t *testing.T) {
	all := halls()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		w := &wizard{ports: threePorts(), answer: all[name]}
		for _, q := range questions() {
			if a, asked := all[name][q.key]; asked {
				if err := q.check(w, a); err != nil {
					t.Errorf("%s: %s: %v", name, q.key, err)
				}
			}
		}
		text := w.text()
		golden(t, "wizard-"+name, text)
		if _, problems := config.Parse(name, []byte(text)); len(problems) > 0 {
			t.Errorf("%s:\n%s\n%s", name, problems.Render("en"), text)
		}
	}
}

func TestWizardRefuses(t *testing.T) {
	w := &wizard{ports: threePorts(), answer: halls()["bond"]}
	for _, c := range [][3]string{
		{"language", "de", "usage-value"}, {"role", "dc-db", "usage-value"}, {"site", "", "setup-want-site"}, {"site", "日向町", "setup-want-site"},
		{"line", "4", "setup-want-port"}, {"line", "0", "setup-want-port"}, {"line", "eth9", "setup-want-port"}, {"line", "1,1", "setup-port-twice"},
		{"line", "1,eth0", "setup-port-twice"}, {"line", "1.0", "setup-want-vlan"}, {"line", "1.4095", "setup-want-vlan"}, {"line", "", "setup-want-port"},
		{"office", "2", "setup-port-shared"}, {"office", "2,3.110", "setup-port-shared"}, {"office", "1,2", "setup-port-shared"},
		{"address", "10.20.7.2/29", "setup-want-line"}, {"address", "10.20.7.0/29 10.20.7.1", "setup-want-address"}, {"address", "10.20.7.2/29 10.20.8.1", "setup-want-gateway"},
		{"address", "10.20.7.2/29 10.20.7.2", "setup-want-gateway"}, {"address", "x y", "setup-want-address"},
		{"office-address", "192.168.50.0/24", "setup-want-address"}, {"office-address", "10.20.0.1/16", "setup-overlap"},
		{"peer", "dc-edge", "setup-want-peer"}, {"peer", "hinata-cho 10.1.1.1", "setup-want-site"}, {"peer", "dc-edge ::1", "setup-want-peer-address"},
		{"peer", "dc-edge 10.20.7.1 10.1.0.1/16", "setup-want-network"}, {"peer", "dc-edge 10.20.7.1 192.168.0.0/16", "setup-overlap"},
		{"peer", "dc-edge 10.20.7.1 10.1.0.0/16 10.1.2.0/24", "setup-overlap"},
		{"time", "clock.example", "setup-want-time"}, {"time", "10.1.0.5 10.1.0.5", "setup-time-twice"}, {"ssh", "0", "setup-want-ssh"}, {"ssh", "ssh", "setup-want-ssh"},
	} {
		for _, q := range questions() {
			if q.key != c[0] {
				continue
			}
			var e *control.Error
			if err := q.check(w, c[1]); !errors.As(err, &e) || e.Code != c[2] {
				t.Errorf("%s %q: %v, want %s", c[0], c[1], err, c[2])
			}
		}
	}
}

// FuzzWizard: whatever is typed and accepted makes a file without a fault.
func FuzzWizard(f *testing.F) {
	f.Add("hinata-cho x", "1,2.110", "10.20.7.2/29 10.20.7.1", "3", "192.168.50.1/24", "dc-edge 10.20.7.1 10.1.0.0/16", "10.1.0.5", "22")
	f.Fuzz(func(t *testing.T, site, line, address, office, lan, peer, clock, ssh string) {
		w := &wizard{ports: threePorts(), answer: map[string]string{}}
		typed := map[string]string{"language": "ja", "role": "town-hall", "site": site, "line": line, "bond": "802.3ad", "address": address, "office": office, "office-address": lan, "peer": peer, "time": clock, "ssh": ssh}
		for _, q := range questions() {
			a := strings.Join(strings.Fields(typed[q.key]), " ")
			if a == "" || q.when != nil && !q.when(w) {
				if a == "" {
					return
				}
				continue
			}
			if q.check(w, a) != nil {
				return
			}
			w.answer[q.key] = a
		}
		if _, problems := config.Parse("f", []byte(w.text())); len(problems) > 0 {
			t.Errorf("%s\n%s", problems.Render("en"), w.text())
		}
	})
}

// supervisor is PID 1 with ports and a life of the configuration.
type supervisor struct {
	config  control.ConfigText
	commits []control.CommitOrder
	refuse  error
}

func (s *supervisor) serve(t *testing.T, dir string) {
	serve(t, &control.Server{Socket: filepath.Join(dir, "pid1.sock"), Routes: []control.Route{
		{Pattern: "GET " + control.BoxPath, Handle: func(context.Context, *control.Request) (any, error) {
			return control.Box{Version: "2026.11.22.1849", Data: "ok", Ports: threePorts()}, nil
		}},
		{Pattern: "GET " + control.ConfigPath, Handle: func(context.Context, *control.Request) (any, error) { return s.config, nil }},
		{Pattern: "POST " + control.CommitPath, Handle: func(_ context.Context, r *control.Request) (any, error) {
			var o control.CommitOrder
			if err := r.Decode(&o); err != nil {
				return nil, err
			}
			if s.refuse != nil {
				return nil, s.refuse
			}
			s.commits = append(s.commits, o)
			s.config = control.ConfigText{Revision: control.Revision{Number: len(s.commits)}, Text: o.Text}
			return control.Committed{Revision: s.config.Revision}, nil
		}},
	}})
}

// TestSetup is the transcript of a first set-up: mistakes, back, the check.
func TestSetup(t *testing.T) {
	for name, typed := range map[string]string{
		"done":  "en\r\rhinata-cho\r1,2\rback\r2\r10.20.7.2/29\r10.20.7.2/29 10.20.7.1\r?\r3\r\r\r\r\ry\r",
		"leave": "en\r\rhinata-cho\r\x03",
		"no":    "en\r\rhinata-cho\r2\r10.20.7.2/29 10.20.7.1\r3\r\r\r\r\rn\r",
	} {
		s := &supervisor{}
		dir := t.TempDir()
		s.serve(t, dir)
		term := &typist{keys: "setup\r" + typed + "exit\r"}
		session := &Session{Console: Console{Commands: Setup(), Run: dir, Lang: "en", User: "sato", State: t.TempDir()}, Screen: NewScreen(term, 0), Role: control.Admin, Prompt: "komainu"}
		session.Screen.Size(80, 0)
		session.Screen.idle = forever
		if err := session.Loop(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		golden(t, "setup-"+name, term.shown())
		if want := map[string]int{"done": 1}[name]; len(s.commits) != want {
			t.Errorf("%s: %d commits", name, len(s.commits))
		}
	}
}

func TestSetupElsewhere(t *testing.T) {
	var out strings.Builder
	c := &Console{Commands: Setup(), Run: t.TempDir(), Lang: "en", Out: &out, Err: &out}
	if code := c.Main(t.Context(), []string{"setup"}); code != exitFailed || !strings.Contains(out.String(), "need a terminal") {
		t.Errorf("%d %s", code, out.String())
	}
	if Unconfigured(t.Context(), control.Client{Socket: filepath.Join(t.TempDir(), "none")}) {
		t.Error("a silent supervisor was taken for a box without configuration")
	}
}

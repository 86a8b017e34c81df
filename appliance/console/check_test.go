package console

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"komainu/appliance/control"
)

func links(good bool) control.Network {
	n := control.Network{Settled: good, Links: []control.NetLink{
		{Name: "eth9", Kind: "port"},
		{Name: "eth1", Kind: "port", Master: "bond0", Carrier: true, Mbit: 1000, Duplex: "full"},
		{Name: "eth2", Kind: "port", Master: "bond0", Carrier: good, Mbit: 1000, Duplex: "full"},
		{Name: "bond0", Kind: "bond", Carrier: true, Bond: &control.Bond{Mode: "802.3ad", Partner: "00:11:22:33:44:55"}},
		{Name: "eth0", Interface: "office", Kind: "port", Carrier: good},
	}, Gateways: []control.Gateway{{Address: "10.20.7.1", Interface: "wan", Used: good, Reason: control.Reason{Code: "gateway-down"}}}}
	if !good {
		n.Links[3].Bond.Partner = ""
		n.Problems = []control.Reason{{Code: "port-missing", Args: []string{"pci:0000:07:00.0"}}}
	}
	return n
}

// TestCheck is the page on a good and on a bad day, in both languages.
func TestCheck(t *testing.T) {
	var all string
	for _, good := range []bool{true, false} {
		dir := t.TempDir()
		state := map[bool]string{true: "up", false: "down"}[good]
		clock := control.TimeStatus{State: "synchronised", Source: "10.1.0.5"}
		s := &supervisor{config: control.ConfigText{Revision: control.Revision{Number: 3}, Text: `key = "secret:heartbeat"` + "\n" + `ca = "pki/ca.pem"`}}
		if !good {
			clock = control.TimeStatus{State: "unsynchronised", Reasons: []control.Reason{{Code: "check-not-synchronised"}}}
			s.config.Revision.BackS = 60
		}
		s.serve(t, dir)
		answers := func(v any) func(context.Context, *control.Request) (any, error) {
			return func(context.Context, *control.Request) (any, error) { return v, nil }
		}
		serve(t, &control.Server{Socket: filepath.Join(dir, "agent.sock"), Routes: []control.Route{
			{Pattern: "GET " + control.StatusPath, Handle: answers(control.Status{Paths: []control.Path{{Name: "main", Peer: "dc-edge", State: state, RTTMs: 4.2}}})},
			{Pattern: "GET " + control.NetworkPath, Handle: answers(links(good))},
		}})
		serve(t, &control.Server{Socket: filepath.Join(dir, "timed.sock"), Routes: []control.Route{{Pattern: "GET " + control.TimePath, Handle: answers(clock)}}})
		for _, lang := range []string{"en", "ja"} {
			var out strings.Builder
			c := &Console{Commands: Check(), Run: dir, Lang: lang, Out: &out, Err: &out}
			if !good {
				c.State = t.TempDir()
			}
			if code := c.Main(t.Context(), []string{"check"}); (code == exitDone) != good {
				t.Errorf("good %v: code %d", good, code)
			}
			all += out.String() + "\n"
			c.Colour = true
			plainText := out.String()
			out.Reset()
			c.Main(t.Context(), []string{"check"})
			if got := strings.NewReplacer(green, "", red, "", plain, "").Replace(out.String()); got != plainText || !strings.Contains(out.String(), green+"OK"+plain) {
				t.Errorf("colours change more than colours:\n%s", out.String())
			}
			out.Reset()
			c.Main(t.Context(), []string{"check", "--json"})
			var f []Finding
			if err := json.Unmarshal([]byte(out.String()), &f); err != nil || len(f) < 8 {
				t.Errorf("%v: %s", err, out.String())
			}
		}
	}
	golden(t, "check", all)
	for line := range strings.Lines(all) {
		if width(strings.TrimRight(line, "\n")) > screen {
			t.Errorf("too wide: %s", line)
		}
	}
}

// TestCheckNothing: nobody answers.
func TestCheckNothing(t *testing.T) {
	var out strings.Builder
	c := &Console{Commands: Check(), Run: t.TempDir(), Lang: "en", Out: &out, Err: &out}
	if code := c.Main(t.Context(), []string{"check"}); code != exitFailed || strings.Count(out.String(), "NG") != 4 {
		t.Errorf("%d\n%s", code, out.String())
	}
}

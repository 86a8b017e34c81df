package console

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"komainu/appliance/control"
	"komainu/appliance/say"
)

func TestShowQoS(t *testing.T) {
	count := func(bytes, drops, backlog uint64) control.QoSCount {
		return control.QoSCount{Bytes: bytes, Packets: bytes / 1000, Drops: drops, Backlog: backlog}
	}
	q := control.QoS{Lines: []control.QoSLine{
		{Interface: "wan", Kind: "htb", BitPerS: 100e6, Overhead: 4, Total: count(9_876_543, 12, 3000), Queues: []control.QoSQueue{
			{Class: "heartbeat", Min: 1e6, Max: 100e6, QoSCount: count(43210, 0, 0)},
			{Class: "bulk", Min: 8000, Max: 384e3, Prio: 6, QoSCount: count(4800, 12, 3000)},
			{Peer: "hinata-cho", Min: 10e6, Max: 100e6, Prio: 1, QoSCount: count(9_800_000, 0, 0)},
			{Peer: "hinata-cho", Class: "heartbeat", Min: 1e6, Max: 100e6, QoSCount: count(1000, 0, 0)},
			{Peer: "hinata-cho", Class: "business", Min: 8000, Max: 100e6, Prio: 4, QoSCount: count(9_799_000, 0, 0)},
		}},
		{Interface: "alt", Kind: "cake", BitPerS: 2e6, Total: count(77, 0, 0), Queues: []control.QoSQueue{}},
		{Interface: "lte", Kind: "htb", BitPerS: 1e6, Missing: true, Queues: []control.QoSQueue{}},
	}}
	dir := t.TempDir()
	serve(t, &control.Server{Socket: filepath.Join(dir, "agent.sock"), Routes: []control.Route{{Pattern: "GET " + control.QoSPath, Handle: func(context.Context, *control.Request) (any, error) { return q, nil }}}})
	show := func(line string) string {
		t.Helper()
		all := "> " + line + "\n"
		for _, lang := range say.Languages() {
			var o, w bytes.Buffer
			c := &Console{Commands: QoS(), Run: dir, Lang: lang, User: "sato", Role: control.Viewer, Out: &o, Err: &w}
			if code := c.Main(t.Context(), strings.Fields(line)); code != 0 || w.Len() > 0 {
				t.Errorf("%s: %d %s", line, code, &w)
			}
			for _, l := range strings.Split(o.String(), "\n") {
				if width(l) > screen {
					t.Errorf("%d columns: %s", width(l), l)
				}
			}
			all += o.String()
		}
		return all
	}
	out := show("show qos") + show("show qos wan hinata-cho")
	for _, x := range []struct{ line, want string }{{"show qos lan", "lan is no line that is shared"}, {"show qos wan mallory", "mallory has no share"}} {
		var o, w bytes.Buffer
		c := &Console{Commands: QoS(), Run: dir, Lang: "en", User: "sato", Role: control.Viewer, Out: &o, Err: &w}
		if code := c.Main(t.Context(), strings.Fields(x.line)); code == 0 || !strings.Contains(w.String(), x.want) {
			t.Errorf("%s: %d %s", x.line, code, &w)
		}
	}
	var o, w bytes.Buffer
	c := &Console{Commands: QoS(), Run: dir, Lang: "en", User: "sato", Role: control.Viewer, Out: &o, Err: &w}
	if code := c.Main(t.Context(), []string{"show", "qos", "--json"}); code != 0 || !json.Valid(o.Bytes()) {
		t.Error(code, &o)
	}
	many := q.Lines[0]
	many.Queues = nil
	for _, name := range strings.Fields("a b c d e f g h i") {
		many.Queues = append(many.Queues, control.QoSQueue{Peer: name, Min: 1e6, Max: 2e6}, control.QoSQueue{Peer: name, Class: "business", Max: 2e6})
	}
	q = control.QoS{Problems: []control.Reason{{Code: "queues-refused", Args: []string{"operation not permitted"}}}, Lines: []control.QoSLine{many}}
	out += show("show qos")
	q = control.QoS{Lines: []control.QoSLine{}}
	golden(t, "qos", out+show("show qos"))
}

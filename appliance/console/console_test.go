package console

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"komainu/appliance/control"
	"komainu/appliance/say"
	"komainu/failover/machine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func cut() control.Status {
	now := time.Date(2026, 11, 22, 13, 5, 0, 0, time.FixedZone("JST", 9*3600))
	return control.Status{
		Site: "hinata-cho", Role: "town-hall", Time: now, UptimeS: 260000,
		Verdict: control.Verdict{Place: "line", Reason: "verdict.no-answer", Args: []string{"main", "alt"}, SinceS: 200},
		Paths: []control.Path{
			{Name: "main", Peer: "dc-edge", State: "down", SinceS: 200, Loss: 1, Interface: "wan", Carrier: true},
			{Name: "alt", Peer: "dc-edge", State: "down", SinceS: 199, Loss: 1, Interface: "alt"},
		},
		Groups: []control.Group{{
			Name: "resident", Mode: "local-read", Owner: "dc", Term: 3, Since: now.Add(-199 * time.Second), Reason: "verdict.no-answer", Args: []string{"main", "alt"},
			Blocks: []control.Reason{{Code: "verdict.no-answer", Args: []string{"main", "alt"}}},
			Advice: control.Reason{Code: "advice-write", Args: []string{"resident"}}, ReadAgeS: 201, Loss: "unknown",
		}},
		Services: []control.Service{{Name: "resident-db", Group: "resident", Stable: "192.168.50.10:5432", Target: "local", Endpoint: "127.0.0.1:5501", Probe: control.Probe{Fails: 12, Error: "timeout"}}},
		Databases: []control.Database{{
			Name: "resident", Group: "resident", Role: "standby", Timeline: 1, Flush: "0/3000148", Replay: "0/3000148",
			LagBytes: 12288, LagS: 2.4, Ready: true, RestartReady: true, CopyPercent: 100, Remote: control.Remote{Role: "primary", Term: 3, Open: true, AgeS: 200, Flush: "0/3003148"},
		}},
		Alarms: []control.Alarm{
			{ID: "not-at-dc", Subject: "hinata-cho/resident", Severity: "warning", SinceS: 199},
			{ID: "path-down", Subject: "main", Severity: "warning", SinceS: 200},
			{ID: "path-down", Subject: "alt", Severity: "warning", SinceS: 199},
			{ID: "dc-unusable", Subject: "hinata-cho/resident", Severity: "critical", SinceS: 199},
		},
	}
}

// agent is a fake one that answers with st and keeps the orders.
type agent struct {
	st     control.Status
	orders []control.Order
	reply  control.Reply
}

func (a *agent) serve(t *testing.T) (run string) {
	t.Helper()
	run = t.TempDir()
	serve(t, &control.Server{Socket: filepath.Join(run, "agent.sock"), Routes: []control.Route{
		{Pattern: "GET " + control.StatusPath, Handle: func(context.Context, *control.Request) (any, error) { return a.st, nil }},
		{Pattern: "POST " + control.OrdersPath, Handle: func(_ context.Context, r *control.Request) (any, error) {
			var o control.Order
			err := r.Decode(&o)
			a.orders = append(a.orders, o)
			return a.reply, err
		}},
	}})
	return run
}

// serve runs a socket's server until the test ends.
func serve(t *testing.T, srv *control.Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ln, err := control.Listen(ctx, srv.Socket, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// run runs one command line and gives its exit code and both outputs.
func run(t *testing.T, dir, line string) (int, string) {
	t.Helper()
	var out strings.Builder
	c := &Console{
		Commands: slices.Concat(Config(func(out io.Writer, _, _ string) bool { fmt.Fprintln(out, "row 3: unknown key"); return false }), Return(), Service(), Show(), NTP(), Box(), Images()),
		Run:      dir, Lang: "en", User: "sato", Out: &out, Err: &out,
	}
	code := c.Main(t.Context(), strings.Fields(line))
	return code, out.String()
}

func TestShowStatus(t *testing.T) {
	a := &agent{st: cut()}
	dir := a.serve(t)
	for lang, want := range map[string]string{"en": statusEnglish, "ja": statusJapanese} {
		code, got := run(t, dir, "show status --lang "+lang)
		if code != 0 || got != want[1:] {
			t.Errorf("%s: code %d, got\n%s", lang, code, got)
		}
		for _, line := range strings.Split(got, "\n") {
			if width(line) > screen {
				t.Errorf("%s: %d columns: %s", lang, width(line), line)
			}
		}
	}
}

func TestShowRest(t *testing.T) {
	dir := (&agent{st: cut()}).serve(t)
	for _, what := range []string{"service", "database", "path"} {
		for _, lang := range say.Languages() {
			code, got := run(t, dir, "show "+what+" --lang="+lang)
			if code != 0 || !utf8.ValidString(got) || strings.Contains(got, "label-") {
				t.Errorf("%s %s: %d\n%s", what, lang, code, got)
			}
		}
		code, got := run(t, dir, "show "+what+" --json")
		if code != 0 || !json.Valid([]byte(got)) {
			t.Errorf("%s: %d\n%s", what, code, got)
		}
	}
}

func TestStatusStaysSmall(t *testing.T) {
	st := cut()
	for i := range 30 {
		g := st.Groups[0]
		g.Name = fmt.Sprint("group-", i)
		st.Groups = append(st.Groups, g)
		st.Alarms = append(st.Alarms, control.Alarm{ID: "slot-lost", Severity: fmt.Sprint(i), Subject: g.Name})
	}
	st.Groups[0].Mode = "dc"
	st.Groups[0].Blocks = nil
	for _, lang := range say.Languages() {
		p := &page{Status: st, lang: lang}
		p.status()
		got := p.text()
		if len(got) > statusMost || !strings.Contains(got, "show service") || !strings.Contains(got, "group-0") {
			t.Errorf("%d bytes\n%s", len(got), got)
		}
	}
}

func TestOrders(t *testing.T) {
	a := &agent{st: cut(), reply: control.Reply{OK: true, Code: "done"}}
	dir := a.serve(t)
	for line, want := range map[string]control.Order{
		"service write resident --reason fire": {Kind: machine.Write, Group: "resident", Reason: "fire"},
		"serv sw resident d":                   {Kind: machine.SwitchDC, Group: "resident"},
		"service switch resident local":        {Kind: machine.SwitchLocal, Group: "resident"},
		"se h resident":                        {Kind: machine.Hold, Group: "resident"},
		"service release resident":             {Kind: machine.Release, Group: "resident"},
		"return accept 7":                      {Kind: machine.AcceptOrphans, Group: "resident", Count: 7},
		"return accept 7 tax":                  {Kind: machine.AcceptOrphans, Group: "tax", Count: 7},
	} {
		a.orders = nil
		code, out := run(t, dir, line)
		if code != 0 || len(a.orders) != 1 {
			t.Fatalf("%s: %d, %s", line, code, out)
		}
		got := a.orders[0]
		want.ID, want.By = got.ID, "sato"
		if got != want || len(got.ID) < 20 {
			t.Errorf("%s: got %+v", line, got)
		}
		if !strings.HasSuffix(out, ": done\n") {
			t.Errorf("%s: %q", line, out)
		}
	}
	a.reply = control.Reply{Code: "unit-stopped"}
	if code, out := run(t, dir, "service hold resident"); code != 1 || out != "resident: it doesn't run\n" {
		t.Errorf("refused: %d %q", code, out)
	}
	if code, out := run(t, dir, "service hold resident --json"); code != 1 || !strings.Contains(out, `"ok":false`) {
		t.Errorf("refused: %d %q", code, out)
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct {
		line string
		code int
		has  string
	}{
		{"", 0, "show status"},
		{"?", 0, "service write GROUP [--reason TEXT]"},
		{"sh ?", 0, "show path"},
		{"service switch ?", 0, "GROUP local|dc"},
		{"s st", 2, "s may mean: service, show"},
		{"show weather", 2, "database, path, service, status, ntp"},
		{"service switch resident", 2, "GROUP local|dc"},
		{"service switch resident moon", 2, "local, dc"},
		{"service hold a b", 2, "GROUP"},
		{"service hold a --fast yes", 2, "--fast"},
		{"show status --lang", 2, "--lang"},
		{"return accept-orphans many", 2, "N"},
		{"config check f.toml", 1, "row 3"},
		{"show status", 1, "is it running?"},
		{"show status --lang ja", 1, "稼働を確認"},
	} {
		code, out := run(t, "/nonexistent", c.line)
		if code != c.code || !strings.Contains(out, c.has) {
			t.Errorf("%q: %d %s", c.line, code, out)
		}
	}
}

// TestCodes: every code that this package says has a row.
func TestCodes(t *testing.T) {
	for _, c := range slices.Concat(Config(nil), Return(), Service(), Show(), NTP()) {
		if !say.Known(c.Help) {
			t.Errorf("no row for %s", c.Help)
		}
	}
	for _, mode := range []string{"dc", "local-read", "local-write", "returning"} {
		if !say.Known("mode-" + mode) {
			t.Errorf("no row for mode-%s", mode)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{
		{"one two three", 7, "one two|three"},
		{"日向町役場、本庁。", 8, "日向町役|場、本|庁。"},
		{"日向町 a", 80, "日向町 a"},
		{"unbreakable", 4, "unbreakable"},
		{"", 10, ""},
	} {
		if got := strings.Join(wrap(c.in, c.n), "|"); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
	if span("en", 3725) != "1 h 2 min" || span("ja", 90) != "1分30秒" || span("en", 0.25) != "250 ms" || size(12288) != "12 kB" || size(5) != "5 B" {
		t.Error(span("en", 3725), span("ja", 90), span("en", 0.25), size(12288))
	}
}

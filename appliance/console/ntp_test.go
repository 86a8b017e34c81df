package console

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"komainu/appliance/control"
	"komainu/appliance/say"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got); if it is right, go test -update:\n%s", path, diff)
	}
}

var noon = time.Date(2026, 11, 22, 16, 10, 0, 0, time.FixedZone("JST", 9*3600))

// good is a clock that follows one of three sources.
func good() control.TimeStatus {
	source := func(name, addr, state string, upstream int, offset float64) control.TimeSource {
		return control.TimeSource{Name: name, Address: addr, Upstream: upstream, State: state, Reach: 0o377, PollS: 64, LastAgeS: 12, OffsetS: offset, JitterS: 8.1e-6,
			DelayS: 1.24e-3, RootDistanceS: 3.1e-3, Stratum: 2, RefID: "GPS", Auth: "none", Queries: 900, Replies: 899}
	}
	st := control.TimeStatus{
		Site: "hinata-cho", Time: noon, UptimeS: 260000, State: "synchronised", SinceS: 259990, Stratum: 3, RefID: "10.1.0.5", Source: "10.1.0.5",
		OffsetS: 12.3e-6, FrequencyPPM: -12.3456, FrequencyErrPPM: 0.0041, RootDelayS: 1.3e-3, RootDispersionS: 0.6e-3, BoundS: 1.25e-3, CorrectedAgoS: 12, MinSources: 2,
		LeapTable: control.TimeLeap{File: "/usr/share/zoneinfo/leap-seconds.list", TAI: 37, Expires: time.Date(2026, 12, 28, 0, 0, 0, 0, time.UTC)},
		Sources: []control.TimeSource{source("10.1.0.5", "10.1.0.5:123", "followed", 0, 12e-6), source("10.1.0.6", "10.1.0.6:123", "combined", 1, -31e-6),
			source("ntp.pref.example.jp", "[2001:db8:9::123]:123", "usable", 2, 1.2e-3)},
		Server: control.TimeServer{Listen: []string{"192.168.50.1:123", "[2001:db8:7:50::1]:123"}, Requests: map[string]uint64{"plain": 120400, "nts": 12, "key": 0},
			Drops: map[string]uint64{"denied": 7, "rate": 31}, Stamps: "kernel", Clients: 412},
		NTS: &control.TimeNTSServer{Listen: []string{"192.168.50.1:4460"}, KE: map[string]uint64{"done": 40, "refused": 3}, KeyAgeS: 7300, Keys: 3,
			Certificate: noon.Add(40 * 24 * time.Hour)},
		Alarms: []control.Alarm{},
	}
	st.Sources[2].Auth, st.Sources[2].AuthOK, st.Sources[2].NTSCookies = "nts", true, 8
	st.Explain()
	return st
}

// silenced is st after its sources fell silent.
func silenced(st control.TimeStatus, state string, since float64) control.TimeStatus {
	for i := range st.Sources {
		s := &st.Sources[i]
		s.State, s.Reach, s.LastAgeS, s.Reason = "silent", 0, since+500, control.Reason{Code: "ntp-timeout"}
	}
	st.State, st.SinceS, st.Source = state, since, ""
	st.Explain()
	return st
}

func clocks() map[string]control.TimeStatus {
	held := silenced(good(), "holdover", 10800)
	held.BoundS = 4.1e-3
	held.Holdover = &control.Holdover{ForS: 10800, BoundS: 4.1e-3, LimitS: 50e-3, MaxS: 72 * 3600, LimitAt: noon.Add(3*time.Hour + 30*time.Minute)}
	held.Alarms = []control.Alarm{{ID: "time-holdover", Severity: "warning", SinceS: 10800}, {ID: "time-source-silent", Subject: "10.1.0.5", Severity: "warning", SinceS: 10900},
		{ID: "time-source-silent", Subject: "10.1.0.6", Severity: "warning", SinceS: 10900}}

	lost := silenced(good(), "unsynchronised", 300)
	lost.Stratum, lost.RefID, lost.BoundS, lost.Leap, lost.Virtual = 16, "", -1, 3, "KVM"
	for i, at := range []float64{-0.21, 3.7} {
		lost.Sources[i].State, lost.Sources[i].Reason, lost.Sources[i].OffsetS, lost.Sources[i].Reach = "falseticker", control.Reason{}, at, 0o377
	}
	lost.Sources = append(lost.Sources, control.TimeSource{Name: "ntp2.pref.example.jp", Upstream: 3, State: "unresolved", Reason: control.Reason{Code: "ntp-unresolved"}, LastAgeS: -1, Auth: "none"},
		control.TimeSource{Name: "10.1.0.9", Address: "10.1.0.9:123", Upstream: 4, State: "unusable", Reason: control.Reason{Code: "ntp-kiss", Args: []string{"DENY"}}, LastAgeS: -1, Auth: "key"})
	lost.Explain()
	lost.Alarms = []control.Alarm{{ID: "time-unsynchronised", Severity: "critical", SinceS: 300}, {ID: "time-no-majority", Severity: "critical", SinceS: 310}}

	panics := good()
	panics.State, panics.SinceS, panics.OffsetS, panics.BoundS, panics.Stratum, panics.Leap = "panic", 90, -61.25, 61.26, 16, 3
	panics.Explain()

	alone := control.TimeStatus{Site: "hinata-cho", Time: noon, UptimeS: 60, State: "orphan", SinceS: 30, Stratum: 13, RefID: "127.127.1.1", BoundS: -1, CorrectedAgoS: -1, NoClock: true,
		LeapTable: control.TimeLeap{Pending: 1, At: time.Date(2026, 12, 31, 23, 59, 60, 0, time.UTC)}, Sources: []control.TimeSource{}, Alarms: []control.Alarm{}}
	alone.Explain()
	return map[string]control.TimeStatus{"synchronised": good(), "holdover": held, "unsynchronised": lost, "panic": panics, "orphan": alone}
}

// timed is a fake time daemon that answers with st.
type timed struct {
	st      control.TimeStatus
	clients control.TimeClients
	steps   []control.TimeStep
	reply   control.Reply
}

func (d *timed) serve(t *testing.T, run string) {
	t.Helper()
	serve(t, &control.Server{Socket: filepath.Join(run, "timed.sock"), Routes: []control.Route{
		{Pattern: "GET " + control.TimePath, Handle: func(context.Context, *control.Request) (any, error) { return d.st, nil }},
		{Pattern: "GET " + control.TimeClientsPath, Handle: func(_ context.Context, r *control.Request) (any, error) {
			if r.Query("n") != "20" {
				return nil, &control.Error{Code: "bad-request"}
			}
			return d.clients, nil
		}},
		{Pattern: "POST " + control.TimeStepPath, Handle: func(_ context.Context, r *control.Request) (any, error) {
			var o control.TimeStep
			err := r.Decode(&o)
			d.steps = append(d.steps, o)
			return d.reply, err
		}},
	}})
}

// both runs a line in both languages and gives the outputs, which fit a
// terminal and have words for every code.
func both(t *testing.T, dir, line string) string {
	t.Helper()
	var all string
	for _, lang := range say.Languages() {
		code, got := run(t, dir, line+" --lang "+lang)
		if code != 0 {
			t.Fatalf("%s: code %d: %s", line, code, got)
		}
		for _, l := range strings.Split(got, "\n") {
			if width(l) > screen {
				t.Errorf("%s: %d columns: %s", line, width(l), l)
			}
		}
		all += got + "\n"
	}
	return all
}

func TestShowNTP(t *testing.T) {
	dir := t.TempDir()
	d := &timed{clients: control.TimeClients{Time: noon, Total: 412, Clients: []control.TimeClient{
		{Address: "192.168.50.77", Requests: 48211, Drops: 31, LastAgeS: 0.4, IntervalS: 0.5, Interleaved: true, Auth: "nts"},
		{Address: "2001:db8:7:50:aaaa:bbbb:cccc:dddd", Requests: 3, LastAgeS: 86500, IntervalS: 1024, Auth: "none"}}}}
	d.serve(t, dir)
	for name, st := range clocks() {
		d.st = st
		got := both(t, dir, "show ntp")
		if len(got) > 2*statusMost {
			t.Errorf("%s: %d bytes", name, len(got))
		}
		golden(t, "ntp-"+name, got)
	}
	d.st = clocks()["unsynchronised"]
	golden(t, "ntp-sources", both(t, dir, "show ntp sources"))
	golden(t, "ntp-clients", both(t, dir, "show ntp clients"))
	d.st = good()
	golden(t, "ntp-nts", both(t, dir, "show ntp nts"))
	for _, what := range []string{"", "sources", "clients", "nts"} {
		if code, got := run(t, dir, "show ntp "+what+" --json"); code != 0 || !json.Valid([]byte(got)) {
			t.Errorf("%s: %d\n%s", what, code, got)
		}
	}
	d.st = control.TimeStatus{State: "starting"}
	d.clients = control.TimeClients{}
	golden(t, "ntp-empty", both(t, dir, "show ntp sources")+both(t, dir, "show ntp clients")+both(t, dir, "show ntp nts"))
}

// TestManySources: whatever is configured, two seconds at 9600 baud.
func TestManySources(t *testing.T) {
	st := clocks()["unsynchronised"]
	for range 6 {
		st.Sources = append(st.Sources, st.Sources...)
	}
	st.Explain()
	for _, lang := range say.Languages() {
		p := &page{Status: control.Status{Time: noon}, lang: lang}
		p.timeStatus(&st)
		if got := p.text(); len(got) > statusMost || !strings.Contains(got, "show ntp sources") {
			t.Errorf("%d bytes\n%s", len(got), got)
		}
	}
}

func TestClockInStatus(t *testing.T) {
	st := cut()
	a := &agent{}
	dir := a.serve(t)
	var all string
	for _, name := range []string{"synchronised", "holdover", "unsynchronised", "panic", "orphan", "silent"} {
		st.Clock = (*control.TimeStatus)(nil).Clock()
		if c, ok := clocks()[name]; ok {
			st.Clock = c.Clock()
		}
		a.st = st
		for _, lang := range say.Languages() {
			p := &page{Status: a.st, lang: lang}
			p.add(p.say("label-clock"), p.clockLine())
			all += p.text()
		}
		if got := both(t, dir, "show status"); !strings.Contains(got, "clock") || len(got) > 2*statusMost {
			t.Errorf("%s: %d bytes\n%s", name, len(got), got)
		}
	}
	golden(t, "status-clock", all)
}

func TestWithoutTimed(t *testing.T) {
	a := &agent{}
	dir := a.serve(t)
	for _, line := range []string{"show ntp", "show ntp clients", "ntp step --reason test"} {
		a.st.Clock = nil
		if code, got := run(t, dir, line); code != 1 || !strings.Contains(got, "add [ntp]") {
			t.Errorf("%s without [ntp]: %d %s", line, code, got)
		}
		a.st.Clock = &control.Clock{}
		if code, got := run(t, dir, line); code != 1 || !strings.Contains(got, "is it running") {
			t.Errorf("%s without timed: %d %s", line, code, got)
		}
		if code, got := run(t, "/nonexistent", line+" --lang ja"); code != 1 || !strings.Contains(got, "時刻デーモンが応答しません") {
			t.Errorf("%s without anybody: %d %s", line, code, got)
		}
	}
}

func TestStep(t *testing.T) {
	dir := t.TempDir()
	d := &timed{reply: control.Reply{OK: true, Code: "ntp-stepped"}}
	d.serve(t, dir)
	if code, got := run(t, dir, "ntp step"); code == 0 || !strings.Contains(got, "--reason") || len(d.steps) != 0 {
		t.Errorf("without a reason: %d %s", code, got)
	}
	if code, got := run(t, dir, "ntp step --reason drill"); code != 0 || got != "done: the clock agrees with its sources\n" {
		t.Errorf("%d %s", code, got)
	}
	if len(d.steps) != 1 || d.steps[0].Reason != "drill" || d.steps[0].By != "sato" || len(d.steps[0].ID) < 20 {
		t.Errorf("%+v", d.steps)
	}
	d.reply = control.Reply{Code: "time-no-majority"}
	if code, got := run(t, dir, "ntp step --reason drill --lang ja"); code != 1 || !strings.Contains(got, "多数決") {
		t.Errorf("%d %s", code, got)
	}
	if code, got := run(t, dir, "ntp step --reason drill --json"); code != 1 || !strings.Contains(got, `"ok":false`) {
		t.Errorf("%d %s", code, got)
	}
}

func TestShowQuery(t *testing.T) {
	var b strings.Builder
	for _, lang := range say.Languages() {
		for _, q := range []control.TimeQuery{
			{Host: "ntp.pref.example.jp", Address: "[2001:db8:9::123]:123", OffsetS: -3.1e-4, DelayS: 2.4e-3, Stratum: 2, RefID: "10.0.0.1", RootDistanceS: 4e-3, Auth: "nts", AuthOK: true, Queries: 4, Replies: 3},
			{Host: "10.1.0.5", Address: "10.1.0.5:123", Leap: 3, Stratum: 16, RootDistanceS: -1, Auth: "key", Queries: 4, Replies: 4},
			{Host: "nowhere", Failed: control.Reason{Code: "ntp-unresolved", Args: []string{"no such host"}}},
		} {
			if err := ShowQuery(&b, lang, q); err != nil {
				t.Fatal(err)
			}
		}
	}
	golden(t, "ntp-query", b.String())
}

func TestAmount(t *testing.T) {
	p := &page{lang: "en"}
	for s, want := range map[float64]string{0: "0 ns", 3e-9: "3 ns", 1.25e-6: "1.2 us", 9.96e-6: "10 us", 999.7e-6: "1.0 ms", 0.05: "50 ms", -2: "-2.0 s", 59: "59 s", -61.25: "-1 min 1 s"} {
		if got := p.amount(s); got != want {
			t.Errorf("%g: %q, want %q", s, got, want)
		}
	}
}

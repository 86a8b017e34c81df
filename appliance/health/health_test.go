package health

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"komainu/appliance/control"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func status() control.Status {
	now := time.Date(2026, 11, 22, 4, 5, 0, 0, time.UTC)
	return control.Status{
		Site: "hinata-cho", Role: "town-hall", Time: now, UptimeS: 60,
		Verdict:   control.Verdict{Place: "line", SinceS: 3},
		Paths:     []control.Path{{Name: "main", Peer: "dc-edge", State: "down", Interface: "wan", RTTMs: 12, JitterMs: 1.5, Loss: 0.25, Width: &control.Width{Out: 1420, In: 990, Used: 990, BitPerS: 48e6}}, {Name: "alt", Peer: "dc-edge", State: "up"}},
		Groups:    []control.Group{{Name: "resident", Mode: "local-read", Since: now.Add(-5 * time.Second), Term: 3, Switches: 2}},
		Services:  []control.Service{{Name: "resident-db", Group: "resident", Target: "local"}},
		Databases: []control.Database{{Name: "resident", Group: "resident", Role: "standby", LagBytes: 12288, LagS: 2.5, Ready: true, Orphans: -1}},
		Alarms:    []control.Alarm{{ID: "place-line", Subject: "resident", Severity: "critical"}, {ID: "standby-paused", Subject: "tax", Severity: "warning"}},
		Box: &control.Box{Version: "2026.11.22.1849", UptimeS: 40, Memory: 1 << 30, Data: "repaired", Last: control.Reset{Kind: "panic"}, Trial: &control.Trial{LeftS: 221}, Faults: []control.Reason{{Code: "efi-damaged"}},
			Images: []control.Image{{Version: "2026.12.1.800", State: "failed", Reason: control.Reason{Code: "image-failed-panic"}}, {Version: "2026.11.22.1849", State: "trial", Running: true}}},
		LastReturn:     &control.Return{Group: "resident", ParkedMs: 300},
		LastWriteOrder: &control.WriteOrder{Group: "resident", TotalMs: 120},
	}
}

// ask serves snapshot and returns a function that asks it.
func ask(t *testing.T, snapshot Snapshot, more ...prometheus.Collector) func(path string) (int, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, snapshot, more...) }()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return func(path string) (int, string) {
		t.Helper()
		resp, err := c.Get("http://" + ln.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
}

func TestHTTP(t *testing.T) {
	st, fault := status(), error(nil)
	get := ask(t, func(context.Context) (control.Status, error) { return st, fault })
	if code, body := get("/healthz"); code != 503 || body != "resident: the line\n" {
		t.Errorf("critical alarm: %d %q", code, body)
	}
	st.Alarms = st.Alarms[1:]
	if code, body := get("/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("warning only: %d %q", code, body)
	}
	var got control.Status
	code, body := get("/v1/status")
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 || got.Groups[0].Mode != "local-read" || got.Box.Images[0].Reason.Code != "image-failed-panic" {
		t.Errorf("status: %d %v %s", code, err, body)
	}
	fault = errors.New("no answer within 3 s")
	if code, body := get("/healthz"); code != 503 || !strings.Contains(body, "no answer") {
		t.Errorf("agent hangs: %d %q", code, body)
	}
	if code, body := get("/v1/status"); code != 503 || !strings.Contains(body, "agent-unreachable") {
		t.Errorf("agent hangs: %d %q", code, body)
	}
	if code, body := get("/metrics"); code != 200 || !strings.Contains(body, `komainu_agent_answers_state{site="hinata-cho"} 0`) {
		t.Errorf("agent hangs: %d %q", code, body)
	}
	if code, _ := get("/other"); code != 404 {
		t.Errorf("unknown path: %d", code)
	}
}

func TestMetrics(t *testing.T) {
	code, body := ask(t, func(context.Context) (control.Status, error) { return status(), nil })("/metrics")
	if code != 200 {
		t.Fatal(code, body)
	}
	for _, want := range []string{
		`komainu_agent_answers_state{site="hinata-cho"} 1`,
		`komainu_verdict_place_state{site="hinata-cho"} 1`,
		`komainu_path_rtt_seconds{interface="wan",path="main",peer="dc-edge",site="hinata-cho"} 0.012`,
		`komainu_path_jitter_seconds{interface="wan",path="main",peer="dc-edge",site="hinata-cho"} 0.0015`,
		`komainu_path_mtu_bytes{interface="wan",path="main",peer="dc-edge",site="hinata-cho"} 990`,
		`komainu_path_mtu_out_bytes{interface="wan",path="main",peer="dc-edge",site="hinata-cho"} 1420`,
		`komainu_path_mtu_in_bytes{interface="wan",path="main",peer="dc-edge",site="hinata-cho"} 990`,
		`komainu_path_capacity_bytes{interface="wan",path="main",peer="dc-edge",site="hinata-cho"} 6e+06`,
		`komainu_path_session_state{interface="",path="alt",peer="dc-edge",site="hinata-cho"} 3`,
		`komainu_group_mode_state{group="resident",site="hinata-cho"} 1`,
		`komainu_group_mode_seconds{group="resident",site="hinata-cho"} 5`,
		`komainu_group_switches_total{group="resident",site="hinata-cho"} 2`,
		`komainu_service_target_state{group="resident",service="resident-db",site="hinata-cho"} 2`,
		`komainu_database_lag_bytes{database="resident",group="resident",site="hinata-cho"} 12288`,
		`komainu_database_lag_seconds{database="resident",group="resident",site="hinata-cho"} 2.5`,
		`komainu_database_orphans_number{database="resident",group="resident",site="hinata-cho"} -1`,
		`komainu_return_parked_seconds{group="resident",site="hinata-cho"} 0.3`,
		`komainu_box_uptime_seconds{site="hinata-cho"} 40`,
		`komainu_box_memory_bytes{site="hinata-cho"} 1.073741824e+09`,
		`komainu_box_data_state{site="hinata-cho"} 2`,
		`komainu_box_fault_number{site="hinata-cho"} 1`,
		`komainu_box_last_state{site="hinata-cho"} 4`,
		`komainu_box_image_state{site="hinata-cho"} 1`,
		`komainu_box_failed_number{site="hinata-cho"} 1`,
		`komainu_box_trial_left_seconds{site="hinata-cho"} 221`,
		`komainu_write_order_duration_seconds{group="resident",site="hinata-cho"} 0.12`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("missing: %s", want)
		}
	}
	named(t, body)
}

// named demands that names and labels keep to the contract.
func named(t *testing.T, body string) {
	t.Helper()
	line := regexp.MustCompile(`^komainu_[a-z]+_[a-z_]+_(seconds|bytes|ratio|state|number|total)\{((site|group|service|path|database|interface|peer|class)="[^"]*",?)+\} [-0-9.e+]+$`)
	for _, l := range strings.Split(strings.TrimSpace(body), "\n") {
		if !strings.HasPrefix(l, "#") && !line.MatchString(l) {
			t.Errorf("against the contract: %s", l)
		}
	}
}

func TestNotify(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "notify")
	pc, err := net.ListenPacket("unixgram", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	heard := func() string {
		t.Helper()
		b := make([]byte, 4096)
		if err := pc.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		n, _, err := pc.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	t.Setenv("NOTIFY_SOCKET", sock)
	t.Setenv("WATCHDOG_USEC", "30000")
	t.Setenv("WATCHDOG_PID", "")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Notify(ctx, func(context.Context) (control.Status, error) { return status(), nil })
	}()
	if got := heard(); got != "READY=1\nSTATUS=resident local-read term 3; resident standby; 2 alarms; resident: the line\nWATCHDOG=1" {
		t.Errorf("first: %q", got)
	}
	if got := heard(); got != "WATCHDOG=1" {
		t.Errorf("then: %q", got)
	}
	cancel()
	for heard() != "STOPPING=1" {
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Notify(t.Context(), func(context.Context) (control.Status, error) { return status(), nil }); err != nil {
		t.Error(err)
	}
}

// TestHungAgent: the watchdog isn't fed and systemd isn't told ready.
func TestHungAgent(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "notify")
	pc, err := net.ListenPacket("unixgram", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	t.Setenv("NOTIFY_SOCKET", sock)
	t.Setenv("WATCHDOG_USEC", "3000")
	t.Setenv("WATCHDOG_PID", "")
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	err = Notify(ctx, func(context.Context) (control.Status, error) {
		if asked++; asked == 3 {
			cancel()
		}
		return control.Status{}, errors.New("hangs")
	})
	if err != nil {
		t.Error(err)
	}
	b := make([]byte, 100)
	n, _, err := pc.ReadFrom(b)
	if err != nil || string(b[:n]) != "STOPPING=1" {
		t.Errorf("heard %q, %v", b[:n], err)
	}
}

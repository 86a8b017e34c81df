package update

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"komainu/appliance/control"
	"komainu/drivers/units"
	"komainu/images/bundle"
	"komainu/images/layout"
)

// supervisor runs the job as PID 1 does, but in this process.
type supervisor struct {
	socket string
	ended  chan struct{}
	dies   bool // before it says a word
}

func supervise(t *testing.T, dies bool) *supervisor {
	t.Helper()
	s := &supervisor{socket: filepath.Join(t.TempDir(), "pid1.sock"), ended: make(chan struct{}), dies: dies}
	status := units.Status{Name: jobUnit}
	srv := &control.Server{Socket: s.socket, Routes: []control.Route{
		{Pattern: "POST /v1/units/{name}/start", Handle: func(_ context.Context, r *control.Request) (any, error) {
			var u units.Unit
			if err := r.Decode(&u); err != nil {
				return nil, err
			}
			go func() {
				defer close(s.ended)
				if s.dies {
					return
				}
				if err := JobMain(context.WithoutCancel(t.Context()), u.Argv[2:], nil); err != nil {
					t.Error(err)
				}
			}()
			return status, nil
		}},
		{Pattern: "GET /v1/units/{name}/wait", Handle: func(ctx context.Context, _ *control.Request) (any, error) {
			select {
			case <-s.ended:
			case <-ctx.Done():
			}
			return status, nil
		}},
		{Pattern: "POST /v1/units/{name}/stop", Handle: func(context.Context, *control.Request) (any, error) { <-s.ended; return status, nil }},
	}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ln, err := control.Listen(ctx, s.socket, 0o600)
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
	return s
}

// TestOrderInstall goes the whole way: order, job, record, restart.
func TestOrderInstall(t *testing.T) {
	b := newBench(t, "komainu-1.efi")
	source := filepath.Join(t.TempDir(), "x.kmb")
	m := b.manifest("2")
	m.Floor = "1.5"
	write(t, source, b.pack(t, m, "good"))
	if err := (State{Failed: map[layout.Version]Failed{"2": {Reason: control.Reason{Code: "image-failed-panic"}}}}).write(b.state); err != nil {
		t.Fatal(err)
	}
	order := func(dies bool, o string) string {
		t.Helper()
		box := b.open(t, "1", "komainu-1.efi", "order")
		box.c.Units = units.Client{Socket: supervise(t, dies).socket}
		return ordered(t, box, o)
	}
	if got := order(true, `{"action":"install","source":"`+source+`","by":"sato"}`); got != "image-job-failed" {
		t.Error(got)
	}
	if got := order(false, `{"action":"install","source":"`+source+`","by":"sato"}`); got != "image-failed-before" || b.images(t) != "1" {
		t.Errorf("%s, %s", got, b.images(t))
	}
	got := order(false, `{"action":"install","source":"`+source+`","again":true,"restart":true,"by":"sato"}`)
	s, err := readState(b.state)
	if got != "image-step-installed" || b.images(t) != "2+3 1" || err != nil || len(s.Failed) > 0 || s.NextFloor != "1.5" || s.Floor != "" {
		t.Errorf("%s, %s, %+v, %v", got, b.images(t), s, err)
	}
	if len(b.restarts) != 1 || b.restarts[0] != "order image-restart" {
		t.Errorf("%q", b.restarts)
	}
}

func TestSite(t *testing.T) {
	b := newBench(t)
	s := Site{Root: b.root, Run: b.run, Keys: b.keys, Config: filepath.Join(b.state, "config", "komainu.toml"), State: b.state,
		Check: func(toml []byte, secrets []string) (string, error) {
			name, ok := strings.CutPrefix(string(toml), "site = ")
			if !ok || name == "broken" || len(secrets) != 1 || secrets[0] != "sato" {
				return "", errors.New("row 1")
			}
			return name, nil
		}}
	stick := filepath.Join(b.root, bundle.SiteName)
	pack := func(site string) []byte {
		return b.pack(t, bundle.Manifest{Kind: bundle.KindSite, Site: site, Unix: 1}, "good")
	}
	code := func() string {
		t.Helper()
		got, err := s.First()
		var e *control.Error
		if errors.As(err, &e) {
			if _, err := os.Stat(s.Config); err == nil {
				t.Error("a configuration after an error")
			}
			return e.Code
		}
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	good := pack("hinata-cho")
	for _, c := range []struct {
		data []byte
		want string
	}{
		{good[:len(good)-3], "image-truncated"},
		{append(bytes.Clone(good[:len(good)-1]), 'x'), "image-altered"},
		{append(bytes.Clone(good), 'x'), "image-altered"},
		{pack("broken"), "site-config"},
		{b.pack(t, b.manifest("2"), "good"), "image-kind"},
		{good, "hinata-cho"},
		{pack("elsewhere"), ""}, // it has one
	} {
		write(t, stick, c.data)
		if got := code(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	for path, want := range map[string]string{s.Config: "site = hinata-cho", filepath.Join(b.state, "secrets", "sato"): "hunter2\n"} {
		got, err := os.ReadFile(path)
		st, err2 := os.Stat(path)
		if err != nil || err2 != nil || string(got) != want || st.Mode() != 0o600 {
			t.Errorf("%s: %q, %v", path, got, errors.Join(err, err2))
		}
	}
}

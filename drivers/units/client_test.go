package units

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// transcript serves the given answers by "METHOD path body" and fails on others.
func transcript(t *testing.T, answers map[string]string) Client {
	t.Helper()
	sock := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		q := strings.TrimSpace(r.Method + " " + r.URL.Path + " " + string(b))
		a, ok := answers[q]
		if !ok {
			t.Errorf("unexpected request %s", q)
		}
		if strings.Contains(a, `"code"`) {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = io.WriteString(w, a)
	})}
	done := make(chan error)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return Client{sock}
}

func TestClient(t *testing.T) {
	c := transcript(t, map[string]string{
		`POST /v1/units/pg/start {"name":"pg","argv":["/bin/true"],"restart":false,"stop_signal":2}`: `{"name":"pg","running":true,"pid":7}`,
		`POST /v1/units/pg/signal {"signal":1}`:                                                      `{"name":"pg"}`,
		`POST /v1/units/pg/stop`:                                                                     `{"name":"pg","exit":"exit 0"}`,
		`GET /v1/units/pg/wait`:                                                                      `{"name":"pg","exit":"exit 1"}`,
		`GET /v1/units/none`:                                                                         `{"code":"unit-unknown","where":"none"}`,
	})
	ctx := t.Context()
	if st, err := c.Start(ctx, Unit{Name: "pg", Argv: []string{"/bin/true"}, StopSignal: syscall.SIGINT}); err != nil || st.PID != 7 {
		t.Errorf("start: %v, %v", st, err)
	}
	if err := c.Signal(ctx, "pg", syscall.SIGHUP); err != nil {
		t.Error(err)
	}
	if st, err := c.Stop(ctx, "pg"); err != nil || st.Exit != "exit 0" {
		t.Errorf("stop: %v, %v", st, err)
	}
	if st, err := c.Wait(ctx, "pg"); err != nil || st.Exit != "exit 1" {
		t.Errorf("wait: %v, %v", st, err)
	}
	if _, err := c.Status(ctx, "none"); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown unit: %v", err)
	}
}

func TestWatch(t *testing.T) {
	c := transcript(t, map[string]string{"GET /v1/watch": "{\"name\":\"a\"}\n{\"name\":\"b\"}\n"})
	var got []string
	err := c.Watch(t.Context(), func(s Status) { got = append(got, s.Name) })
	if err == nil || strings.Join(got, " ") != "a b" {
		t.Errorf("got %v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.Watch(ctx, func(Status) { cancel() }); err != nil {
		t.Errorf("cancelled: %v", err)
	}
}

func TestNoSupervisor(t *testing.T) {
	_, err := Client{filepath.Join(t.TempDir(), "s")}.Status(t.Context(), "pg")
	if !errors.Is(err, syscall.ENOENT) {
		t.Errorf("got %v", err)
	}
}

package control

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"komainu/failover/machine"
)

func TestMain(m *testing.M) {
	if s := os.Getenv("CONTROL_ASK"); s != "" {
		var out string
		if err := (Client{s}).Get(context.Background(), "/v1/"+os.Getenv("CONTROL_PATH"), &out); err != nil {
			out = err.Error()
		}
		os.Stdout.WriteString(out)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// serve runs s until the test ends; the socket accepts when it returns.
func serve(t *testing.T, s *Server) Client {
	t.Helper()
	if s.Socket == "" {
		s.Socket = filepath.Join(t.TempDir(), "agent.sock")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ln, err := Listen(ctx, s.Socket, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(s.Socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
	return Client{s.Socket}
}

func code(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return "no *Error"
}

func TestRequests(t *testing.T) {
	c := serve(t, &Server{Routes: []Route{
		{Pattern: "GET /v1/who/{name}", Handle: func(_ context.Context, r *Request) (any, error) {
			return r.Value("name") + r.Query("q") + r.Peer.Role.String() + strconv.Itoa(r.Peer.PID), nil
		}},
		{Pattern: "POST /v1/orders", Handle: func(_ context.Context, r *Request) (any, error) {
			var o Order
			if err := r.Decode(&o); err != nil {
				return nil, err
			}
			if o.Kind != machine.Hold {
				return nil, &Error{Code: "unit-stopped", Where: o.Group}
			}
			return Reply{OK: true, Code: "done"}, nil
		}},
		{Pattern: "GET /v1/broken", Handle: func(context.Context, *Request) (any, error) { return nil, errors.New("disk on fire") }},
		{Pattern: "GET /v1/count", Stream: func(_ context.Context, r *Request, send func(any) error) error {
			return errors.Join(send(1), send(2), &Error{Code: "done"})
		}},
	}})
	ctx := t.Context()
	var s string
	if err := c.Get(ctx, "/v1/who/sato?q=-", &s); err != nil || s != "sato-admin"+strconv.Itoa(os.Getpid()) {
		t.Errorf("got %q, %v", s, err)
	}
	var r Reply
	if err := c.Post(ctx, "/v1/orders", Order{Kind: machine.Hold, Group: "resident"}, &r); err != nil || r.Code != "done" {
		t.Errorf("got %v, %v", r, err)
	}
	for want, err := range map[string]error{
		"unit-stopped":      c.Post(ctx, "/v1/orders", Order{Kind: machine.SwitchDC, Group: "resident"}, nil),
		"bad-request":       c.Post(ctx, "/v1/orders", map[string]any{"knid": "hold"}, nil),
		"not-found":         c.Get(ctx, "/v1/none", nil),
		"internal":          c.Get(ctx, "/v1/broken", nil),
		"agent-unreachable": Client{"/nonexistent"}.Get(ctx, "/v1/status", nil),
	} {
		if code(err) != want {
			t.Errorf("want %s, got %v", want, err)
		}
	}
	var got string
	err := c.Stream(ctx, "/v1/count", nil, func(m json.RawMessage) error { got += string(m); return nil })
	if got != "12" || code(err) != "done" {
		t.Errorf("stream: %q, %v", got, err)
	}
}

func TestStopEndsStreams(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "s")
	ctx, stop := context.WithCancel(t.Context())
	ln, err := Listen(ctx, sock, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Socket: sock, Routes: []Route{{Pattern: "GET /v1/watch", Stream: func(ctx context.Context, _ *Request, send func(any) error) error {
		if err := send("on"); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}}}}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	if err := (Client{sock}).Stream(t.Context(), "/v1/watch", nil, func(json.RawMessage) error { stop(); return nil }); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRoles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to ask as another user")
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("needs a user nobody: ", err)
	}
	g, err := user.LookupGroupId(u.Gid)
	if err != nil {
		t.Fatal(err)
	}
	routes := []Route{
		{Pattern: "GET /v1/see", Role: Viewer, Handle: func(context.Context, *Request) (any, error) { return "seen", nil }},
		{Pattern: "GET /v1/do", Role: Operator, Handle: func(context.Context, *Request) (any, error) { return "did", nil }},
	}
	// A folder that another user can enter; t.TempDir is root's alone.
	dir, err := os.MkdirTemp("/tmp", "control-roles-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "ask")
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bin, b, 0o755); err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	ask := func(c Client, path string) string {
		t.Helper()
		cmd := exec.Command(bin)
		cmd.Dir = dir
		cmd.Env = []string{"CONTROL_ASK=" + c.Socket, "CONTROL_PATH=" + path}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	c := serve(t, &Server{Socket: filepath.Join(dir, "a.sock"), Groups: map[string]Role{g.Name: Viewer}, Routes: routes})
	if got := ask(c, "see"); got != "seen" {
		t.Errorf("viewer sees: %s", got)
	}
	if got := ask(c, "do"); !strings.Contains(got, "role operator") {
		t.Errorf("viewer does: %s", got)
	}
	c = serve(t, &Server{Socket: filepath.Join(dir, "b.sock"), Routes: routes})
	if got := ask(c, "see"); !strings.Contains(got, "role viewer") {
		t.Errorf("stranger sees: %s", got)
	}
}

func TestListen(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "s")
	ctx := t.Context()
	stale, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	// A listener that isn't ours, without a lock file: held.
	_, err = Listen(ctx, sock, 0o600)
	if code(err) != "socket-held" || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("foreign listener: %v", err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	ln, err := Listen(ctx, sock, 0o600)
	if err != nil {
		t.Fatal("stale socket: ", err)
	}
	if _, err := Listen(ctx, sock, 0o600); code(err) != "socket-held" {
		t.Errorf("own listener: %v", err)
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(sock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(ctx, sock, 0o600); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a plain file: %v", err)
	}
}

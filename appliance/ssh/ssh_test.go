package ssh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	gossh "golang.org/x/crypto/ssh"

	"komainu/appliance/accounts"
	"komainu/appliance/console"
	"komainu/appliance/control"
	"komainu/drivers/files"
	"komainu/ntp/instant"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

const secret = "correct horse"

// box is a server at a port of the loopback device.
type box struct {
	t     *testing.T
	o     Options
	at    string
	key   gossh.Signer // sato's
	log   bytes.Buffer // after the server's end
	mu    sync.Mutex
	now   instant.Instant
	waits []time.Duration
}

// start starts a server for sato (field; a key and a password) and ito (viewer;
// a password), and an administrator made at a terminal; change may alter it.
func start(t *testing.T, change func(*server)) *box {
	t.Helper()
	dir := t.TempDir()
	b := &box{t: t, now: instant.Instant(time.Hour), key: newKey(t)}
	b.o = Options{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run"), Lang: "en", Prompt: "hinata-cho", Commands: commands(), Log: slog.New(slog.NewTextHandler(&b.log, nil))}
	b.o.Users = func() ([]accounts.User, error) {
		return []accounts.User{
			{Name: "ito", Role: "viewer", Password: "secret:ito"},
			{Name: "sato", Role: "field", Password: "secret:sato", Keys: []string{string(gossh.MarshalAuthorizedKey(b.key.PublicKey()))}},
		}, nil
	}
	for _, d := range []string{b.o.State, b.o.Run} {
		if err := os.Mkdir(d, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	secrets := files.Secrets{Dir: filepath.Join(b.o.State, "secrets")}
	hash := []byte(accounts.Hash(secret).String())
	err := errors.Join(secrets.Put("sato", hash), secrets.Put("ito", hash),
		accounts.Book{State: b.o.State}.SetLocal(accounts.Admin, control.Admin, accounts.Hash(secret)))
	if err != nil {
		t.Fatal(err)
	}
	b.o.Commands = append(b.o.Commands, console.Access(console.AccessFiles{State: b.o.State, Run: b.o.Run, Users: b.o.Users})...)
	s, err := newServer(b.o)
	if err != nil {
		t.Fatal(err)
	}
	s.now, s.wait = b.clock, b.wait
	if change != nil {
		change(s)
	}
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.at = ln.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("the server doesn't end")
		}
		if t.Failed() {
			t.Log(b.log.String())
		}
	})
	return b
}

func newKey(t *testing.T) gossh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := gossh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (b *box) clock() instant.Instant {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *box) wait(ctx context.Context, d time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now, b.waits = b.now.Add(d), append(b.waits, d)
	return ctx.Err() == nil
}

// commands are fake ones.
func commands() []console.Command {
	word := func(role control.Role, run func(ctx context.Context, in *console.Invocation) error, path ...string) console.Command {
		return console.Command{Path: path, Role: role, Help: "usage-exit", Run: run}
	}
	return []console.Command{
		word(control.Viewer, func(_ context.Context, in *console.Invocation) error {
			_, err := fmt.Fprintln(in.Out, "you are", in.User, in.JSON)
			return err
		}, "show", "person"),
		word(control.Viewer, func(ctx context.Context, in *console.Invocation) error {
			fmt.Fprintln(in.Out, "running")
			<-ctx.Done()
			return ctx.Err()
		}, "wait"),
		word(control.Viewer, func(_ context.Context, in *console.Invocation) error {
			for {
				if _, err := in.Out.Write(make([]byte, 1<<16)); err != nil {
					return err
				}
			}
		}, "flood"),
		word(control.Field, func(_ context.Context, in *console.Invocation) error {
			_, err := io.Copy(in.Out, in.In)
			return err
		}, "load", "terminal"),
		word(control.Viewer, func(context.Context, *console.Invocation) error { return errors.New("no such line") }, "fail"),
		word(control.Admin, func(context.Context, *console.Invocation) error { return nil }, "restart"),
	}
}

// dial logs in from 127.0.0.n.
func (b *box) dial(n int, name string, how ...gossh.AuthMethod) (*gossh.Client, error) {
	cfg := &gossh.ClientConfig{User: name, Auth: how, Timeout: patience, HostKeyCallback: func(_ string, _ net.Addr, key gossh.PublicKey) error {
		if key.Type() != gossh.KeyAlgoED25519 {
			return fmt.Errorf("host key %s", key.Type())
		}
		return nil
	}}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(n))}, Timeout: patience}
	raw, err := d.DialContext(b.t.Context(), "tcp", b.at)
	if err != nil {
		return nil, err
	}
	conn, channels, requests, err := gossh.NewClientConn(raw, b.at, cfg)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return gossh.NewClient(conn, channels, requests), nil
}

func (b *box) login(name string, how ...gossh.AuthMethod) *gossh.Client {
	b.t.Helper()
	if how == nil {
		how = []gossh.AuthMethod{gossh.Password(secret)}
	}
	c, err := b.dial(1, name, how...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() }) // the server may have closed it
	return c
}

func (b *box) open(c *gossh.Client) *gossh.Session {
	b.t.Helper()
	s, err := c.NewSession()
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// exec runs one command: "CODE OUTPUT".
func (b *box) exec(c *gossh.Client, command, in string) string {
	b.t.Helper()
	s := b.open(c)
	s.Stdin = strings.NewReader(in)
	out, err := s.CombinedOutput(command)
	code := 0
	var exit *gossh.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitStatus()
	} else if err != nil {
		b.t.Fatalf("%s: %v", command, err)
	}
	return fmt.Sprint(code, " ", string(out))
}

// audited is what stands in the records, once there are n of them.
func (b *box) audited(n int) []string {
	b.t.Helper()
	for late := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) { // a file can't be waited for
		all, err := accounts.Log{State: b.o.State}.Last(1000)
		if err != nil {
			b.t.Fatal(err)
		}
		var s []string
		for _, e := range all {
			s = append(s, strings.Join([]string{e.User, e.Name, e.Terminal, e.Operation, e.Words, e.Result}, "|"))
		}
		if len(s) >= n || time.Now().After(late) {
			return s
		}
	}
}

func TestExec(t *testing.T) {
	b := start(t, nil)
	c := b.login("sato", gossh.PublicKeys(newKey(t), b.key))
	for _, x := range [][3]string{
		{"show person --json", "", "0 you are sato true\n"},
		{"sh per", "", "0 you are sato false\n"},
		{"load terminal", "a = 1\n", "0 a = 1\n"},
		{"fail", "", "1 no such line\n"},
		{"restart", "", "1 user sato may not do this; role admin is needed\n"},
		{"scp -t /etc", "", "2 "},
		{"secret list", "", "1 user sato may not do this; role admin is needed\n"},
	} {
		if got := b.exec(c, x[0], x[1]); !strings.HasPrefix(got, x[2]) {
			t.Errorf("%s: %q, want %q", x[0], got, x[2])
		}
	}
	golden := []string{
		"sato|sato|ssh 127.0.0.1|login||ok", "sato|sato|ssh 127.0.0.1|show person|show person --json|ok", "sato|sato|ssh 127.0.0.1|logout||ok",
		"sato|sato|ssh 127.0.0.1|login||ok", "sato|sato|ssh 127.0.0.1|show person|sh per|ok", "sato|sato|ssh 127.0.0.1|logout||ok",
		"sato|sato|ssh 127.0.0.1|login||ok", "sato|sato|ssh 127.0.0.1|load terminal|load terminal|ok", "sato|sato|ssh 127.0.0.1|logout||ok",
		"sato|sato|ssh 127.0.0.1|login||ok", "sato|sato|ssh 127.0.0.1|fail|fail|failed", "sato|sato|ssh 127.0.0.1|logout||ok",
		"sato|sato|ssh 127.0.0.1|login||ok", "sato|sato|ssh 127.0.0.1|restart|restart|refused", "sato|sato|ssh 127.0.0.1|logout||ok",
		"sato|sato|ssh 127.0.0.1|login||ok", "sato|sato|ssh 127.0.0.1|||unknown", "sato|sato|ssh 127.0.0.1|logout||ok",
		"sato|sato|ssh 127.0.0.1|login||ok", "sato|sato|ssh 127.0.0.1|secret list|secret list|refused", "sato|sato|ssh 127.0.0.1|logout||ok",
	}
	if d := cmp.Diff(golden, b.audited(len(golden))); d != "" {
		t.Error(d)
	}
}

func TestSecrets(t *testing.T) {
	b := start(t, nil)
	c := b.login("admin")
	if got := b.exec(c, "secret set ntp-keys", "line 1\nline 2\n"); got != "0 secret:ntp-keys kept\n" {
		t.Error(got)
	}
	if got := b.exec(c, "secret list", ""); !strings.Contains(got, "ntp-keys") || strings.Contains(got, "line") {
		t.Error(got)
	}
	if got := b.exec(c, "secret delete ntp-keys", ""); got != "0 secret:ntp-keys deleted\n" {
		t.Error(got)
	}
	if got := b.exec(c, "secret set ../x", "a"); !strings.HasPrefix(got, "1 ../x can't name a secret") {
		t.Error(got)
	}
	if got := b.exec(b.login("ito"), "user password sato", "another one"); got != "1 user ito may not do this; role admin is needed\n" {
		t.Error(got)
	}
	if got := b.exec(b.login("ito"), "user password", "another one"); got != "0 password of ito set\n" {
		t.Error(got)
	}
	b.login("ito", gossh.Password("another one"))
	got := b.exec(c, "show users", "")
	if !strings.Contains(got, "ito") || !strings.Contains(got, "ssh 127.0.0.1") {
		t.Error(got)
	}
	if got := b.exec(c, "show audit 3", ""); !strings.Contains(got, "show users") {
		t.Error(got)
	}
	for _, line := range b.audited(0) {
		if strings.Contains(line, "another one") || strings.Contains(line, "line 1") {
			t.Errorf("a secret stands in the records: %s", line)
		}
	}
}

// TestWrongPasswords: each costs more, known name or not, from the address too;
// the right one takes the delay before it.
func TestWrongPasswords(t *testing.T) {
	b := start(t, nil)
	try := func(n int, name, password string) bool {
		c, err := b.dial(n, name, gossh.Password(password))
		if err == nil {
			_ = c.Close() // the server may have been faster
		}
		return err == nil
	}
	for _, x := range []struct {
		from     int
		name, pw string
		in       bool
		wait     time.Duration
	}{
		{2, "sato", "guess", false, 0}, {2, "sato", "guess", false, 1}, {2, "sato", "guess", false, 2},
		{3, "nobody", "guess", false, 0}, {3, "nobody", "guess", false, 1}, {3, "nobody", "guess", false, 2},
		{3, "sato", secret, true, 2}, {3, "sato", secret, true, 0}, {4, "ito", secret, true, 0},
	} {
		b.waits = nil
		if in := try(x.from, x.name, x.pw); in != x.in {
			t.Errorf("%+v: in is %v", x, in)
		}
		var sum time.Duration
		for _, w := range b.waits {
			sum += w
		}
		if sum < (x.wait-1)*time.Second || sum > (x.wait+3)*time.Second || x.wait == 0 && sum > 0 {
			t.Errorf("%+v: waited %v", x, b.waits)
		}
	}
	want := []string{"sato|sato|ssh 127.0.0.2|login||wrong", "nobody|nobody|ssh 127.0.0.3|login||wrong"}
	got := b.audited(6)
	if len(got) != 6 || got[0] != want[0] || got[5] != want[1] {
		t.Errorf("%q", got)
	}
}

// TestNames: who the session is, is who logged in last, not who was tried before.
func TestNames(t *testing.T) {
	b := start(t, nil)
	for _, name := range []string{"admin", "nobody", ""} {
		if c, err := b.dial(2, name, gossh.PublicKeys(b.key)); err == nil {
			t.Errorf("sato's key opens %q", name)
			_ = c.Close()
		}
	}
	if _, err := b.dial(2, "sato"); err == nil {
		t.Error("no proof needed")
	}
}

// TestPerson types at a terminal: ^C stops a command, exit ends.
func TestPerson(t *testing.T) {
	b := start(t, nil)
	p := b.sit(b.login("sato", gossh.KeyboardInteractive(func(_, _ string, q []string, _ []bool) ([]string, error) {
		return []string{secret}[:len(q)], nil
	})))
	p.talk("", "hinata-cho> ", "show per\t\r", "you are sato", "wait\r", "running", "\x03", "hinata-cho> ", "restart\r", "may not do this", "", "hinata-cho> ", "exit\r", "logged out")
	if err := p.s.Wait(); err != nil {
		t.Error(err)
	}
	want := []string{"sato|sato|ssh 127.0.0.1|login||ok", "sato|sato|ssh 127.0.0.1|show person|show person |ok", "sato|sato|ssh 127.0.0.1|wait|wait|stopped",
		"sato|sato|ssh 127.0.0.1|restart|restart|refused", "sato|sato|ssh 127.0.0.1|exit|exit|ok", "sato|sato|ssh 127.0.0.1|logout||ok"}
	if d := cmp.Diff(want, b.audited(len(want))); d != "" {
		t.Error(d)
	}
}

func TestIdle(t *testing.T) {
	b := start(t, func(s *server) { s.Idle = 100 * time.Millisecond })
	p := b.sit(b.login("sato"))
	p.talk("", "logged out")
	if err := p.s.Wait(); err == nil {
		t.Error("ended with code 0")
	}
	if got := b.audited(2); got[len(got)-1] != "sato|sato|ssh 127.0.0.1|logout||idle" {
		t.Errorf("%q", got)
	}
}

// TestStopsReading: a client that takes nothing more is thrown out.
func TestStopsReading(t *testing.T) {
	b := start(t, func(s *server) { s.most = 200 * time.Millisecond })
	c := b.login("sato")
	s := b.open(c)
	out, err := s.StdoutPipe() // nobody reads it
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("flood"); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // the reason depends on who noticed first
	if got := b.audited(3); len(got) != 3 || got[1] != "sato|sato|ssh 127.0.0.1|flood|flood|stopped" {
		t.Errorf("%q", got)
	}
	_ = out
}

// TestPiped: lines without a terminal; and a ^C that comes as a signal.
func TestPiped(t *testing.T) {
	b := start(t, nil)
	c := b.login("ito")
	s := b.open(c)
	s.Stdin = strings.NewReader("show person\nfail\n")
	var out bytes.Buffer
	s.Stdout = &out
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	var exit *gossh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 1 || out.String() != "you are ito false\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	s = b.open(c)
	if err := errors.Join(s.Start("wait"), s.Signal(gossh.SIGINT)); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); !errors.As(err, &exit) {
		t.Error(err)
	}
}

func TestNothingElse(t *testing.T) {
	b := start(t, nil)
	c := b.login("sato")
	if conn, err := c.Dial("tcp", "127.0.0.1:1"); err == nil {
		t.Error("forwards", conn.Close())
	}
	if ln, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("forwards back", ln.Close())
	}
	s := b.open(c)
	if s.RequestSubsystem("sftp") == nil || s.Setenv("A", "b") == nil {
		t.Error("a subsystem or variable was taken")
	}
	if ok, err := s.SendRequest("auth-agent-req@openssh.com", true, nil); ok || err != nil {
		t.Error("an agent was taken", err)
	}
	for n := 1; ; n++ {
		if _, err := c.NewSession(); err != nil {
			if n != sessionsEach {
				t.Errorf("%d sessions of one address: %v", n, err)
			}
			break
		}
	}
	if got := b.exec(b.loginFrom(2, "sato"), "show person", ""); got != "0 you are sato false\n" {
		t.Error(got)
	}
}

func (b *box) loginFrom(n int, name string) *gossh.Client {
	b.t.Helper()
	c, err := b.dial(n, name, gossh.Password(secret))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() }) // the server may have closed it
	return c
}

// TestFlood: connections that never log in take a bounded place, and a person
// still gets in, even from where the flood comes from.
func TestFlood(t *testing.T) {
	b := start(t, nil)
	before := runtime.NumGoroutine()
	var all []net.Conn
	for range 200 {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", b.at)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	closed := make(chan struct{}, len(all))
	var readers sync.WaitGroup
	for _, c := range all {
		readers.Go(func() {
			if _, err := io.Copy(io.Discard, c); !errors.Is(err, net.ErrClosed) {
				closed <- struct{}{}
			}
		})
	}
	for range len(all) - strangerMost {
		select {
		case <-closed:
		case <-time.After(patience):
			t.Fatal("too many are held")
		}
	}
	for _, from := range []int{1, 2} {
		if got := b.exec(b.loginFrom(from, "sato"), "show person", ""); got != "0 you are sato false\n" {
			t.Error(got)
		}
	}
	if n := runtime.NumGoroutine() - before - strangerMost; n > 6*strangerMost {
		t.Errorf("%d goroutines more", n)
	}
	for _, c := range all {
		_ = c.Close() // most are closed already by the server
	}
	readers.Wait()
}

// TestStranger: a connection that doesn't log in is ended.
func TestStranger(t *testing.T) {
	b := start(t, func(s *server) { s.door.time = 50 * time.Millisecond })
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", b.at)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestHostKey: it is made once, and a damaged one is told.
func TestHostKey(t *testing.T) {
	state := t.TempDir()
	one, err := hostKey(state)
	if err != nil {
		t.Fatal(err)
	}
	two, err := hostKey(state)
	if err != nil || !bytes.Equal(one.PublicKey().Marshal(), two.PublicKey().Marshal()) {
		t.Errorf("another key, %v", err)
	}
	path := filepath.Join(state, "secrets", hostName)
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st, err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := hostKey(state); err == nil {
		t.Error("no error")
	}
}

// terminal is a person's.
type terminal struct {
	b     *box
	s     *gossh.Session
	in    io.Writer
	mu    sync.Mutex
	seen  string
	from  int
	fresh chan struct{} // 1
}

func (b *box) sit(c *gossh.Client) *terminal {
	b.t.Helper()
	p := &terminal{b: b, s: b.open(c), fresh: make(chan struct{}, 1)}
	in, err := p.s.StdinPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	p.in, p.s.Stdout = in, p
	if err := errors.Join(p.s.RequestPty("vt100", 24, 80, nil), p.s.Shell(), p.s.WindowChange(50, 200)); err != nil {
		b.t.Fatal(err)
	}
	return p
}

func (p *terminal) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen += string(b)
	select {
	case p.fresh <- struct{}{}:
	default:
	}
	return len(b), nil
}

// talk sends and expects by turns.
func (p *terminal) talk(turns ...string) {
	p.b.t.Helper()
	for i, s := range turns {
		if i%2 == 0 {
			if _, err := io.WriteString(p.in, s); err != nil {
				p.b.t.Fatal(err)
			}
			continue
		}
		for late := time.After(patience); ; {
			p.mu.Lock()
			at := strings.Index(p.seen[p.from:], s)
			if at >= 0 {
				p.from += at + len(s)
			}
			rest := p.seen[p.from:]
			p.mu.Unlock()
			if at >= 0 {
				break
			}
			select {
			case <-p.fresh:
			case <-late:
				p.b.t.Fatalf("no %q in %q", s, rest)
			}
		}
	}
}

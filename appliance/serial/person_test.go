package serial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"komainu/appliance/accounts"
	"komainu/appliance/console"
	"komainu/appliance/control"
	"komainu/ntp/instant"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// person sits at a terminal: a pseudo terminal whose other end is Main's.
type person struct {
	t      *testing.T
	master *os.File
	o      Options
	ended  chan error // of Main
	gone   bool       // the test has closed the terminal and seen Main end

	hold  sync.Mutex // while it is locked the terminal shows nothing more
	mu    sync.Mutex
	seen  string        // everything that stood on the screen
	from  int           // where the next expect begins
	fresh chan struct{} // 1: seen grew
	now   instant.Instant
	waits []time.Duration
}

// sit starts Main at a new terminal; change may alter its options.
func sit(t *testing.T, change func(*Options)) *person {
	t.Helper()
	m, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminals here: ", err)
	}
	p := &person{t: t, master: m, fresh: make(chan struct{}, 1), now: instant.Instant(time.Hour), ended: make(chan error, 1)}
	dir := t.TempDir()
	p.o = Options{TTY: slave(t, m), State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run"), Commands: commands()}
	for _, d := range []string{p.o.State, p.o.Run} {
		if err := os.Mkdir(d, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	if change != nil {
		change(&p.o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := newSeat(p.o)
	c.most, c.now, c.wait = patience/20, p.clock, p.wait
	go func() { p.ended <- c.serve(ctx) }()
	read := make(chan struct{})
	go func() { defer close(read); p.watch() }()
	t.Cleanup(func() {
		cancel()
		if p.gone {
			<-read
			return
		}
		select {
		case err := <-p.ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("Main doesn't end")
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		<-read
		if t.Failed() {
			t.Logf("on the screen:\n%s", p.screen())
		}
	})
	return p
}

func slave(t *testing.T, m *os.File) string {
	t.Helper()
	raw, err := m.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	var ierr error
	err = raw.Control(func(fd uintptr) {
		ierr = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		if ierr == nil {
			n, ierr = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err := errors.Join(err, ierr); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint("/dev/pts/", n)
}

func (p *person) clock() instant.Instant {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func (p *person) wait(ctx context.Context, d time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now, p.waits = p.now.Add(d), append(p.waits, d)
	return ctx.Err() == nil
}

func (p *person) watch() {
	for b := make([]byte, 4096); ; {
		p.hold.Lock()
		p.hold.Unlock() //nolint:staticcheck // only waits
		n, err := p.master.Read(b)
		if err != nil && !errors.Is(err, unix.EIO) { // EIO: Main hasn't opened its end yet, or has closed it
			return
		}
		p.mu.Lock()
		p.seen += string(b[:n])
		p.mu.Unlock()
		select {
		case p.fresh <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

var moves = regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]`)

// screen is what was shown, without the moves of the cursor.
func (p *person) screen() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.ReplaceAll(moves.ReplaceAllString(p.seen, ""), "\r\n", "\n")
}

// expect waits until the screen shows text behind what was expected before.
func (p *person) expect(text string) {
	p.t.Helper()
	for late := time.After(patience); ; {
		s := p.screen()
		if i := strings.Index(s[p.from:], text); i >= 0 {
			p.from += i + len(text)
			return
		}
		select {
		case <-p.fresh:
		case <-late:
			p.t.Fatalf("no %q in\n%s", text, s[p.from:])
		}
	}
}

func (p *person) send(s string) {
	p.t.Helper()
	if _, err := p.master.WriteString(s); err != nil {
		p.t.Fatal(err)
	}
}

// talk sends and expects by turns.
func (p *person) talk(turns ...string) {
	p.t.Helper()
	for i, s := range turns {
		if i%2 == 0 {
			p.send(s)
		} else {
			p.expect(s)
		}
	}
}

const secret = "correct horse"

// enter logs the administrator in at a box that has one.
func (p *person) enter() {
	p.t.Helper()
	p.expect("login: ")
	p.talk("admin\r", "password: ", secret+"\r", "komainu> ")
}

// withAdmin gives the box an administrator.
func withAdmin(o *Options) {
	book := accounts.Book{State: o.State}
	if err := errors.Join(book.SetLocal("admin", control.Admin, accounts.Hash(secret)), book.SetLocal("ito", control.Viewer, accounts.Hash(secret))); err != nil {
		panic(err)
	}
}

// commands are fake ones.
func commands() []console.Command {
	word := func(role control.Role, run func(ctx context.Context, in *console.Invocation) error, path ...string) console.Command {
		return console.Command{Path: path, Role: role, Help: "usage-exit", Run: run}
	}
	pages := func(_ context.Context, in *console.Invocation) error {
		for i := range 60 {
			if _, err := fmt.Fprintln(in.Out, "line", i); err != nil {
				return err
			}
		}
		return nil
	}
	all := []console.Command{
		word(control.Viewer, pages, "show", "pages"),
		word(control.Viewer, func(_ context.Context, in *console.Invocation) error {
			_, err := fmt.Fprintln(in.Out, "you are", in.User)
			return err
		}, "show", "person"),
		word(control.Viewer, func(ctx context.Context, in *console.Invocation) error {
			fmt.Fprintln(in.Out, "running")
			<-ctx.Done()
			return ctx.Err()
		}, "wait"),
		word(control.Viewer, func(_ context.Context, in *console.Invocation) error {
			_, err := io.WriteString(in.Out, strings.Repeat("x", 1<<20))
			return err
		}, "flood"),
	}
	return append(all, console.Command{Path: []string{"config", "check"}, Role: control.Viewer, Help: "usage-config-check", Args: []console.Arg{{Name: "FILE"}},
		Run: func(_ context.Context, in *console.Invocation) error { return errors.New("opened " + in.Args[0]) }})
}

// box serves what PID 1 says.
func box(t *testing.T, run string, b control.Box) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	srv := &control.Server{Socket: filepath.Join(run, "pid1.sock"), Routes: []control.Route{
		{Pattern: "GET " + control.BoxPath, Handle: func(context.Context, *control.Request) (any, error) { return b, nil }},
	}}
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

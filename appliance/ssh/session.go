package ssh

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"komainu/appliance/accounts"
	"komainu/appliance/console"
	"komainu/appliance/say"
)

// aim is what a client asks of a session: a person at a terminal, or one
// command.
type aim struct {
	terminal bool
	columns  int // of the terminal; 0: unknown
	lines    int
	command  string // "": a person types
}

// session is one session channel: it waits for what the client wants of it,
// does that and tells the exit code.
func (s *server) session(c *visitor, conn *gossh.ServerConn, ch gossh.NewChannel) {
	channel, requests, err := ch.Accept()
	if err != nil { // the client is gone
		return
	}
	ctx, stop := context.WithCancel(c.ctx)
	defer stop()
	start := make(chan aim, 1)
	var tasks sync.WaitGroup
	tasks.Go(func() {
		defer stop()
		defer close(start)
		hear(requests, start, stop)
	})
	if want, ok := <-start; ok {
		code := s.run(ctx, c, conn.User(), channel, want, &tasks)
		// RFC 4254 section 6.10; a client that is gone needs no answer.
		_, _ = channel.SendRequest("exit-status", false, gossh.Marshal(struct{ Status uint32 }{uint32(code)}))
	}
	_ = channel.Close() // likewise; ends the requests
	tasks.Wait()
}

// hear answers the requests of a session (RFC 4254 section 6) until it ends. Of
// a terminal the size at the beginning counts; variables, forwarding and
// subsystems are refused.
func hear(requests <-chan *gossh.Request, start chan<- aim, stop func()) {
	var want aim
	begun := false
	for r := range requests {
		ok := !begun
		switch r.Type {
		case "pty-req":
			want.terminal = want.terminal || ok
			var p struct {
				Term          string
				Columns, Rows uint32
				Width, Height uint32
				Modes         string
			}
			if ok && gossh.Unmarshal(r.Payload, &p) == nil {
				want.columns, want.lines = int(min(p.Columns, sizeMost)), int(min(p.Rows, sizeMost))
			}
		case "shell", "exec":
			var p struct{ Command string }
			if r.Type == "exec" {
				ok = ok && gossh.Unmarshal(r.Payload, &p) == nil
			}
			if ok {
				begun = true
				want.command = p.Command
				start <- want
			}
		case "signal": // a client's ^C, where it sends one
			stop()
			ok = true
		default:
			ok = false
		}
		if r.WantReply {
			_ = r.Reply(ok, nil) // the end of the channel is seen above
		}
	}
}

// run does what the client wants as the account of name, and returns the exit code.
func (s *server) run(ctx context.Context, c *visitor, name string, channel gossh.Channel, want aim, tasks *sync.WaitGroup) int {
	people, _ := s.keeper.People()
	a := people.Find(name)
	if a == nil { // removed since the login
		return exitFailed
	}
	terminal := "ssh " + c.from
	out := &patient{w: channel, most: s.most, stop: c.stop}
	session := &console.Session{
		Console: console.Console{Commands: s.Commands, Run: s.Run, Lang: s.Lang, User: a.Name, State: s.State, Out: out, Err: &patient{w: channel.Stderr(), most: s.most, stop: c.stop}},
		Role:    a.Role, Prompt: s.Prompt,
		Audit: func(path, line string, result console.Result) {
			s.note(c, accounts.Entry{User: a.Name, Operation: path, Words: line, Result: string(result)})
		},
	}
	s.note(c, accounts.Entry{User: a.Name, Operation: "login", Result: "ok"})
	leave, err := accounts.Enter(s.Run, accounts.Present{User: a.Name, Role: a.Role.String(), Terminal: terminal, Since: time.Now()})
	if err != nil {
		s.Log.Warn("ssh", "error", err)
	} else {
		defer func() { _ = leave() }() // in a folder that a boot empties
	}
	end, code := "ok", 0
	switch {
	case want.terminal:
		line := newLine(channel, out, tasks)
		defer line.end()
		session.Screen = console.NewScreen(line, s.Idle)
		if want.columns > 0 && want.lines > 0 {
			session.Screen.Size(want.columns, want.lines)
		}
		if want.command != "" {
			code = attended(ctx, session, want.command)
			break
		}
		if err := person(ctx, session); errors.Is(err, console.ErrIdle) {
			end, code = "idle", exitFailed
		}
	case want.command != "":
		session.In = channel
		code = session.Exec(ctx, want.command)
	default:
		code = s.piped(ctx, session, channel)
	}
	s.note(c, accounts.Entry{User: a.Name, Operation: "logout", Result: end})
	return code
}

const exitFailed = 1

// sizeMost bounds what a client says of its terminal, in columns or lines.
const sizeMost = 500

// person lets somebody type commands.
func person(ctx context.Context, session *console.Session) error {
	err := session.Loop(ctx)
	if err == nil || errors.Is(err, console.ErrIdle) {
		_, werr := io.WriteString(session.Screen, say.Text(session.Lang, "serial-bye")+"\n")
		err = errors.Join(err, werr)
	}
	return err
}

// attended runs one command that somebody may stop with ^C or be asked by.
func attended(ctx context.Context, session *console.Session, command string) (code int) {
	session.Out, session.Err = session.Screen, session.Screen
	session.Ask = func(ctx context.Context, prompt string) (word string, err error) {
		err = session.Screen.Direct(func() error {
			word, err = session.Screen.Password(ctx, prompt)
			return err
		})
		return word, err
	}
	session.Screen.Run(ctx, func(ctx context.Context, _ io.Writer) { code = session.Exec(ctx, command) })
	return code
}

// piped runs the lines that come in without a terminal, and gives the exit
// code of the last one.
func (s *server) piped(ctx context.Context, session *console.Session, channel io.ReadWriteCloser) (code int) {
	idle := time.AfterFunc(s.Idle, func() { _ = channel.Close() }) // ends the Scan
	defer idle.Stop()
	lines := bufio.NewScanner(channel)
	lines.Buffer(nil, pipedMost)
	for ctx.Err() == nil && lines.Scan() {
		idle.Stop()
		if lines.Text() == "exit" {
			return code
		}
		code = session.Exec(ctx, lines.Text())
		idle.Reset(s.Idle)
	}
	if lines.Err() != nil {
		return exitFailed
	}
	return code
}

// pipedMost is how long a line may be that comes in without a terminal, bytes.
const pipedMost = 4096

// line is the terminal of a person. It is a console.Terminal.
type line struct {
	net.Conn // what was typed
	out      io.Writer
}

// newLine makes one; the goroutine among tasks ends with the channel.
func newLine(channel io.Reader, out io.Writer, tasks *sync.WaitGroup) *line {
	near, far := net.Pipe() // since a channel has no deadlines
	tasks.Go(func() {
		_, _ = io.Copy(far, channel) // ends in the end of either
		_ = far.Close()              // of a pipe: never fails
	})
	return &line{near, out}
}

func (l *line) Write(b []byte) (int, error) { return l.out.Write(b) }

func (l *line) end() { _ = l.Conn.Close() } // of a pipe: never fails

// patient writes to a client, and ends it when it takes nothing for too long.
type patient struct {
	w    io.Writer
	most time.Duration
	stop func()
}

// pieceMost is what is written in one turn, so that a slow client is told from
// one that has stopped.
const pieceMost = 8 << 10

func (p *patient) Write(b []byte) (n int, err error) {
	for first := true; err == nil && (first || n < len(b)); first = false {
		late := time.AfterFunc(p.most, p.stop)
		var k int
		k, err = p.w.Write(b[n:min(len(b), n+pieceMost)])
		late.Stop()
		n += k
	}
	return n, err
}

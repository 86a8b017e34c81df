package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"komainu/appliance/control"
	"komainu/appliance/say"
)

// lookMost ends a command that only looks when whoever it asks hangs.
const lookMost = 15 * time.Second

// Session lets one person type commands, one after the other.
type Session struct {
	Console // Out and Err are the screen's
	Screen  *Screen
	Role    control.Role // of the person; what needs a higher one is refused
	Prompt  string       // "hinata-cho"
	// News gives what the person should know before the next command; nil: nothing.
	News func(ctx context.Context) []string
	// Audit is told of every command when it has ended: the command's words in
	// full (empty: the line meant none), the line as it was typed, and how it
	// ended. line is empty where it wasn't understood, since it may hold a
	// password typed in the wrong place. nil: nobody is told.
	Audit func(path, line string, result Result)
	// Speed changes the line's speed, 9600 or 115200 baud, for `console speed`;
	// nil: the terminal has none.
	Speed func(baud int) error

	// Start is a line that is run before the first prompt, "setup" on a box
	// without a configuration; empty: none.
	Start string

	over    bool
	editing bool // in `configure`
}

// Result is how a command ended.
type Result string

// The results.
const (
	ResultOK      Result = "ok"
	ResultFailed  Result = "failed"
	ResultRefused Result = "refused" // the role forbids it
	ResultStopped Result = "stopped" // by ^C, or the person is gone
	ResultUnknown Result = "unknown" // the words mean no command
)

// Loop reads and runs commands until "exit" or ^D (nil), or until the screen's
// Line fails (its error).
func (s *Session) Loop(ctx context.Context) error {
	s.Commands = append(slices.Clone(s.Commands),
		Command{Path: []string{"exit"}, Role: control.Viewer, Help: "usage-exit", Run: func(context.Context, *Invocation) error {
			s.over = true
			return nil
		}},
		Command{Path: []string{"console", "language"}, Role: control.Viewer, Help: "usage-console-language",
			Args: []Arg{{Name: "LANGUAGE", Values: say.Languages()}}, Run: func(_ context.Context, in *Invocation) error {
				s.Lang = in.Args[0]
				return nil
			}})
	s.Commands = append(s.Commands, s.terminalWords()...)
	slices.SortStableFunc(s.Commands, func(a, b Command) int { return slices.Compare(a.Path, b.Path) })
	if s.Start != "" {
		if err := s.run(ctx, s.Start); err != nil {
			return err
		}
	}
	for !s.over {
		if s.News != nil {
			for _, n := range s.News(ctx) {
				if err := s.show(n); err != nil {
					return err
				}
			}
		}
		line, err := s.Screen.Line(ctx, s.prompt(), s.complete)
		if errors.Is(err, io.EOF) {
			return s.show("")
		}
		if err != nil {
			return err
		}
		if err := s.run(ctx, line); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) show(line string) error {
	_, err := fmt.Fprintln(s.Screen, line)
	return err
}

// run runs one line; its error is the screen's.
func (s *Session) run(ctx context.Context, line string) error {
	argv, cmd, err := s.parse(line)
	if err != nil {
		s.audit(ctx, cmd, line, err)
		var e *control.Error
		if errors.As(err, &e) {
			return s.show(e.Text(s.Lang))
		}
		return s.show(err.Error())
	}
	if len(argv) == 0 {
		return nil
	}
	s.Screen.Run(ctx, func(ctx context.Context, out io.Writer) {
		c := s.Console
		c.Out, c.Err = out, out
		c.Ask = func(ctx context.Context, prompt string) (word string, err error) {
			err = s.Screen.Direct(func() error {
				word, err = s.Screen.Password(ctx, prompt)
				return err
			})
			return word, err
		}
		c.Read = func(ctx context.Context, prompt string) (line string, err error) {
			err = s.Screen.Direct(func() error {
				line, err = s.Screen.Question(ctx, prompt)
				return err
			})
			return line, err
		}
		s.execute(ctx, &c, cmd, argv, line)
	})
	return nil
}

// Exec runs one line without a screen: output goes to Out and Err, what the
// command reads comes from In. It returns the exit code, as Main does.
func (s *Session) Exec(ctx context.Context, line string) int {
	c := s.Console
	argv, cmd, err := s.parse(line)
	if err != nil {
		s.audit(ctx, cmd, line, err)
		return c.report(err)
	}
	return s.execute(ctx, &c, cmd, argv, line)
}

// execute runs what parse found, and tells Audit.
func (s *Session) execute(ctx context.Context, c *Console, cmd *Command, argv []string, line string) int {
	if cmd != nil && cmd.Path[0] == "show" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, lookMost)
		defer cancel()
	}
	c.Role = s.Role
	err := c.do(ctx, argv)
	code := c.report(err)
	if cmd != nil || err != nil { // else it was help
		s.audit(ctx, cmd, line, err)
	}
	return code
}

func (s *Session) audit(ctx context.Context, cmd *Command, line string, err error) {
	if s.Audit == nil {
		return
	}
	var e *control.Error
	coded := errors.As(err, &e)
	path, result := "", ResultFailed
	switch {
	case err == nil:
		result = ResultOK
	case coded && e.Code == "access-refused":
		result = ResultRefused
	case coded && strings.HasPrefix(e.Code, "usage-"):
		line, result = "", ResultUnknown
	case errors.Is(ctx.Err(), context.Canceled):
		result = ResultStopped
	}
	if cmd != nil {
		path = strings.Join(cmd.Path, " ")
	}
	s.Audit(path, line, result)
}

// parse splits a line into words and finds their command; nil: the words are no
// whole command, Main says so. An error refuses the line.
func (s *Session) parse(line string) (argv []string, cmd *Command, err error) {
	if len(line) > lineMost {
		return nil, nil, usage("usage-line-long", fmt.Sprint(lineMost))
	}
	if argv, err = split(line); err != nil {
		return nil, nil, err
	}
	if len(argv) > 0 && argv[0] == "komainu" { // as advice shows commands for a shell
		argv = argv[1:]
	} else if s.Screen != nil {
		argv = s.moded(argv)
	}
	if len(argv) == 0 {
		return nil, nil, nil
	}
	cmd, err = s.allowed(argv)
	return argv, cmd, err
}

// allowed finds the command of argv, with an error when the person may not say
// it; nil: the words are no whole command.
func (s *Session) allowed(argv []string) (*Command, error) {
	argv, parts := cutPipes(argv)
	words, opt, err := options(argv)
	if err != nil {
		return nil, err
	}
	if err := checkPipes(parts); err != nil {
		return nil, err
	}
	if _, ok := opt["run"]; ok { // this box only
		return nil, usage("usage-option", "--run")
	}
	cmd, rest, _, err := find(s.Commands, words)
	if err != nil || cmd == nil || len(rest) > 0 && (rest[len(rest)-1] == "?" || rest[len(rest)-1] == "help") {
		return nil, nil //nolint:nilerr // Main finds the same again and shows it
	}
	need := cmd.Role
	if slices.ContainsFunc(cmd.Args, func(a Arg) bool { return a.Name == "FILE" }) {
		need = control.Admin // the file is read with the rights of this process, not of the person
	}
	if s.Role < need {
		return cmd, &control.Error{Code: "access-refused", Args: []string{s.User, need.String()}}
	}
	return cmd, nil
}

// split cuts a line into words at spaces; quotes, double or single, keep a
// word together. A "|" outside of quotes becomes the word bar.
func split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	var quote rune
	started := false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quote, started = r, true
		case r == '|':
			if started {
				words = append(words, word.String())
				word.Reset()
				started = false
			}
			words = append(words, bar)
		case r != ' ' && r != '\t' && r != '\u3000': // the last is a full-width space
			word.WriteRune(r)
			started = true
		case started:
			words = append(words, word.String())
			word.Reset()
			started = false
		}
	}
	if started {
		words = append(words, word.String())
	}
	if quote != 0 {
		return words, usage("usage-quote")
	}
	return words, nil
}

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
	// Refused is told the words of a command that Role forbids; nil: nobody is.
	Refused func(words string)

	over bool
}

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
	slices.SortStableFunc(s.Commands, func(a, b Command) int { return slices.Compare(a.Path, b.Path) })
	for !s.over {
		if s.News != nil {
			for _, n := range s.News(ctx) {
				if err := s.show(n); err != nil {
					return err
				}
			}
		}
		line, err := s.Screen.Line(ctx, s.Prompt+"> ", s.complete)
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
	argv, err := split(line)
	if len(line) > lineMost {
		err = usage("usage-line-long", fmt.Sprint(lineMost))
	}
	if len(argv) > 0 && argv[0] == "komainu" { // as advice shows commands for a shell
		argv = argv[1:]
	}
	if len(argv) == 0 && err == nil {
		return nil
	}
	var cmd *Command
	if err == nil {
		cmd, err = s.allowed(argv)
	}
	if err != nil {
		var e *control.Error
		if errors.As(err, &e) {
			return s.show(e.Text(s.Lang))
		}
		return s.show(err.Error())
	}
	s.Screen.Run(ctx, func(ctx context.Context, out io.Writer) {
		if cmd != nil && cmd.Path[0] == "show" {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, lookMost)
			defer cancel()
		}
		c := s.Console
		c.Out, c.Err = out, out
		c.Main(ctx, argv)
	})
	return nil
}

// allowed finds the command of argv and refuses what the person may not say;
// nil: the words are no whole command, Main says so.
func (s *Session) allowed(argv []string) (*Command, error) {
	words, opt, err := options(argv)
	if err != nil {
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
		if s.Refused != nil {
			s.Refused(strings.Join(cmd.Path, " "))
		}
		return nil, &control.Error{Code: "access-refused", Args: []string{s.User, need.String()}}
	}
	return cmd, nil
}

// split cuts a line into words at spaces; quotes, double or single, keep a
// word together.
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
		case r != ' ' && r != '\t':
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

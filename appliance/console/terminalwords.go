package console

import (
	"context"
	"fmt"
	"strconv"

	"komainu/appliance/control"
)

// terminalWords are the commands that fit the session to the terminal.
func (s *Session) terminalWords() []Command {
	words := func(word, help string, a Arg, run func(in *Invocation) error) Command {
		return Command{
			Path: []string{"console", word}, Role: control.Viewer, Help: help, Args: []Arg{a},
			Run: func(_ context.Context, in *Invocation) error { return run(in) },
		}
	}
	all := []Command{
		words("columns", "usage-console-columns", Arg{Name: "N"}, func(in *Invocation) error {
			n, err := within(in.Args[0], 20, 500)
			if err == nil {
				s.Screen.Size(n, s.Screen.lines)
			}
			return err
		}),
		words("lines", "usage-console-lines", Arg{Name: "N"}, func(in *Invocation) error {
			n, err := within(in.Args[0], 5, 500)
			if err == nil {
				s.Screen.Size(s.Screen.columns, n)
			}
			return err
		}),
		words("charset", "usage-console-charset", Arg{Name: "CHARSET", Values: Charsets()}, func(in *Invocation) error {
			s.Screen.Charset(in.Args[0])
			return nil
		}),
		words("colour", "usage-console-colour", Arg{Name: "COLOUR", Values: []string{"on", "off"}}, func(in *Invocation) error {
			s.Colour = in.Args[0] == "on"
			return nil
		}),
	}
	if s.Speed != nil {
		all = append(all, words("speed", "usage-console-speed", Arg{Name: "BAUD", Values: []string{"9600", "115200"}}, func(in *Invocation) error {
			n, err := strconv.Atoi(in.Args[0])
			if err != nil {
				return err
			}
			return s.Screen.Direct(func() error { return s.Speed(n) })
		}))
	}
	return all
}

// within is the number that text means, 0 or from least to most.
func within(text string, least, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n != 0 && (n < least || n > most) {
		return 0, usage("usage-number", text, fmt.Sprint(least), fmt.Sprint(most))
	}
	return n, nil
}

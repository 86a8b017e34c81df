package console

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"komainu/appliance/control"
	"komainu/appliance/say"
)

// Exit codes of Main.
const (
	exitDone   = 0
	exitFailed = 1 // refused, or the agent doesn't answer
	exitUsage  = 2 // the words mean no command
)

// errReported ends a command that has already said what is wrong.
var errReported = errors.New("reported")

// Main runs the one command that argv means and returns the exit code: 0 done,
// 1 refused or failed, 2 not understood. Options everywhere: --json, --lang
// en|ja, --run DIR. A "?" or "help" lists what may follow. A word "|" begins a
// filter of the output, see pipeWords.
func (c *Console) Main(ctx context.Context, argv []string) int {
	words := slices.Clone(argv)
	for i, w := range words {
		if w == "|" {
			words[i] = bar
		}
	}
	return c.report(c.do(ctx, words))
}

// do runs the command of argv; its error is for report.
func (c *Console) do(ctx context.Context, argv []string) error {
	argv, parts := cutPipes(argv)
	words, opt, err := options(argv)
	if lang, ok := opt["lang"]; ok {
		c.Lang = lang
	}
	if err != nil {
		return err
	}
	return c.piped(parts, func() error { return c.run(ctx, words, opt) })
}

// report tells the person what err says, and gives the exit code.
func (c *Console) report(err error) int {
	if err == nil {
		return exitDone
	}
	var e *control.Error
	if errors.Is(err, errReported) {
		return exitFailed
	}
	if !errors.As(err, &e) {
		fmt.Fprintln(c.Err, err)
		return exitFailed
	}
	fmt.Fprintln(c.Err, e.Text(c.Lang))
	if strings.HasPrefix(e.Code, "usage-") {
		return exitUsage
	}
	return exitFailed
}

func (c *Console) run(ctx context.Context, words []string, opt map[string]string) error {
	cmd, rest, next, err := find(c.Commands, words)
	if err != nil {
		return err
	}
	if cmd == nil {
		return c.help(next)
	}
	if len(rest) > 0 && (rest[len(rest)-1] == "?" || rest[len(rest)-1] == "help") {
		return c.help([]Command{*cmd})
	}
	args, err := cmd.arguments(rest)
	if err != nil {
		return err
	}
	for name := range opt {
		if !slices.Contains([]string{"json", "lang", "run"}, name) && !slices.Contains(cmd.Options, name) {
			return usage("usage-option", "--"+name)
		}
	}
	run := c.Run
	if dir, ok := opt["run"]; ok {
		run = dir
	}
	in := c.invocation(run)
	in.Args, in.Option, in.JSON = args, opt, opt["json"] != ""
	return cmd.Run(ctx, in)
}

// invocation is one by this console's person, with the sockets in run.
func (c *Console) invocation(run string) *Invocation {
	return &Invocation{
		Lang:   c.Lang,
		User:   c.User,
		Role:   c.Role,
		Out:    c.Out,
		Err:    c.Err,
		In:     c.In,
		Ask:    c.Ask,
		Read:   c.Read,
		Colour: c.Colour,
		State:  c.State,
		Stick:  c.Stick,
		Agent:  control.Client{Socket: filepath.Join(run, "agent.sock")},
		Time:   control.Client{Socket: filepath.Join(run, "timed.sock")},
		Box:    control.Client{Socket: filepath.Join(run, "pid1.sock")},
	}
}

// help lists commands with their arguments, role and one line of words, an
// empty line between those of different first words.
func (c *Console) help(cmds []Command) error {
	var s sheet
	cmds = slices.Clone(cmds)
	slices.SortStableFunc(cmds, func(a, b Command) int { return strings.Compare(a.Path[0], b.Path[0]) })
	for i, cmd := range cmds {
		if i > 0 && cmds[i-1].Path[0] != cmd.Path[0] {
			s.add("", "")
		}
		form := cmd.form()
		if form == "-" {
			form = ""
		}
		s.add(strings.TrimSpace(strings.Join(cmd.Path, " ")+" "+form), "")
		s.add("", say.Text(c.Lang, cmd.Help)+" ["+say.Text(c.Lang, "role-"+cmd.Role.String())+"]")
	}
	_, err := fmt.Fprint(c.Out, s.text())
	return err
}

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
// en|ja, --run DIR. A "?" or "help" lists what may follow.
func (c *Console) Main(ctx context.Context, argv []string) int {
	words, opt, err := options(argv)
	if lang, ok := opt["lang"]; ok {
		c.Lang = lang
	}
	if err == nil {
		err = c.run(ctx, words, opt)
	}
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
	return cmd.Run(ctx, &Invocation{
		Args:   args,
		Option: opt,
		JSON:   opt["json"] != "",
		Lang:   c.Lang,
		User:   c.User,
		Out:    c.Out,
		Agent:  control.Client{Socket: filepath.Join(run, "agent.sock")},
		Time:   control.Client{Socket: filepath.Join(run, "timed.sock")},
		Box:    control.Client{Socket: filepath.Join(run, "pid1.sock")},
	})
}

// help lists commands with their arguments, role and one line of words.
func (c *Console) help(cmds []Command) error {
	var s sheet
	for _, cmd := range cmds {
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

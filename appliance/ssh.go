package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"

	"komainu/appliance/accounts"
	"komainu/appliance/config"
	"komainu/appliance/console"
	"komainu/appliance/ssh"
	"komainu/images/layout"
)

// sshMain is the console over the network: a unit of the supervisor where
// [console] ssh is set.
func sshMain(ctx context.Context, args []string, _ io.Writer) error {
	f, d := flags("ssh")
	if err := f.Parse(args); err != nil {
		return err
	}
	file, err := config.Load(d.config)
	if err != nil {
		return err
	}
	if len(file.Console.SSH) == 0 {
		return errors.New("[console] ssh names no address to listen at")
	}
	o := ssh.Options{
		State: d.state, Run: d.run, Users: accounts.Configured(d.config), Commands: d.commands(),
		Prompt: file.Site.Name, Lang: language(), Idle: file.Console.Idle, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	for _, at := range file.Console.SSH {
		o.Listen = append(o.Listen, ssh.At{Address: at, Device: file.VRF(at.Addr())})
	}
	if err := ssh.Main(ctx, o); err != nil {
		return fmt.Errorf("%w (is the address free, and its VRF there?)", err)
	}
	return nil
}

// commands are those of a console on this box, with its own files.
func (d folders) commands() []console.Command {
	all := append(commands(), console.Net(d.state)...)
	return append(all, console.Access(console.AccessFiles{State: d.state, Run: d.run, Config: d.config, Users: accounts.Configured(d.config)})...)
}

// here are this machine's own folders, for commands that say none.
func here() folders {
	d := folders{config: "/etc/komainu/komainu.toml", state: "/var/lib/komainu", run: "/run/komainu"}
	if _, err := os.Stat(layout.Config); err == nil { // our image
		d.config, d.state = layout.Config, layout.State
	}
	return d
}

// typed is what a one-shot command reads: what is piped in, or at a terminal
// the words that aren't shown.
func typed() (in io.Reader, ask func(ctx context.Context, prompt string) (string, error)) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return os.Stdin, nil
	}
	return nil, func(_ context.Context, prompt string) (string, error) {
		fmt.Fprint(os.Stderr, prompt)
		word, err := term.ReadPassword(fd)
		fmt.Fprintln(os.Stderr)
		return string(word), err
	}
}

// Command komainu is the appliance: one program whose first word picks what it
// is. Main only wires; start reading at appliance/agent for what the box
// decides, appliance/shell for how that is carried out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"komainu/appliance/config"
	"komainu/appliance/console"
	"komainu/appliance/control"
	"komainu/appliance/pid1"
	"komainu/appliance/say"
	"komainu/appliance/shell"
	"komainu/appliance/update"
	"komainu/drivers/files"
	"komainu/drivers/units"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	os.Exit(run(ctx, words(os.Args), os.Stdout, os.Stderr))
}

// words are what the program was told: its name counts as the first word where
// it is an applet's, as with /init and /sbin/modprobe.
func words(argv []string) []string {
	if name := filepath.Base(argv[0]); applets[name] != nil {
		return append([]string{name}, argv[1:]...)
	}
	return argv[1:]
}

// applets are the long-running ones, and those that work without an agent.
var applets = map[string]func(ctx context.Context, args []string, out io.Writer) error{
	"agent":     agentMain,
	"charon":    charonMain,
	"database":  databaseMain,
	"image-job": update.JobMain,
	"init":      initMain,
	"modprobe":  modprobeMain,
	"pki":       pkiMain,
	"serial":    serialMain,
	"ssh":       sshMain,
	"supervise": superviseMain,
	"timed":     timedMain,
}

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	if len(args) > 0 {
		if applet := applets[args[0]]; applet != nil {
			err := applet(ctx, args[1:], out)
			if err == nil || errors.Is(err, flag.ErrHelp) { // the flags have been printed
				return 0
			}
			var code exit
			if errors.As(err, &code) {
				return int(code)
			}
			var problems config.Problems
			if errors.As(err, &problems) {
				fmt.Fprint(errs, problems.Render(language()))
			} else {
				fmt.Fprintf(errs, "komainu %s: %v\n", args[0], err)
			}
			return 1
		}
	}
	// Who may do what on this machine's own files, its kernel says.
	c := console.Console{Commands: here().commands(), Run: "/run/komainu", State: here().state, Lang: language(), User: username(), Role: control.Admin, Out: out, Err: errs}
	c.In, c.Ask = typed()
	return c.Main(ctx, args)
}

func commands() []console.Command {
	var all []console.Command
	all = append(all, console.Box()...)
	all = append(all, console.Check()...)
	all = append(all, console.Config(config.Check)...)
	all = append(all, console.Images()...)
	all = append(all, console.Keys()...)
	all = append(all, console.VPN()...)
	all = append(all, console.NTP()...)
	all = append(all, console.QoS()...)
	all = append(all, console.Return()...)
	all = append(all, console.Revisions()...)
	all = append(all, console.Service()...)
	all = append(all, console.Setup()...)
	all = append(all, console.Show()...)
	return all
}

// language is what the person's environment asks for; Japanese is the
// product's first.
func language() string {
	for _, v := range []string{"KOMAINU_LANG", "LC_ALL", "LC_MESSAGES", "LANG"} {
		if s := os.Getenv(v); s != "" {
			if strings.HasPrefix(s, "ja") {
				return "ja"
			}
			return "en"
		}
	}
	return say.Languages()[0]
}

func username() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "?"
}

// folders are the flags that every long-running applet takes.
type folders struct{ config, state, run string }

func flags(name string) (*flag.FlagSet, *folders) {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	d := &folders{}
	f.StringVar(&d.config, "config", "/etc/komainu/komainu.toml", "configuration `FILE`")
	f.StringVar(&d.state, "state", "/var/lib/komainu", "durable state `DIR`")
	f.StringVar(&d.run, "run", "/run/komainu", "sockets `DIR`, empty after a boot")
	return f, d
}

func agentMain(ctx context.Context, args []string, _ io.Writer) error {
	f, d := flags("agent")
	if err := f.Parse(args); err != nil {
		return err
	}
	cfg, err := wire(*d)
	if errors.Is(err, files.ErrSecret) {
		return runBare(ctx, *d)
	}
	if err != nil {
		return err
	}
	return shell.New(cfg).Run(ctx)
}

// secretsAgain is how often an agent that lacks secrets looks for them.
const secretsAgain = 2 * time.Second

// runBare keeps the network alone until the secrets that the configuration names
// are there, then ends, to be started again: the way to the box must not hang
// on a key that somebody still has to bring.
func runBare(ctx context.Context, d folders) error {
	cfg, err := wireNetwork(d)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var looking sync.WaitGroup
	defer looking.Wait()
	defer stop()
	looking.Go(func() {
		tick := time.NewTicker(secretsAgain)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if _, err := wire(d); !errors.Is(err, files.ErrSecret) {
				stop()
				return
			}
		}
	})
	return shell.New(cfg).Run(ctx)
}

// superviseMain owns the daemons of a host that has no PID 1 of ours: it runs
// the agent, and what the agent asks for.
func superviseMain(ctx context.Context, args []string, _ io.Writer) error {
	f, d := flags("supervise")
	noClock := f.Bool("no-clock", false, "the time daemon doesn't adjust this machine's clock")
	image := f.Bool("image", false, "this machine runs our image, and PID 1 is ours")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *image {
		return imageMain(ctx, *d)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	unit := func(name string, more ...string) units.Unit {
		return units.Unit{Name: name, Argv: append([]string{self, name, "--config", d.config, "--state", d.state, "--run", d.run}, more...),
			Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}, Dir: "/", Restart: true, StopTimeout: 10 * time.Second}
	}
	agent := unit("agent")
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC"} { // the agent speaks to systemd (sd_notify(3))
		if v := os.Getenv(name); v != "" {
			agent.Env = append(agent.Env, name+"="+v)
		}
	}
	wanted := func() []units.Unit {
		all := []units.Unit{agent}
		file, err := config.Load(d.config)
		// With a file that can't be read yet, both tell so until it is mended.
		if err != nil || file.NTP != nil {
			if *noClock {
				all = append(all, unit("timed", "--no-clock"))
			} else {
				all = append(all, unit("timed"))
			}
		}
		if err == nil && len(file.VPNs) > 0 {
			all = append(all, d.charonUnit(self, agent.Env))
		}
		if err == nil && len(file.Console.SSH) > 0 {
			all = append(all, unit("ssh"))
		}
		return all
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	keeper, err := d.keeper(wanted)
	if err != nil {
		return err
	}
	if err := keeper.Start(ctx); err != nil {
		log.Error("configuration", "error", err) // what stands there is used
	}
	tasks, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { _ = keeper.Run(tasks) }) // ends with its context alone
	return pid1.Supervise(ctx, pid1.Options{Run: d.run, State: d.state, Log: log, Units: wanted(), More: keeper.Routes()})
}

// databaseMain makes the DC's first, empty cluster: `komainu database init NAME`.
func databaseMain(ctx context.Context, args []string, out io.Writer) error {
	if len(args) < 2 || args[0] != "init" {
		return errors.New("usage: komainu database init NAME [--config FILE] [--state DIR] [--run DIR]")
	}
	f, d := flags("database init")
	if err := f.Parse(args[2:]); err != nil {
		return err
	}
	cfg, err := wire(*d)
	if err != nil {
		return err
	}
	for _, db := range cfg.Databases {
		if db.Name == args[1] {
			if err := shell.InitDatabase(ctx, db); err != nil {
				return err
			}
			fmt.Fprintln(out, say.Text(language(), "database-made", db.Name, filepath.Join(db.Config.Base, "data")))
			return nil
		}
	}
	return fmt.Errorf("no [[database]] %q in %s", args[1], d.config)
}

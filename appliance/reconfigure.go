package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"komainu/appliance/agent"
	"komainu/appliance/config"
	"komainu/appliance/control"
	"komainu/appliance/revisions"
	"komainu/appliance/shell"
	"komainu/drivers/clock"
	"komainu/drivers/files"
	"komainu/drivers/units"
)

// digest names the content of a configuration.
func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// reload reads the configuration again for an agent that works with old. All
// that can be found out without touching anything is found here: the file, its
// secrets, its certificates.
func reload(d folders, old *config.File, keys *keyring) (shell.Reloading, error) {
	text, err := os.ReadFile(d.config)
	if err != nil {
		return shell.Reloading{}, err
	}
	file, problems := config.Parse(d.config, text)
	if len(problems) > 0 {
		return shell.Reloading{}, problems
	}
	c, err := wireFile(d, file)
	if err != nil {
		return shell.Reloading{}, err
	}
	// At a start, one tunnel that lacks its keys doesn't keep the others; but
	// nobody is to put such a one into use.
	if _, err := d.keyring(file).certificates(); err != nil {
		return shell.Reloading{}, err
	}
	w := wiring{folders: d, file: file, secrets: files.Secrets{Dir: filepath.Join(d.state, "secrets")}}
	if _, err := w.calendar(file); err != nil {
		return shell.Reloading{}, err
	}
	keys.take(file)
	return shell.Reloading{Digest: digest(text), Ground: c.Spec.Ground, Restart: differ(besideNetwork(old), besideNetwork(file))}, nil
}

// besideNetwork is what an agent is told but for the network, which it takes
// while it runs.
func besideNetwork(f *config.File) any {
	spec := f.Agent()
	spec.Ground = agent.Ground{}
	return []any{spec, f.Beats(), f.Clusters(), f.Probes(), f.Refusals(), f.Orders, f.Health, f.Peers, f.NTP != nil}
}

// differ compares what two files say; where it stands in them doesn't count.
func differ(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 != nil || err2 != nil || !bytes.Equal(x, y)
}

// applier makes the units of a box work with a configuration that has been put
// in its place. It belongs to the supervisor, which owns them.
type applier struct {
	folders
	units  units.Client
	agent  control.Client
	wanted func() []units.Unit // by the file that stands there now
}

// keeper keeps the life of the configuration at d.
func (d folders) keeper(wanted func() []units.Unit) (*revisions.Keeper, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(d.run, "pid1.sock")
	a := &applier{folders: d, units: units.Client{Socket: socket}, agent: control.Client{Socket: filepath.Join(d.run, "agent.sock")}, wanted: wanted}
	return revisions.New(revisions.Options{
		Config: d.config, State: filepath.Join(d.state, "config"), Apply: a.apply, Now: clock.Now, Wall: time.Now, BootID: strings.TrimSpace(string(boot)),
		Check: func(text []byte, lang string) error {
			if _, problems := config.Parse("komainu.toml", text); len(problems) > 0 {
				return errors.New(strings.TrimRight(problems.Render(lang), "\n"))
			}
			return nil
		},
	}), nil
}

// applyMost bounds one change: the network, then a restart of the agent.
const applyMost = 120 * time.Second

// comeBack bounds a restart of the agent: it opens databases and sockets. Its
// watchman (appliance/pid1/vigil) is as patient.
const comeBack = 60 * time.Second

// apply carries text out, in place of old (nil: there was none).
func (a *applier) apply(ctx context.Context, old, text []byte) (changes, restarted []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, applyMost)
	defer cancel()
	running, err := a.running(ctx)
	if err != nil {
		return nil, nil, err
	}
	if text == nil { // the first configuration is taken back
		restarted, err = a.bring(ctx, running, nil)
		return nil, restarted, err
	}
	was, _ := config.Parse(a.config, old)
	is, problems := config.Parse(a.config, text)
	if len(problems) > 0 {
		return nil, nil, problems
	}
	again := map[string]bool{
		"timed": was == nil || differ(was.NTP, is.NTP),
		"ssh":   was == nil || differ(was.Console, is.Console),
	}
	// The agent gives its tunnels to a charon that is there.
	if err := a.begin(ctx, running, "charon"); err != nil {
		return nil, nil, err
	}
	if slices.Contains(running, "agent") {
		var reply control.Reloaded
		err := a.agent.Post(ctx, control.ReloadPath, control.ReloadOrder{Digest: digest(text)}, &reply)
		var refused *control.Error
		switch {
		case errors.As(err, &refused) && refused.Code == "agent-unreachable":
			reply.Restart = true // one that can't work with the old file is helped by the new one
		case err != nil:
			return nil, nil, err
		}
		changes, again["agent"] = reply.Changes, reply.Restart
	}
	restarted, err = a.bring(ctx, running, again)
	if err != nil {
		return changes, restarted, err
	}
	return changes, restarted, a.awaitAgent(ctx, digest(text))
}

// begin starts the unit called name if it is wanted and doesn't run.
func (a *applier) begin(ctx context.Context, running []string, name string) error {
	wanted := a.wanted()
	i := slices.IndexFunc(wanted, func(u units.Unit) bool { return u.Name == name })
	if i < 0 || slices.Contains(running, name) {
		return nil
	}
	if _, err := a.units.Start(ctx, wanted[i]); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	return nil
}

func (a *applier) running(ctx context.Context) ([]string, error) {
	var all []units.Status
	if err := (control.Client{Socket: a.units.Socket}).Get(ctx, "/v1/units", &all); err != nil {
		return nil, err
	}
	var names []string
	for _, u := range all {
		if u.Running {
			names = append(names, u.Name)
		}
	}
	return names, nil
}

// bring stops what the configuration no longer wants, starts what it does, and
// starts those anew that must read it from the beginning.
func (a *applier) bring(ctx context.Context, running []string, again map[string]bool) (started []string, err error) {
	wanted := a.wanted()
	for _, name := range []string{"agent", "timed", "ssh", "charon"} {
		i := slices.IndexFunc(wanted, func(u units.Unit) bool { return u.Name == name })
		runs := slices.Contains(running, name)
		if runs && (i < 0 || again[name]) {
			if _, err := a.units.Stop(ctx, name); err != nil {
				return started, fmt.Errorf("stop %s: %w", name, err)
			}
			runs = false
		}
		if i >= 0 && !runs {
			if _, err := a.units.Start(ctx, wanted[i]); err != nil {
				return started, fmt.Errorf("start %s: %w", name, err)
			}
			started = append(started, name)
		}
	}
	return started, nil
}

// awaitAgent waits until an agent works with the configuration.
func (a *applier) awaitAgent(ctx context.Context, digest string) error {
	ctx, cancel := context.WithTimeout(ctx, comeBack)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var n control.Network
		err := a.agent.Get(ctx, control.NetworkPath, &n)
		if err == nil && n.Digest == digest {
			return nil
		}
		select {
		case <-ctx.Done():
			if err == nil {
				return &control.Error{Code: "agent-not-back", Args: []string{"it works with another configuration"}}
			}
			return &control.Error{Code: "agent-not-back", Args: []string{err.Error()}}
		case <-tick.C:
		}
	}
}

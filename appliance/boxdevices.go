package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"komainu/appliance/control"
	"komainu/appliance/serial"
	"komainu/drivers/powerkey"
	"komainu/drivers/uevents"
	"komainu/drivers/units"
	"komainu/images/layout"
)

// What people plug into a box of our image, and press on it.

// terminalUnits are the consoles that have none yet.
func (b *imageBox) terminalUnits() []units.Unit {
	names, err := serial.Terminals()
	if err != nil {
		b.log.Error("find terminals", "error", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []units.Unit
	for _, tty := range names {
		if slices.Contains(b.terminals, tty) {
			continue
		}
		b.terminals = append(b.terminals, tty)
		all = append(all, units.Unit{Name: "serial-" + strings.ToLower(tty),
			Argv: []string{layout.Program, "serial", "--tty", tty, "--config", b.config, "--state", b.state, "--run", b.run},
			Env:  environment, Dir: "/", Restart: true, StopTimeout: 5 * time.Second, Memory: 256 << 20, Tasks: 256})
	}
	return all
}

// watchDevices gives a console to a terminal that is plugged in, and a
// configuration to a box that has none when a stick brings one; inputs gets
// something when a key may have come.
func (b *imageBox) watchDevices(ctx context.Context, devices *uevents.Conn, inputs chan<- struct{}, client units.Client) {
	defer devices.Close() // read side: nothing to lose
	err := devices.Run(ctx, func(e uevents.Event) {
		if s := e.Vars["SUBSYSTEM"]; s == "block" || e.Action == uevents.Lost {
			b.mu.Lock()
			b.looked, b.changes = looked{}, b.changes+1
			b.mu.Unlock()
		}
		if s := e.Vars["SUBSYSTEM"]; s == "input" || e.Action == uevents.Lost {
			select {
			case inputs <- struct{}{}:
			default: // it is to look again already
			}
		}
		if e.Action != "add" && e.Action != uevents.Lost {
			return
		}
		var start []units.Unit
		if s := e.Vars["SUBSYSTEM"]; s == "tty" || e.Action == uevents.Lost {
			start = b.terminalUnits()
		}
		if s := e.Vars["SUBSYSTEM"]; (s == "block" || e.Action == uevents.Lost) && b.firstSite() {
			start = append(start, b.units()...)
		}
		for _, u := range start {
			if err := startUnit(ctx, client, u); err != nil {
				b.log.Error("start", "unit", u.Name, "error", err)
			}
		}
	})
	if err != nil && ctx.Err() == nil {
		b.log.Error("devices", "error", err)
	}
}

// startUnit tries for some seconds: a device may come before the own socket is
// there, which is no event to anybody, and nothing would start the unit later.
func startUnit(ctx context.Context, client units.Client, u units.Unit) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for tries := 10; ; tries-- {
		_, err := client.Start(ctx, u)
		if err == nil || tries == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// powerButton takes a press of the power button for the order to switch off.
func (b *imageBox) powerButton(ctx context.Context, inputs <-chan struct{}) {
	for powerkey.Wait(ctx, powerkey.Dev, inputs) == nil {
		b.log.Warn("the power button was pressed")
		var reply control.Reply
		if err := b.pid1.Post(ctx, control.PowerPath, control.PowerOrder{Action: "off", By: "power-button"}, &reply); err != nil {
			b.log.Error("power button", "error", err) // pressed before the socket is there, or twice
		}
	}
}

// firstSite takes the first configuration from a stick, where the box has none
// and somebody brings one.
func (b *imageBox) firstSite() bool {
	if b.Found.Rescue {
		return false
	}
	name, err := b.site.First()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = slices.DeleteFunc(b.problems, func(r control.Reason) bool { return strings.HasPrefix(r.Code, "site-") })
	var refused *control.Error
	switch {
	case errors.As(err, &refused):
		b.problems = append(b.problems, control.Reason{Code: refused.Code, Args: refused.Args})
	case err != nil:
		b.log.Error("first configuration", "error", err)
	case name != "":
		b.log.Info("first configuration", "site", name)
		if err := unix.Sethostname([]byte(name)); err != nil {
			b.log.Error("name of the box", "error", err)
		}
		return true
	}
	return false
}

package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"komainu/appliance/control"
	"komainu/appliance/say"
)

// Box are the commands about the machine; they ask PID 1.
func Box() []Command {
	power := func(action, help string, words ...string) Command {
		return Command{
			Path: words, Role: control.Operator, Help: help, Options: []string{"reason"},
			Run: func(ctx context.Context, in *Invocation) error { return in.power(ctx, action) },
		}
	}
	return []Command{
		power("off", "usage-power-off", "power", "off"),
		power("rescue", "usage-rescue", "rescue"),
		power("restart", "usage-restart", "restart"),
		{Path: []string{"show", "box"}, Role: control.Viewer, Help: "usage-show-box", Run: showBox},
	}
}

func (in *Invocation) power(ctx context.Context, action string) error {
	var r control.Reply
	if err := in.Box.Post(ctx, control.PowerPath, control.PowerOrder{Action: action, By: in.User, Reason: in.Option["reason"]}, &r); err != nil {
		return withoutBox(err)
	}
	if in.JSON {
		if err := json.NewEncoder(in.Out).Encode(r); err != nil {
			return err
		}
	}
	if !r.OK {
		return &control.Error{Code: r.Code, Args: r.Args}
	}
	if in.JSON {
		return nil
	}
	_, err := fmt.Fprintln(in.Out, say.Text(in.Lang, r.Code, r.Args...))
	return err
}

// withoutBox: a server of the data centre has no PID 1 of ours.
func withoutBox(err error) error {
	var e *control.Error
	if errors.As(err, &e) && e.Code == "agent-unreachable" {
		return &control.Error{Code: "box-unreachable", Args: e.Args}
	}
	return err
}

func (in *Invocation) box(ctx context.Context) (control.Box, error) {
	var b control.Box
	err := in.Box.Get(ctx, control.BoxPath, &b)
	return b, withoutBox(err)
}

func showBox(ctx context.Context, in *Invocation) error {
	b, err := in.box(ctx)
	if err != nil {
		return err
	}
	if in.JSON {
		e := json.NewEncoder(in.Out)
		e.SetIndent("", "  ")
		return e.Encode(b)
	}
	p := &page{lang: in.Lang}
	p.box(b)
	_, err = fmt.Fprint(in.Out, p.text())
	return err
}

func (p *page) box(b control.Box) {
	machine := b.Model
	if b.Serial != "" {
		machine += p.aside(b.Serial)
	}
	p.add(p.say("label-machine"), strings.TrimSpace(machine))
	running := b.Version
	switch {
	case b.Rescue:
		running = p.list(running, p.say("box-rescue"))
	case b.Trial != nil:
		running = p.list(running, p.say("image-trial"))
	}
	p.add(p.say("label-image"), running)
	p.add(p.say("label-booted"), clock(b.Booted)+p.aside(p.ago(b.UptimeS)))
	p.addIf(p.say("label-before"), p.reset(b.Last))
	p.add(p.say("label-memory"), size(uint64(max(b.Memory, 0))))
	p.add(p.say("label-data"), p.say("data-"+b.Data))
	p.trial(b.Trial)
	p.images(b.Images)
	for _, d := range b.Disks {
		p.add(p.say("label-disk")+" "+d.Name, p.disk(d))
	}
	for _, port := range b.Ports {
		p.add(p.say("label-port")+" "+port.Name, p.port(port))
	}
	for _, f := range b.Faults {
		p.add(p.say("label-fault"), p.say(f.Code, f.Args...))
	}
}

// reset is how the run before ended; its last lines are shown as they are.
func (p *page) reset(r control.Reset) string {
	if r.Kind == "" {
		return ""
	}
	s := p.say("reset-" + r.Kind)
	if r.Reason.Code != "" {
		s = p.pair(s, p.say(r.Reason.Code, r.Reason.Args...))
	}
	if d := strings.TrimSpace(r.Detail); d != "" {
		lines := strings.Split(d, "\n")
		s += "\n" + strings.Join(lines[max(0, len(lines)-detailMost):], "\n")
	}
	return s
}

// detailMost is how many of the kernel's last lines are shown.
const detailMost = 4

func (p *page) trial(t *control.Trial) {
	if t == nil {
		return
	}
	p.add(p.say("label-trial"), p.say("trial-left", span(p.lang, t.LeftS)))
	p.rowIf("label-waiting", p.reasons(t.Waiting))
	p.rowIf("label-excused", p.reasons(t.Excused))
}

func (p *page) images(all []control.Image) {
	for _, i := range all {
		s := p.say("image-" + i.State)
		if i.State == "trial" {
			s = p.list(s, p.say("image-left", fmt.Sprint(i.Left)))
		}
		if i.Running {
			s = p.list(s, p.say("image-running"))
		}
		if i.Reason.Code != "" {
			s += p.aside(p.say(i.Reason.Code, i.Reason.Args...))
		}
		p.add(p.say("label-version"), p.pair(i.Version, s))
	}
}

func (p *page) disk(d control.Disk) string {
	parts := []string{size(uint64(max(d.Bytes, 0))), d.Bus, d.Model, d.Content}
	if d.Serial != "" {
		parts = append(parts, p.pair(p.say("disk-serial"), d.Serial))
	}
	if d.System {
		parts = append(parts, p.say("disk-runs"))
	}
	return p.list(slices.DeleteFunc(parts, func(s string) bool { return s == "" })...)
}

func (p *page) port(port control.Port) string {
	link := p.say("port-down")
	if port.Carrier {
		link = p.say("port-up")
		if port.Mbit > 0 {
			link = p.say("port-speed", fmt.Sprint(port.Mbit))
		}
	}
	parts := []string{link, port.PCI, port.Driver, port.MAC}
	return p.list(slices.DeleteFunc(parts, func(s string) bool { return s == "" })...)
}

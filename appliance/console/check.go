package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"komainu/appliance/control"
	"komainu/appliance/say"
)

// Finding is one line of `check`.
type Finding struct {
	What    string         `json:"what"` // code of what was looked at
	Subject string         `json:"subject,omitempty"`
	OK      bool           `json:"ok"`
	Found   control.Reason `json:"found"`            // how it is
	Advice  string         `json:"advice,omitempty"` // code of what to do; empty where OK
}

// Check is the command that looks at everything a box needs to work.
func Check() []Command {
	return []Command{{Path: []string{"check"}, Role: control.Viewer, Help: "usage-check", Run: check}}
}

// checked is what the parts of the box answered; nil: they didn't.
type checked struct {
	box     *control.Box
	status  *control.Status
	network *control.Network
	time    *control.TimeStatus
	config  *control.ConfigText
	lacks   []string // files of the configuration that aren't there
	state   bool     // lacks was looked for
}

func check(ctx context.Context, in *Invocation) error {
	var c checked
	c.box = answer[control.Box](ctx, in.Box, control.BoxPath)
	c.status = answer[control.Status](ctx, in.Agent, control.StatusPath)
	c.network = answer[control.Network](ctx, in.Agent, control.NetworkPath)
	c.time = answer[control.TimeStatus](ctx, in.Time, control.TimePath)
	c.config = answer[control.ConfigText](ctx, in.Box, control.ConfigPath)
	if c.config != nil && in.State != "" {
		c.state = true
		c.lacks = lacking(in.State, c.config.Text)
	}
	all := c.findings()
	if in.JSON {
		if err := json.NewEncoder(in.Out).Encode(all); err != nil {
			return err
		}
	} else if _, err := fmt.Fprint(in.Out, findingsText(in.Lang, in.Colour, all)); err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(f Finding) bool { return !f.OK }) {
		return errReported
	}
	return nil
}

// answer is what client says on path; nil: nothing.
func answer[T any](ctx context.Context, client control.Client, path string) *T {
	v := new(T)
	if client.Get(ctx, path, v) != nil {
		return nil
	}
	return v
}

// references are a configuration's keys and certificates.
var references = regexp.MustCompile(`"(secret:[A-Za-z0-9._-]+|pki/[A-Za-z0-9._/-]+)"`)

// lacking are the references in text that have no file below state.
func lacking(state, text string) []string {
	var all []string
	for _, m := range references.FindAllStringSubmatch(text, -1) {
		path := filepath.Join(state, m[1])
		if name, ok := strings.CutPrefix(m[1], "secret:"); ok {
			path = filepath.Join(state, "secrets", name)
		}
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) && !slices.Contains(all, m[1]) {
			all = append(all, m[1])
		}
	}
	slices.Sort(all)
	return all
}

// findings are what is good and bad, from the machine outwards.
func (c *checked) findings() []Finding {
	var all []Finding
	add := func(what, subject string, ok bool, advice string, code string, args ...string) {
		if ok {
			advice = ""
		}
		all = append(all, Finding{what, subject, ok, control.Reason{Code: code, Args: args}, advice})
	}
	c.machine(add)
	if c.network == nil {
		add("check-agent", "", false, "check-do-agent", "check-silent")
	} else {
		c.links(add)
	}
	c.line(add)
	return all
}

type adder func(what, subject string, ok bool, advice string, code string, args ...string)

func (c *checked) machine(add adder) {
	if b := c.box; b == nil {
		add("check-box", "", false, "check-do-box", "check-silent")
	} else {
		for _, f := range b.Faults {
			add("check-box", "", false, "check-do-fault", f.Code, f.Args...)
		}
		add("check-disk", "", b.Data != "none", "check-do-disk", "check-data-"+b.Data)
		failed := b.GivenUp()
		switch {
		case b.Rescue:
			add("check-image", b.Version, false, "check-do-rescue", "check-image-rescue")
		case b.Trial != nil:
			add("check-image", b.Version, false, "check-do-trial", "check-image-trial")
		case len(failed) > 0:
			add("check-image", failed[0].Version, false, "check-do-image", "check-image-failed")
		default:
			add("check-image", b.Version, true, "", "check-good")
		}
	}
	switch {
	case c.config == nil || c.config.Text == "":
		add("check-config", "", false, "check-do-setup", "check-config-none")
	case c.config.Revision.BackS > 0:
		add("check-config", "", false, "check-do-confirm", "check-config-waits", fmt.Sprint(c.config.Revision.Number))
	default:
		add("check-config", "", true, "", "check-config-runs", fmt.Sprint(c.config.Revision.Number))
	}
	if c.state {
		add("check-secrets", "", len(c.lacks) == 0, "check-do-secrets", map[bool]string{true: "check-good", false: "check-lacks"}[len(c.lacks) == 0], c.lacks...)
	}
}

func (c *checked) links(add adder) {
	n := c.network
	for _, l := range n.Links {
		if l.Interface == "" && l.Master == "" && l.Bond == nil {
			continue // nothing that the configuration uses
		}
		subject := strings.TrimSpace(l.Name + " " + l.Interface)
		speed := ""
		if l.Mbit > 0 {
			speed = fmt.Sprint(l.Mbit)
		}
		switch {
		case l.Carrier:
			add("check-port", subject, true, "", "check-carrier", speed, l.Duplex)
		default:
			add("check-port", subject, false, "check-do-cable", "no-carrier")
		}
		if b := l.Bond; b != nil && b.Mode == "802.3ad" {
			good := b.Partner != "" && b.Partner != "00:00:00:00:00:00"
			if good {
				add("check-partner", l.Name, true, "", "check-partner-is", b.Partner)
			} else {
				add("check-partner", l.Name, false, "check-do-lacp", "none")
			}
		}
	}
	for _, g := range n.Gateways {
		code, args := g.Reason.Code, g.Reason.Args
		if g.Used || code == "" {
			code, args = map[bool]string{true: "check-used", false: "check-unused"}[g.Used], nil
		}
		add("check-gateway", g.Address+" "+g.Interface, g.Used, "check-do-gateway", code, args...)
	}
	for _, p := range n.Problems {
		add("check-network", "", false, "check-do-network", p.Code, p.Args...)
	}
	if len(n.Problems) == 0 {
		add("check-network", "", n.Settled, "check-do-network", map[bool]string{true: "check-good", false: "check-unsettled"}[n.Settled])
	}
}

func (c *checked) line(add adder) {
	if c.status != nil {
		for _, p := range c.status.Paths {
			code := "check-path-" + p.State
			if p.State == "up" {
				add("check-path", p.Name, true, "", code, fmt.Sprintf("%.1f", p.RTTMs))
			} else {
				add("check-path", p.Name, false, "check-do-path", code, p.Peer)
			}
		}
	}
	switch t := c.time; {
	case t == nil:
		add("check-time", "", false, "check-do-time", "check-silent")
	case t.State == "synchronised":
		add("check-time", "", true, "", "check-synchronised", t.Source)
	default:
		code, args := "check-not-synchronised", []string(nil)
		if len(t.Reasons) > 0 {
			code, args = t.Reasons[0].Code, t.Reasons[0].Args
		}
		add("check-time", "", false, "check-do-time", code, args...)
	}
}

// Colours of a VT100 (ECMA-48 SGR).
const (
	green = "\x1b[32m"
	red   = "\x1b[31m"
	plain = "\x1b[0m"
)

// findingsText is one line per finding, OK or NG first, and below a bad one
// what to do; the last line counts.
func findingsText(lang string, colour bool, all []Finding) string {
	var s sheet
	bad := 0
	for _, f := range all {
		mark := "OK  "
		if !f.OK {
			mark = "NG  "
			bad++
		}
		value := say.Text(lang, f.Found.Code, f.Found.Args...)
		if f.Advice != "" {
			value += "\n→ " + say.Text(lang, f.Advice)
		}
		s.add(strings.TrimSpace(mark+say.Text(lang, f.What)+" "+f.Subject), value)
	}
	text := s.text()
	if bad == 0 {
		text += say.Text(lang, "check-all-good", fmt.Sprint(len(all))) + "\n"
	} else {
		text += say.Text(lang, "check-some-bad", fmt.Sprint(bad), fmt.Sprint(len(all))) + "\n"
	}
	if !colour {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		for mark, paint := range map[string]string{"OK": green, "NG": red} {
			if rest, ok := strings.CutPrefix(line, mark+" "); ok {
				line = paint + mark + plain + " " + rest
				break
			}
		}
		b.WriteString(line)
	}
	return b.String()
}

package console

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"komainu/appliance/control"
	"komainu/appliance/say"
)

// Show are the read-only commands.
func Show() []Command {
	show := func(what, help string, part func(control.Status) any, text func(*page)) Command {
		return Command{
			Path: []string{"show", what}, Role: control.Viewer, Help: help,
			Run: func(ctx context.Context, in *Invocation) error {
				var st control.Status
				if err := in.Agent.Get(ctx, control.StatusPath, &st); err != nil {
					return err
				}
				if in.JSON {
					e := json.NewEncoder(in.Out)
					e.SetIndent("", "  ")
					return e.Encode(part(st))
				}
				p := &page{Status: st, lang: in.Lang}
				text(p)
				_, err := fmt.Fprint(in.Out, p.text())
				return err
			},
		}
	}
	return []Command{
		show("database", "usage-show-db", func(st control.Status) any { return st.Databases }, (*page).databases),
		show("path", "usage-show-path", func(st control.Status) any { return st.Paths }, (*page).paths),
		show("service", "usage-show-service", func(st control.Status) any {
			return map[string]any{"groups": st.Groups, "services": st.Services}
		}, (*page).services),
		show("status", "usage-show-status", func(st control.Status) any { return st }, (*page).status),
	}
}

// page is a status on its way to the terminal.
type page struct {
	control.Status
	lang string
	sheet
}

func (p *page) say(code string, args ...string) string { return say.Text(p.lang, code, args...) }

func (p *page) row(label, value string) { p.add("  "+p.say(label), value) }

// rowIf leaves a line out when there is nothing to say.
func (p *page) rowIf(label, value string) {
	if value != "" {
		p.row(label, value)
	}
}

func (p *page) yesNo(b bool) string {
	if b {
		return p.say("yes")
	}
	return p.say("no")
}

func (p *page) ago(seconds float64) string { return p.say("ago", span(p.lang, seconds)) }

func (p *page) reasons(all []control.Reason) string {
	var s []string
	for _, r := range all {
		s = append(s, p.say(r.Code, r.Args...))
	}
	return strings.Join(s, "; ")
}

// since is a wall time with its distance, in the box's own zone.
func (p *page) since(g *control.Group) string {
	return clock(g.Since.In(p.Time.Location())) + " (" + p.ago(p.Time.Sub(g.Since).Seconds()) + ")"
}

// advice is the agent's word, or else what always helps in a mode.
func (p *page) advice(g *control.Group) string {
	switch {
	case g.Advice.Code != "":
		return p.say(g.Advice.Code, g.Advice.Args...)
	case g.Hold:
		return p.say("hint-hold", g.Name)
	case g.Mode == "dc":
		return p.say("hint-all-well")
	case g.Mode == "returning" && p.orphans(g) > 0:
		return p.say("hint-orphans", fmt.Sprint(p.orphans(g)))
	default:
		return p.say("hint-"+g.Mode, g.Name)
	}
}

func (p *page) orphans(g *control.Group) int {
	n := 0
	for _, d := range p.Databases {
		if d.Group == g.Name {
			n += max(0, d.Orphans)
		}
	}
	return n
}

// services is `show service`.
func (p *page) services() {
	for _, g := range p.Groups {
		p.add(p.say("label-group")+" "+g.Name, "")
		p.row("label-mode", p.say("mode-"+g.Mode))
		p.row("label-since", p.since(&g))
		p.rowIf("label-reason", p.say(g.Reason, g.Args...))
		p.row("label-term", fmt.Sprintf("%d (%s)", g.Term, p.say("owner-"+g.Owner)))
		p.row("label-hold", p.yesNo(g.Hold))
		if g.Flaps > 0 {
			p.row("label-flaps", fmt.Sprint(g.Flaps))
		}
		p.rowIf("label-voucher", g.Voucher)
		for _, s := range p.Services {
			if s.Group != g.Name {
				continue
			}
			p.row("label-service", s.Name+" "+s.Stable)
			p.row("label-target", strings.TrimSpace(p.say("target-"+s.Target)+" "+s.Endpoint))
			p.row("label-probe", p.probe(s.Probe))
		}
	}
}

func (p *page) probe(pr control.Probe) string {
	if pr.OK {
		return span(p.lang, pr.LastMs/1000)
	}
	return strings.TrimSpace(fmt.Sprintf("%s (%d) %s", p.say("state-down"), pr.Fails, p.say(pr.Error)))
}

// databases is `show database`.
func (p *page) databases() {
	for _, d := range p.Databases {
		p.add(p.say("label-database")+" "+d.Name, "")
		p.row("label-role", p.role(d.Role, d.Reason))
		p.row("label-standby", p.ready(&d))
		p.row("label-lag", size(d.LagBytes)+", "+span(p.lang, d.LagS))
		p.row("label-position", d.Flush+" / "+d.Replay)
		p.row("label-timeline", fmt.Sprint(d.Timeline))
		p.row("label-sessions", fmt.Sprint(d.Sessions))
		if d.Orphans > 0 {
			p.row("label-orphans", fmt.Sprint(d.Orphans))
		}
		r := d.Remote
		if r.AgeS < 0 {
			p.row("label-remote", p.say("age-unknown"))
			continue
		}
		p.row("label-remote", p.role(r.Role, "")+", "+p.say("label-term")+fmt.Sprintf(" %d, %s, ", r.Term, r.Flush)+p.ago(r.AgeS))
	}
}

func (p *page) role(role, reason string) string {
	if reason == "" {
		return p.say("role-" + role)
	}
	return p.say("role-"+role) + ": " + p.say(reason)
}

// ready answers: would it serve reads if the primary vanished now?
func (p *page) ready(d *control.Database) string {
	switch {
	case d.Role == "primary":
		return p.say("role-primary")
	case d.CopyPercent < 100:
		return p.say("standby-copying", fmt.Sprint(d.CopyPercent))
	case !d.Ready:
		return strings.TrimSuffix(p.say("label-not-ready")+": "+p.reasons(d.ReadyReasons), ": ")
	case !d.RestartReady:
		return p.say("ready-not-restart")
	default:
		return p.say("ready")
	}
}

// paths is `show path`.
func (p *page) paths() {
	for _, q := range p.Paths {
		p.add(p.say("label-path")+" "+q.Name, "")
		p.row("label-peer", q.Peer)
		p.row("label-state", p.say("state-"+q.State)+", "+p.ago(q.SinceS))
		p.row("label-rtt", fmt.Sprintf("%.1f ms", q.RTTMs))
		p.row("label-packet-loss", fmt.Sprintf("%.1f %%", 100*q.Loss))
		carrier := "carrier-up"
		if !q.Carrier {
			carrier = "carrier-down"
		}
		p.row("label-interface", q.Interface+": "+p.say(carrier))
		p.row("label-active", p.yesNo(q.Carries))
	}
}

// worst first: groups that aren't at the data centre.
func worstFirst(groups []control.Group) []control.Group {
	all := slices.Clone(groups)
	slices.SortStableFunc(all, func(a, b control.Group) int {
		rank := func(g control.Group) int {
			if g.Mode == "dc" && !g.Hold && len(g.Blocks) == 0 {
				return 1
			}
			return 0
		}
		return rank(a) - rank(b)
	})
	return all
}

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

// row is an indented line; without a label it goes on with the one above.
func (p *page) row(label, value string) { p.add("  "+p.say(label), value) }

// rowIf leaves a line out when there is nothing to say.
func (p *page) rowIf(label, value string) {
	if value != "" {
		p.row(label, value)
	}
}

func (p *page) ago(seconds float64) string { return p.say("ago", span(p.lang, seconds)) }

func (p *page) reasons(all []control.Reason) string {
	var s []string
	for _, r := range all {
		s = append(s, p.say(r.Code, r.Args...))
	}
	return p.list(s...)
}

// list, pair and aside put words together as each language does.
func (p *page) list(s ...string) string {
	if p.lang == "ja" {
		return strings.Join(s, "、")
	}
	return strings.Join(s, "; ")
}

func (p *page) pair(what, how string) string {
	if p.lang == "ja" {
		return what + "：" + how
	}
	return what + ": " + how
}

func (p *page) aside(s string) string {
	if p.lang == "ja" {
		return "（" + s + "）"
	}
	return " (" + s + ")"
}

// since is a wall time with its distance, in the box's own zone.
func (p *page) since(g *control.Group) string {
	return clock(g.Since.In(p.Time.Location())) + p.aside(p.ago(p.Time.Sub(g.Since).Seconds()))
}

// advice is what the operator can do about a group.
func (p *page) advice(g *control.Group) string {
	if g.Advice.Code == "" {
		return p.say("advice-none")
	}
	return p.order(g.Advice)
}

// order is advice for people; a command stands on a line of its own, ready to
// be typed.
func (p *page) order(a control.Reason) string {
	s := p.say(a.Code, a.Args...)
	if i := strings.Index(s, "komainu "); i > 0 {
		s = strings.TrimRight(s[:i], " ") + "\n" + s[i:]
	}
	return s
}

// state is where a group stands: its mode, what is under way, whether held. A
// database host has no modes: there the phase says it.
func (p *page) state(g *control.Group) string {
	s := p.say("mode-" + g.Mode)
	switch {
	case p.Role == "dc-db":
		s = p.say(g.Step)
	case g.Step != "":
		s = p.pair(s, p.say(g.Step))
	}
	if g.Hold {
		s += " [" + p.say("label-hold") + "]"
	}
	return s
}

// services is `show service`.
func (p *page) services() {
	for _, g := range p.Groups {
		p.add(p.say("label-group")+" "+g.Name, p.state(&g))
		p.row("label-since", p.since(&g))
		p.rowIf("label-reason", p.say(g.Reason, g.Args...))
		p.row("label-term", p.say("term-owner", fmt.Sprint(g.Term), p.say("owner-"+g.Owner)))
		if g.Flaps > 0 {
			p.row("label-flaps", p.say("flaps", fmt.Sprint(g.Flaps)))
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
	if len(p.Groups) == 0 {
		p.add(p.say("none-group"), "")
	}
}

// probe shows the last question to the data centre; what didn't answer, not
// even with an error of its own, has a word, else a SQLSTATE or HTTP status.
func (p *page) probe(pr control.Probe) string {
	if pr.OK {
		return p.say("probe-good", span(p.lang, pr.LastMs/1000))
	}
	why := p.say(pr.Error)
	switch {
	case len(pr.Error) == 3 && pr.Error < "A":
		why = "HTTP " + why
	case len(pr.Error) == 5 && strings.ToUpper(pr.Error) == pr.Error:
		why = "SQLSTATE " + why
	}
	if pr.Fails == 0 {
		return p.say("probe-none")
	}
	return p.say("probe-bad", fmt.Sprint(pr.Fails), why)
}

// databases is `show database`.
func (p *page) databases() {
	for i, d := range p.Databases {
		p.add(p.say("label-database")+" "+d.Name, p.role(d.Role, d.Reason))
		p.row("label-group", d.Group)
		if p.Role == "dc-db" {
			p.hosted(&d, &p.Groups[i])
			continue
		}
		if d.Role != "primary" {
			p.row("label-standby", p.ready(&d))
		}
		if d.Role == "standby" && d.Remote.AgeS >= 0 {
			p.row("label-lag", p.lag(&d))
		}
		p.row("label-position", p.position(&d))
		p.row("label-sessions", fmt.Sprint(d.Sessions))
		if d.Orphans > 0 {
			p.row("label-orphans", fmt.Sprint(d.Orphans))
		}
		r := d.Remote
		if r.AgeS < 0 {
			p.row("label-remote", p.say("never-heard"))
			continue
		}
		p.row("label-remote", p.list(p.role(r.Role, ""), p.say(r.Phase)))
		p.row("", p.say("remote-said", fmt.Sprint(r.Term), p.lsn(r.Flush), p.ago(r.AgeS)))
	}
	if len(p.Databases) == 0 {
		p.add(p.say("none-database"), "")
	}
}

// hosted is a database on its host in the data centre.
func (p *page) hosted(d *control.Database, g *control.Group) {
	door := "door-closed"
	if d.Ready {
		door = "door-open"
	}
	p.row("label-clients", p.say(door))
	p.rowIf("label-closed-by", p.reasons(g.Blocks))
	if d.CopyPercent < 100 {
		p.row("label-progress", fmt.Sprint(d.CopyPercent, " %"))
	}
	p.row("label-position", p.position(d))
	if d.Ready {
		p.row("label-lag-hall", size(d.LagBytes))
	}
	p.row("label-sessions", fmt.Sprint(d.Sessions))
	if d.Orphans > 0 {
		p.row("label-orphans", fmt.Sprint(d.Orphans))
	}
}

func (p *page) position(d *control.Database) string {
	s := p.lsn(d.Flush)
	if d.Role == "standby" {
		s = p.say("position", p.lsn(d.Flush), p.lsn(d.Replay))
	}
	return p.list(s, p.say("timeline", fmt.Sprint(d.Timeline)))
}

// lsn is a log position; a stopped server may not tell one.
func (p *page) lsn(s string) string {
	if s == "0/0" {
		return p.say("unknown")
	}
	return s
}

func (p *page) lag(d *control.Database) string {
	if d.LagBytes == 0 && d.LagS == 0 {
		return p.say("none")
	}
	return size(d.LagBytes) + ", " + span(p.lang, d.LagS)
}

func (p *page) role(role, reason string) string {
	if reason == "" {
		return p.say("role-" + role)
	}
	return p.pair(p.say("role-"+role), p.say(reason))
}

// ready answers: would it serve reads if the primary vanished now?
func (p *page) ready(d *control.Database) string {
	switch {
	case d.CopyPercent < 100:
		return p.say("standby-copying", fmt.Sprint(d.CopyPercent))
	case !d.Ready:
		if len(d.ReadyReasons) == 0 {
			return p.say("label-not-ready")
		}
		return p.pair(p.say("label-not-ready"), p.reasons(d.ReadyReasons))
	case len(d.ReadyReasons) > 0:
		return p.say("ready-but", p.reasons(d.ReadyReasons))
	default:
		return p.say("ready")
	}
}

// paths is `show path`.
func (p *page) paths() {
	for _, q := range p.Paths {
		state := p.list(p.say("state-"+q.State), p.say("for", span(p.lang, q.SinceS)))
		if q.Carries && q.State == "up" {
			state = p.list(state, p.say("label-active"))
		}
		p.add(p.say("label-path")+" "+q.Name, state)
		p.row("label-peer", q.Peer)
		if q.State == "up" {
			p.row("label-rtt", fmt.Sprintf("%.1f ms", q.RTTMs))
			p.row("label-jitter", fmt.Sprintf("%.1f ms", q.JitterMs))
			p.row("label-packet-loss", fmt.Sprintf("%.1f %%", 100*q.Loss))
		}
		p.width(q.Width)
		carrier := "carrier-up"
		if !q.Carrier {
			carrier = "carrier-down"
		}
		p.row("label-interface", p.pair(q.Interface, p.say(carrier)))
	}
	if len(p.Paths) == 0 {
		p.add(p.say("none-path"), "")
	}
}

// width is what a tunnel carries.
func (p *page) width(w *control.Width) {
	if w == nil {
		return
	}
	known := func(n int) string {
		if n == 0 {
			return p.say("width-unknown")
		}
		return p.say("width-bytes", fmt.Sprint(n))
	}
	switch {
	case w.Fixed:
		p.row("label-largest-packet", p.list(known(w.Used), p.say("width-fixed")))
	case w.Used == 0:
		p.row("label-largest-packet", p.say("width-unknown"))
	default:
		p.row("label-largest-packet", p.list(known(w.Used), p.say("width-out", known(w.Out)), p.say("width-in", known(w.In))))
	}
	if w.BitPerS > 0 {
		p.row("label-capacity", bitrate(w.BitPerS))
	}
}

// bitrate is for people, in two digits and more.
func bitrate(bits float64) string {
	switch {
	case bits >= 1e9:
		return fmt.Sprintf("%.1f Gbit/s", bits/1e9)
	case bits >= 1e7:
		return fmt.Sprintf("%.0f Mbit/s", bits/1e6)
	case bits >= 1e6:
		return fmt.Sprintf("%.1f Mbit/s", bits/1e6)
	}
	return fmt.Sprintf("%.0f kbit/s", bits/1e3)
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

package console

import (
	"fmt"
	"strings"

	"komainu/appliance/control"
)

// statusMost is the size in bytes of `show status` at most: two seconds at
// 9600 baud.
const statusMost = 2048

// status is `show status`: why we are where we are, since when, how old the
// standby is, what blocks the return, what to do. What doesn't fit is counted.
func (p *page) status() {
	p.add(p.say("label-site"), fmt.Sprintf("%s (%s)", p.Site, p.Role))
	p.add(p.say("label-time"), fmt.Sprintf("%s, %s %s", clock(p.Time), p.say("label-uptime"), span(p.lang, p.UptimeS)))
	p.add(p.say("label-usable"), p.verdict())
	left := 0
	for _, a := range p.Alarms {
		if !p.fits(func(q *page) {
			q.add(q.say("label-alarm"), q.say(a.ID)+" ["+a.Subject+"], "+q.ago(a.SinceS))
		}, statusMost/3) {
			left++
		}
	}
	if left > 0 {
		p.add(p.say("label-alarm"), p.say("more", fmt.Sprint(left), "status --json"))
	}
	left = 0
	for _, g := range worstFirst(p.Groups) {
		if left > 0 || !p.fits(func(q *page) { q.group(&g) }, statusMost-100) {
			left++
		}
	}
	if left > 0 {
		p.add(p.say("label-group"), p.say("more", fmt.Sprint(left), "service"))
	}
}

// fits adds what f adds, unless the page grows beyond most bytes.
func (p *page) fits(f func(*page), most int) bool {
	n := len(p.rows)
	f(p)
	if len(p.text()) <= most {
		return true
	}
	p.rows = p.rows[:n]
	return false
}

func (p *page) verdict() string {
	v := p.Verdict
	s := p.yesNo(v.Usable)
	if !v.Usable {
		s += ": " + p.say("place-"+v.Place)
	}
	if v.Reason != "" {
		s += ", " + p.say(v.Reason, v.Args...)
	}
	return s + ", " + p.ago(v.SinceS)
}

func (p *page) group(g *control.Group) {
	mode := p.say("mode-" + g.Mode)
	if g.Step != "" {
		mode += ", " + p.say(g.Step)
	}
	if g.Hold {
		mode += " [" + p.say("label-hold") + "]"
	}
	p.add(p.say("label-group")+" "+g.Name, mode)
	p.row("label-since", p.since(g))
	p.rowIf("label-reason", p.say(g.Reason, g.Args...))
	for _, d := range p.Databases {
		if d.Group != g.Name {
			continue
		}
		s := d.Name + ": " + p.ready(&d)
		if d.Role != "primary" && d.CopyPercent >= 100 {
			s += "; " + p.say("standby-lag", size(d.LagBytes)+" / "+span(p.lang, d.LagS))
		}
		p.row("label-standby", s)
	}
	if g.Mode == "dc" && !g.Hold && len(g.Blocks) == 0 {
		return
	}
	if g.Mode == "local-read" {
		p.row("label-read-age", span(p.lang, g.ReadAgeS))
		p.rowIf("label-loss", p.loss(g.Loss))
	}
	blocks := p.reasons(g.Blocks)
	if g.HoldDownLeftS > 0 {
		blocks = strings.TrimPrefix(blocks+"; "+p.say("label-hold-down")+" "+span(p.lang, g.HoldDownLeftS), "; ")
	}
	p.rowIf("label-blocks", blocks)
	p.row("label-next", p.advice(g))
}

func (p *page) loss(s string) string {
	if s == "none" || s == "unknown" {
		return p.say("loss-" + s)
	}
	return s
}

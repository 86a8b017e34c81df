package console

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"komainu/appliance/control"
)

// statusMost is the size in bytes of `show status` at most: two seconds at
// 9600 baud.
const statusMost = 2048

// status is `show status`: why we are where we are, since when, how old the
// standby is, what blocks the return, what to do. What doesn't fit is counted.
func (p *page) status() {
	p.add(p.say("label-site"), p.Site+p.aside(p.say("box-"+p.Role)))
	p.add(p.say("label-time"), p.say("time-uptime", clock(p.Time), span(p.lang, p.UptimeS)))
	if p.Role == "town-hall" {
		p.add(p.say("label-remote"), p.verdict())
	}
	p.addIf(p.say("label-clock"), p.clockLine())
	p.addIf(p.say("label-lines"), p.lines())
	p.alarms(statusMost/3, "status --json")
	p.troubles(p.Box)
	if p.Role == "dc-db" {
		for i := range p.Databases {
			p.host(i)
		}
		return
	}
	left := 0
	for _, g := range worstFirst(p.Groups) {
		if left > 0 || !p.fits(func(q *page) { q.group(&g) }, statusMost-100) {
			left++
		}
	}
	if left > 0 {
		p.add(p.say("label-group"), p.say("more", fmt.Sprint(left), "service"))
	}
}

// alarms are as many as fit into a page of most bytes; the others are counted.
func (p *page) alarms(most int, where string) {
	left := 0
	for _, a := range together(p.Alarms) {
		if !p.fits(func(q *page) {
			q.add(q.say("label-alarm"), q.say("alarm", q.say("severity-"+a.Severity), q.say(a.ID), strings.ReplaceAll(a.Subject, q.Site+"/", ""), span(q.lang, a.SinceS)))
		}, most) {
			left++
		}
	}
	if left > 0 {
		p.add(p.say("label-alarm"), p.say("more", fmt.Sprint(left), where))
	}
}

// troubles are what is wrong with image and data partition, with what to do.
func (p *page) troubles(b *control.Box) {
	if b == nil {
		return
	}
	if b.Trial != nil {
		p.add(p.say("label-image"), p.say("status-trial", b.Version, span(p.lang, b.Trial.LeftS)))
	}
	for _, i := range b.GivenUp() {
		p.add(p.say("label-image"), p.say("status-given-up", append([]string{i.Version, i.Reason.Code}, i.Reason.Args...)...))
	}
	if b.Data == "none" {
		p.add(p.say("label-data"), p.say("status-data-none"))
	}
}

func (p *page) addIf(label, value string) {
	if value != "" {
		p.add(label, value)
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

// verdict: can the data centre be used, and if not, where is the fault?
func (p *page) verdict() string {
	v := p.Verdict
	s := p.say("usable")
	switch {
	case v.Usable:
	case v.Place == "none":
		s = p.say("not-known")
	default:
		s = p.say("not-usable", p.say("place-"+v.Place))
	}
	if v.Reason != "" {
		s = p.pair(s, p.say(v.Reason, v.Args...))
	}
	return s + p.aside(p.say("for", span(p.lang, v.SinceS)))
}

// lines is one word per path.
func (p *page) lines() string {
	var all []string
	for _, q := range p.Paths {
		s := q.Name + " " + p.say("state-"+q.State)
		switch {
		case q.State == "up":
			s += fmt.Sprintf(" %.1f ms", q.RTTMs)
		case !q.Carrier:
			s += p.aside(p.say("no-carrier"))
		}
		if q.Carries && q.State == "up" {
			s += " [" + p.say("label-active") + "]"
		}
		all = append(all, s)
	}
	return p.list(all...)
}

// together joins the subjects of alarms that say the same, critical ones
// first, the oldest first among equals.
func together(alarms []control.Alarm) []control.Alarm {
	var all []control.Alarm
	for _, a := range alarms {
		i := slices.IndexFunc(all, func(b control.Alarm) bool { return b.ID == a.ID && b.Severity == a.Severity })
		if i < 0 {
			all = append(all, a)
			continue
		}
		all[i].Subject += ", " + a.Subject
		all[i].SinceS = max(all[i].SinceS, a.SinceS)
	}
	slices.SortStableFunc(all, func(a, b control.Alarm) int {
		return cmp.Or(cmp.Compare(a.Severity, b.Severity), -cmp.Compare(a.SinceS, b.SinceS), cmp.Compare(a.ID, b.ID))
	})
	return all
}

func (p *page) group(g *control.Group) {
	p.add(p.say("label-group")+" "+g.Name, p.state(g))
	p.row("label-since", p.since(g))
	p.rowIf("label-reason", p.say(g.Reason, g.Args...))
	for _, d := range p.Databases {
		if d.Group != g.Name {
			continue
		}
		if d.Role == "primary" {
			p.row("label-database", p.pair(d.Name, p.role(d.Role, d.Reason)))
		} else {
			p.row("label-standby", p.copyLine(&d))
		}
	}
	blocks := p.reasons(g.Blocks)
	switch g.Mode {
	case "dc":
		p.rowIf("label-stays", blocks)
	case "local-read":
		p.row("label-read-age", span(p.lang, g.ReadAgeS))
		p.rowIf("label-loss", p.loss(g.Loss))
		p.rowIf("label-blocks", blocks)
	default:
		p.rowIf("label-lost", p.loss(g.Loss))
		p.rowIf("label-blocks", blocks)
	}
	p.row("label-next", p.advice(g))
}

// host is one database on its host in the data centre: the agent there gives
// each its own entry among the groups.
func (p *page) host(i int) {
	d, g := &p.Databases[i], &p.Groups[i]
	p.add(p.say("label-database")+" "+d.Name, p.state(g))
	p.row("label-group", g.Name)
	p.row("label-since", p.since(g))
	p.rowIf("label-reason", p.say(g.Reason, g.Args...))
	p.row("label-server", p.role(d.Role, d.Reason))
	p.rowIf("label-closed-by", p.reasons(g.Blocks))
	p.row("label-next", p.advice(g))
}

// copyLine is this box's copy: would it serve, and how far behind is it? How
// far is known only while the data centre is heard.
func (p *page) copyLine(d *control.Database) string {
	s := p.pair(d.Name, p.ready(d))
	switch {
	case d.Role != "standby" || d.CopyPercent < 100:
	case d.Remote.AgeS < 0 || d.Remote.AgeS > heardS:
		s = p.list(s, p.say("behind-unknown"))
	case d.LagBytes > 0 || d.LagS > 0:
		s = p.list(s, p.say("behind", p.lag(d)))
	}
	return s
}

// heardS is the age in seconds of the other side's word from which on it says
// nothing about now.
const heardS = 3

func (p *page) loss(s string) string {
	if s == "none" || s == "unknown" {
		return p.say("loss-" + s)
	}
	return s
}

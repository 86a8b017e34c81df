package console

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"komainu/appliance/control"
	"komainu/appliance/say"
)

// NTP are the commands about the clock; they ask the time daemon.
func NTP() []Command {
	return []Command{
		{
			Path: []string{"ntp", "step"}, Role: control.Operator, Help: "usage-ntp-step", Options: []string{"reason"},
			Run: stepClock,
		},
		{
			Path: []string{"show", "ntp"}, Role: control.Viewer, Help: "usage-show-ntp",
			Args: []Arg{{Name: "WHAT", Values: []string{"sources", "clients", "nts"}, Optional: true}},
			Run:  showNTP,
		},
	}
}

// clientsShown is how many clients `show ntp clients` lists.
const clientsShown = 20

func stepClock(ctx context.Context, in *Invocation) error {
	o := control.TimeStep{ID: rand.Text(), By: in.User, Reason: in.Option["reason"]}
	if strings.TrimSpace(o.Reason) == "" {
		return usage("refused-no-reason")
	}
	var r control.Reply
	if err := in.Time.Post(ctx, control.TimeStepPath, o, &r); err != nil {
		return in.withoutTime(ctx, err)
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

func showNTP(ctx context.Context, in *Invocation) error {
	var t control.TimeStatus
	var clients control.TimeClients
	err := error(nil)
	if in.Args[0] == "clients" {
		err = in.Time.Get(ctx, fmt.Sprint(control.TimeClientsPath, "?n=", clientsShown), &clients)
	} else {
		err = in.Time.Get(ctx, control.TimePath, &t)
	}
	if err != nil {
		return in.withoutTime(ctx, err)
	}
	p := &page{Status: control.Status{Site: t.Site, Time: t.Time, UptimeS: t.UptimeS, Alarms: t.Alarms}, lang: in.Lang}
	var part any
	switch in.Args[0] {
	case "sources":
		part = t.Sources
		p.timeSources(&t)
	case "clients":
		part = clients
		p.timeClients(&clients)
	case "nts":
		ours := []control.TimeSource{}
		for _, s := range t.Sources {
			if s.Auth == "nts" {
				ours = append(ours, s)
			}
		}
		part = map[string]any{"server": t.NTS, "sources": ours}
		p.timeNTS(t.NTS, ours)
	default:
		part = t
		p.timeStatus(&t)
	}
	if in.JSON {
		e := json.NewEncoder(in.Out)
		e.SetIndent("", "  ")
		return e.Encode(part)
	}
	_, err = fmt.Fprint(in.Out, p.text())
	return err
}

// withoutTime says why the time daemon can't be asked: the agent knows whether
// there should be one.
func (in *Invocation) withoutTime(ctx context.Context, err error) error {
	var e *control.Error
	if !errors.As(err, &e) || e.Code != "agent-unreachable" {
		return err
	}
	var st control.Status
	if in.Agent.Get(ctx, control.StatusPath, &st) == nil && st.Clock == nil {
		return &control.Error{Code: "time-none"}
	}
	return &control.Error{Code: "time-unreachable", Args: e.Args}
}

// clockLine is the clock's line in `show status`.
func (p *page) clockLine() string {
	c := p.Clock
	switch {
	case c == nil:
		return ""
	case !c.Reachable:
		return p.say("clock-silent")
	}
	s := p.clockState(c.State, c.SinceS, c.Holdover)
	if len(c.Reasons) > 0 {
		s = p.pair(s, p.reasons(c.Reasons[:1])) // show ntp has the others
	}
	if c.State == "synchronised" {
		s = p.list(s, p.bound(c.BoundS), p.say("clock-stratum", fmt.Sprint(c.Stratum))) + p.aside(c.Reference)
	}
	return s
}

// clockState is the state and since when; of a holdover also until when.
func (p *page) clockState(state string, since float64, h *control.Holdover) string {
	if state != "holdover" || h == nil {
		return p.say("clock-"+state) + p.aside(p.say("for", span(p.lang, since)))
	}
	until := ""
	if !h.LimitAt.IsZero() {
		until = p.about(h.LimitAt)
	}
	return p.say("clock-holdover", coarse(p.lang, h.ForS), p.amount(h.BoundS), p.amount(h.LimitS), until)
}

// about is a moment of today by its hour, any other with its day.
func (p *page) about(at time.Time) string {
	at = at.In(p.Time.Location())
	if at.Format(time.DateOnly) == p.Time.Format(time.DateOnly) {
		return at.Format("15:04")
	}
	return at.Format("2006-01-02 15:04")
}

func (p *page) bound(s float64) string {
	if s < 0 {
		return p.say("unknown")
	}
	return p.say("clock-bound", p.amount(s))
}

// timeStatus is `show ntp`: is the clock right, how do we know, and if not,
// what to do.
func (p *page) timeStatus(t *control.TimeStatus) {
	p.add(p.say("label-site"), t.Site)
	p.add(p.say("label-time"), p.say("time-uptime", clock(t.Time), span(p.lang, t.UptimeS)))
	p.add(p.say("label-clock"), p.clockState(t.State, t.SinceS, t.Holdover))
	p.addIf(p.say("label-reason"), p.reasons(t.Reasons))
	if t.Advice.Code != "" {
		p.add(p.say("label-next"), p.order(t.Advice))
	}
	p.addIf(p.say("label-follows"), p.followed(t))
	p.add(p.say("label-stratum"), p.stratum(t.Stratum, t.RefID))
	p.add(p.say("label-truth"), p.bound(t.BoundS))
	switch {
	case t.State == "panic":
		p.add(p.say("label-offset"), p.signed(t.OffsetS))
	case t.BoundS >= 0 && t.NoClock:
		p.add(p.say("label-offset"), p.say("clock-measured", p.signed(t.OffsetS)))
	case t.BoundS >= 0:
		p.add(p.say("label-offset"), p.say("clock-offset", p.signed(t.OffsetS)))
	}
	if t.FrequencyErrPPM >= 0 {
		p.add(p.say("label-drift"), fmt.Sprintf("%+.3f ppm +- %.3f ppm", t.FrequencyPPM, t.FrequencyErrPPM))
	}
	if t.Virtual != "" {
		p.add(p.say("label-machine"), p.say("clock-virtual", t.Virtual))
	}
	if t.NoClock {
		p.add(p.say("label-machine"), p.say("clock-observing"))
	}
	p.add(p.say("label-leap"), p.leap(&t.LeapTable))
	p.alarms(statusMost/2, "ntp --json")
	p.served(&t.Server)
	left := 0
	for _, s := range t.Sources {
		if left > 0 || !p.fits(func(q *page) { q.add("  "+title(t.Sources, &s), q.sourceLine(&s)) }, statusMost-80) {
			left++
		}
	}
	if left > 0 {
		p.add(p.say("label-source"), p.say("more", fmt.Sprint(left), "ntp sources"))
	}
}

func (p *page) stratum(n int, refID string) string {
	if refID == "" {
		return fmt.Sprint(n)
	}
	return fmt.Sprint(n) + p.aside(refID)
}

func (p *page) followed(t *control.TimeStatus) string {
	var with []string
	for _, s := range t.Sources {
		if s.State == "combined" {
			with = append(with, s.Name)
		}
	}
	if t.Source == "" || with == nil {
		return t.Source
	}
	return t.Source + p.aside(p.pair(p.say("source-combined"), strings.Join(slices.Compact(with), ", ")))
}

func (p *page) leap(l *control.TimeLeap) string {
	s := p.say("leap-no-list")
	if !l.Expires.IsZero() {
		code := "leap-list"
		if l.Expires.Before(p.Time) {
			code = "leap-list-old"
		}
		s = p.say(code, fmt.Sprint(l.TAI), l.Expires.In(p.Time.Location()).Format(time.DateOnly))
	}
	what := map[int]string{1: "leap-inserted", -1: "leap-deleted"}[l.Pending]
	if what == "" {
		return s
	}
	return p.list(p.say("leap-at", what, clock(l.At.In(p.Time.Location()))), s)
}

// served is whom the server answers.
func (p *page) served(s *control.TimeServer) {
	if len(s.Listen) == 0 {
		p.add(p.say("label-served"), p.say("clock-serves-nobody"))
		return
	}
	p.add(p.say("label-listens"), strings.Join(s.Listen, ", "))
	p.add(p.say("label-served"), p.list(fmt.Sprint(s.Clients), p.pair(p.say("label-requests"), p.counts(s.Requests)), p.pair(p.say("label-drops"), p.counts(s.Drops))))
}

// counts is the sum of m and what it is made of, the largest first.
func (p *page) counts(m map[string]uint64) string {
	sum, parts := uint64(0), []string{}
	names := slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b)) })
	for _, name := range names {
		if sum += m[name]; m[name] > 0 {
			parts = append(parts, fmt.Sprint(name, " ", m[name]))
		}
	}
	if len(parts) < 2 {
		return fmt.Sprint(sum)
	}
	return fmt.Sprint(sum) + p.aside(strings.Join(parts, ", "))
}

// title is the name of a source; servers of a pool have only their addresses
// of their own.
func title(all []control.TimeSource, s *control.TimeSource) string {
	if slices.ContainsFunc(all, func(b control.TimeSource) bool { return b.Name == s.Name && b.Address != s.Address }) {
		return s.Address
	}
	return s.Name
}

// sourceLine is a source in one line: its state, and what makes it so.
func (p *page) sourceLine(s *control.TimeSource) string {
	state := p.sourceState(s)
	switch {
	case s.LastAgeS < 0:
		return state
	case s.State == "silent":
		return p.list(state, p.pair(p.say("label-last"), p.ago(s.LastAgeS)))
	}
	return p.list(state, p.signed(s.OffsetS), p.say("clock-stratum", fmt.Sprint(s.Stratum)), p.pair(p.say("label-reach"), fmt.Sprintf("%03o", s.Reach)))
}

func (p *page) sourceState(s *control.TimeSource) string {
	state, reason := p.say("source-"+s.State), p.say(s.Reason.Code, s.Reason.Args...)
	switch {
	case reason == "":
		return state
	case s.State == "silent" || s.State == "unresolved":
		return reason // which says as much
	default:
		return p.pair(state, reason)
	}
}

// amount shows a small time: two or three digits with their unit.
func (p *page) amount(s float64) string {
	switch a := math.Abs(s); {
	case a < 0.9995e-6:
		return fmt.Sprintf("%.0f ns", s*1e9)
	case a < 0.9995e-3:
		return digits(s*1e6) + " us"
	case a < 0.9995:
		return digits(s*1e3) + " ms"
	case a < 60:
		return digits(s) + " s"
	default:
		return map[bool]string{true: "-"}[s < 0] + span(p.lang, a)
	}
}

// signed is an offset: positive when our clock must go forward.
func (p *page) signed(s float64) string {
	if s < 0 {
		return p.amount(s)
	}
	return "+" + p.amount(s)
}

func digits(v float64) string {
	if math.Abs(v) < 9.95 {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// coarse is span in one unit.
func coarse(lang string, s float64) string {
	for _, unit := range []float64{86400, 3600, 60, 1} {
		if s >= unit {
			return span(lang, math.Floor(s/unit)*unit)
		}
	}
	return span(lang, s)
}

// ShowQuery shows what a question to one server brought: `timed --query HOST`.
func ShowQuery(out io.Writer, lang string, q control.TimeQuery) error {
	p := &page{lang: lang}
	p.add(q.Host, q.Address)
	if q.Failed.Code != "" {
		p.row("label-reason", p.say(q.Failed.Code, q.Failed.Args...))
		_, err := fmt.Fprint(out, p.text())
		return err
	}
	p.row("label-offset", p.signed(q.OffsetS))
	p.row("label-rtt", p.amount(q.DelayS))
	p.row("label-truth", p.bound(q.RootDistanceS))
	p.row("label-stratum", fmt.Sprint(q.Stratum))
	p.rowIf("label-reference", q.RefID)
	p.row("label-leap", p.say(fmt.Sprint("leap-", q.Leap)))
	p.row("label-auth", p.authenticated(q.Auth, q.AuthOK))
	p.row("label-answers", p.say("query-answers", fmt.Sprint(q.Replies), fmt.Sprint(q.Queries)))
	_, err := fmt.Fprint(out, p.text())
	return err
}

func (p *page) authenticated(how string, ok bool) string {
	switch {
	case how == "none":
		return p.say("auth-none")
	case ok:
		return p.say("query-auth-good", "auth-"+how)
	default:
		return p.say("query-auth-bad", "auth-"+how)
	}
}

package console

import (
	"fmt"
	"math/bits"
	"strings"

	"komainu/appliance/control"
)

// timeSources is `show ntp sources`.
func (p *page) timeSources(t *control.TimeStatus) {
	for _, s := range t.Sources {
		p.add(p.say("label-source")+" "+title(t.Sources, &s), p.sourceState(&s))
		p.rowIf("label-address", s.Address)
		p.row("label-reach", fmt.Sprintf("%03o", s.Reach)+p.aside(p.say("reach-of", fmt.Sprint(bits.OnesCount8(s.Reach)))))
		if s.PollS > 0 {
			p.row("label-every", span(p.lang, s.PollS))
		}
		if s.LastAgeS < 0 {
			p.row("label-last", p.say("never-heard"))
			continue
		}
		p.row("label-last", p.ago(s.LastAgeS))
		p.row("label-offset", p.signed(s.OffsetS)+p.aside(p.say("label-jitter")+" "+p.amount(s.JitterS)))
		p.row("label-rtt", p.amount(s.DelayS))
		p.row("label-truth", p.bound(s.RootDistanceS))
		p.row("label-stratum", p.stratum(s.Stratum, s.RefID))
		p.row("label-auth", p.authenticated(s.Auth, s.AuthOK))
		if s.Leap != 0 {
			p.row("label-leap", p.say(fmt.Sprint("leap-", s.Leap)))
		}
	}
	if len(t.Sources) == 0 {
		p.add(p.say("none-source"), "")
	}
}

// timeClients is `show ntp clients`: a table, since there are many.
func (p *page) timeClients(c *control.TimeClients) {
	if len(c.Clients) == 0 {
		p.add(p.say("none-client"), "")
		return
	}
	address := len("255.255.255.255")
	for _, x := range c.Clients {
		address = max(address, len(x.Address))
	}
	line := func(cells ...string) {
		s := cells[0] + strings.Repeat(" ", max(0, address-width(cells[0])))
		for i, w := range []int{9, 7, 10, 7, 3} {
			s += " " + strings.Repeat(" ", max(0, w-width(cells[i+1]))) + cells[i+1]
		}
		p.add(strings.TrimRight(s, " "), "")
	}
	line(p.say("label-address"), p.say("label-requests"), p.say("label-drops"), p.say("label-last"), p.say("label-every"), "")
	for _, x := range c.Clients {
		mark := map[string]string{"key": "K", "nts": "N"}[x.Auth]
		if x.Interleaved {
			mark = "I" + mark
		}
		every := "-"
		if x.IntervalS > 0 {
			every = coarse(p.lang, x.IntervalS)
		}
		line(x.Address, fmt.Sprint(x.Requests), fmt.Sprint(x.Drops), coarse(p.lang, x.LastAgeS), every, mark)
	}
	p.add(p.say("client-marks", fmt.Sprint(len(c.Clients)), fmt.Sprint(c.Total)), "")
}

// timeNTS is `show ntp nts`: the key exchange for our clients, and the sources
// that are asked with it.
func (p *page) timeNTS(n *control.TimeNTSServer, sources []control.TimeSource) {
	if n != nil {
		p.add(p.say("label-listens"), strings.Join(n.Listen, ", "))
		p.add(p.say("label-certificate"), clock(n.Certificate.In(p.Time.Location()))+p.aside(p.left(n)))
		p.add(p.say("label-exchanges"), p.counts(n.KE))
		p.add(p.say("label-cookies"), p.list(fmt.Sprint(n.Keys), p.say("for", span(p.lang, n.KeyAgeS))))
	}
	for _, s := range sources {
		p.add(p.say("label-source")+" "+s.Name, p.sourceState(&s))
		p.row("label-auth", p.authenticated(s.Auth, s.AuthOK))
		p.row("label-left", fmt.Sprint(s.NTSCookies))
	}
	if n == nil && len(sources) == 0 {
		p.add(p.say("none-nts"), "")
	}
}

// left is how long the certificate still is good.
func (p *page) left(n *control.TimeNTSServer) string {
	if d := n.Certificate.Sub(p.Time); d > 0 {
		return p.say("left", coarse(p.lang, d.Seconds()))
	}
	return p.say("expired")
}

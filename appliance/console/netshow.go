package console

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"komainu/appliance/control"
)

// network asks the agent, and picks the links that a word names; all without one.
func (in *Invocation) network(ctx context.Context, word string, want func(control.NetLink) bool) (control.Network, error) {
	var n control.Network
	if err := in.Agent.Get(ctx, control.NetworkPath, &n); err != nil {
		return n, err
	}
	all := n.Links
	n.Links = []control.NetLink{}
	var known []control.NetLink
	for _, l := range all {
		if !want(l) {
			continue
		}
		known = append(known, l)
		if word == "" || named(l, word) {
			n.Links = append(n.Links, l)
		}
	}
	if word != "" && len(n.Links) == 0 {
		return n, &control.Error{Code: "link-none", Args: []string{word, strings.Join(linkNames(known), ", ")}}
	}
	return n, nil
}

func showInterface(ctx context.Context, in *Invocation) error {
	word := in.Args[0]
	n, err := in.network(ctx, word, func(l control.NetLink) bool { return l.Name != "lo" || word == "lo" })
	if err != nil {
		return err
	}
	if in.JSON {
		return in.lay(n.Links)
	}
	p := &page{lang: in.Lang}
	if word == "" {
		p.troubled(n)
	}
	for _, l := range n.Links {
		p.add(linkTitle(l), p.linkState(l))
		p.rowIf("label-addresses", strings.Join(l.Addresses, "\n"))
		p.linkErrors(l)
		if word != "" {
			p.linkDetail(l)
		}
	}
	_, err = fmt.Fprint(in.Out, p.text())
	return err
}

// troubled is what is wrong with the network as a whole.
func (p *page) troubled(n control.Network) {
	for _, r := range n.Problems {
		p.add(p.say("label-problem"), p.say(r.Code, r.Args...))
	}
	if !n.Settled && len(n.Problems) == 0 {
		p.add(p.say("label-problem"), p.say("link-unsettled"))
	}
}

// linkTitle is the name in the configuration, with the kernel's where it differs.
func linkTitle(l control.NetLink) string {
	if l.Interface == "" || l.Interface == l.Name {
		return l.Name
	}
	return l.Interface + " (" + l.Name + ")"
}

// linkState is one line; what is wrong begins with "!".
func (p *page) linkState(l control.NetLink) string {
	var s []string
	switch {
	case !l.Up:
		s = append(s, p.say("link-off"))
	case !l.Carrier:
		s = append(s, p.say("link-no-carrier"))
	case l.Mbit > 0:
		s = append(s, p.say("link-speed", strconv.Itoa(l.Mbit)))
	default:
		s = append(s, p.say("link-up"))
	}
	if l.Up && l.Carrier && l.Duplex == "half" {
		s = append(s, p.say("link-half"))
	}
	if l.Zone != "" {
		s = append(s, p.pair(p.say("label-zone"), l.Zone))
	}
	if l.Master != "" {
		s = append(s, p.pair(p.say("label-member"), l.Master))
	}
	return p.list(s...)
}

func (p *page) linkErrors(l control.NetLink) {
	c := l.Counters
	var s []string
	if c.RxErrors+c.TxErrors > 0 {
		s = append(s, p.say("link-errors", fmt.Sprint(c.RxErrors), fmt.Sprint(c.TxErrors)))
	}
	if c.RxDropped+c.TxDropped > 0 {
		s = append(s, p.say("link-drops", fmt.Sprint(c.RxDropped), fmt.Sprint(c.TxDropped)))
	}
	p.rowIf("label-errors", p.list(s...))
}

func (p *page) linkDetail(l control.NetLink) {
	p.row("label-kind", l.Kind)
	p.rowIf("label-place", l.Place)
	p.rowIf("label-mac", l.MAC)
	p.row("label-mtu", strconv.Itoa(l.MTU))
	p.row("label-received", p.say("link-traffic", fmt.Sprint(l.Counters.RxPackets), size(l.Counters.RxBytes)))
	p.row("label-sent", p.say("link-traffic", fmt.Sprint(l.Counters.TxPackets), size(l.Counters.TxBytes)))
	if l.Bond != nil {
		p.bond(l.Bond)
	}
}

func showBond(ctx context.Context, in *Invocation) error {
	n, err := in.network(ctx, in.Args[0], func(l control.NetLink) bool { return l.Bond != nil })
	if err != nil {
		return err
	}
	if in.JSON {
		return in.lay(n.Links)
	}
	p := &page{lang: in.Lang}
	for _, l := range n.Links {
		p.add(p.say("label-bond")+" "+linkTitle(l), p.linkState(l))
		p.bond(l.Bond)
	}
	if len(n.Links) == 0 {
		p.add(p.say("bond-none"), "")
	}
	_, err = fmt.Fprint(in.Out, p.text())
	return err
}

func (p *page) bond(b *control.Bond) {
	p.row("label-bond-mode", b.Mode)
	if b.Mode == "802.3ad" {
		p.row("label-partner", cmp.Or(b.Partner, p.say("bond-no-partner")))
	} else {
		p.row("label-in-use", cmp.Or(b.Active, p.say("bond-no-active")))
	}
	for _, port := range b.Ports {
		s := []string{p.say("link-no-carrier")}
		switch {
		case port.Active:
			s[0] = p.say("bond-active")
		case port.Carrier:
			s[0] = p.say("bond-spare")
		}
		if port.Failures > 0 {
			s = append(s, p.say("bond-failures", strconv.Itoa(port.Failures)))
		}
		p.add("  "+p.say("label-port")+" "+port.Name, p.list(s...))
	}
}

// showFirewall lists the rules that refused most first.
func showFirewall(ctx context.Context, in *Invocation) error {
	var n control.Network
	if err := in.Agent.Get(ctx, control.NetworkPath, &n); err != nil {
		return err
	}
	all := slices.Clone(n.Refused)
	slices.SortStableFunc(all, func(a, b control.Refusals) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), strings.Compare(a.Rule, b.Rule))
	})
	if in.JSON {
		return in.lay(append([]control.Refusals{}, all...))
	}
	p := &page{lang: in.Lang}
	none := true
	for _, r := range all {
		if r.Packets > 0 {
			p.add(r.Rule, p.say("firewall-refused", fmt.Sprint(r.Packets), size(r.Bytes)))
			none = false
		}
	}
	if none {
		p.add(p.say("firewall-none"), "")
	}
	_, err := fmt.Fprint(in.Out, p.text())
	return err
}

// accessUsual and accessMost are how many lines `show log access` has.
const (
	accessUsual = 20
	accessMost  = 1000
)

// showAccess tells time, terminal, operation and flag of refused accesses
// (AT-143).
func showAccess(ctx context.Context, in *Invocation) error {
	n, err := countIn(in.Args[0], accessUsual, 1, accessMost)
	if err != nil {
		return err
	}
	var all []control.AccessEntry
	if err := in.Agent.Get(ctx, fmt.Sprint(control.AccessPath, "?last=", n), &all); err != nil {
		return err
	}
	if in.JSON {
		return in.lay(append([]control.AccessEntry{}, all...))
	}
	p := &page{lang: in.Lang}
	for _, e := range all {
		count := ""
		if e.Count > 1 {
			count = strconv.Itoa(e.Count)
		}
		p.add(e.Time.Format("2006-01-02 15:04:05"), p.say("access-entry", e.Proto, terminal(e.From, e.FromPort), terminal(e.To, e.ToPort), count, e.Rule, e.In))
	}
	if len(all) == 0 {
		p.add(p.say("access-none"), "")
	}
	_, err = fmt.Fprint(in.Out, p.text())
	return err
}

// terminal is an address with its port, where there is one.
func terminal(address string, port uint16) string {
	switch {
	case port == 0:
		return address
	case strings.Contains(address, ":"):
		return "[" + address + "]:" + strconv.Itoa(int(port))
	}
	return address + ":" + strconv.Itoa(int(port))
}

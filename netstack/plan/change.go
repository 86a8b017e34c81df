package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"komainu/netstack/spec"
)

// Kind says what a change does.
type Kind uint8

// The kinds.
const (
	AddAddress Kind = iota
	DeleteAddress
	ReplaceRoute // adds it, or replaces the one to the same prefix of the same table and metric
	DeleteRoute
	AddRule
	DeleteRule
	AddLink    // makes Link, down, without master or addresses
	SetLink    // changes what differs between Was and Link: alias, MTU, master, options, up
	DeleteLink // Was; its addresses and routes go with it
)

// Change is one step. Kind says which of the other fields is meant. What is
// there already (an address to add), or gone already (one to delete), is no
// error for who applies it.
type Change struct {
	Kind    Kind
	Address spec.Address
	Route   spec.Route
	Rule    spec.Rule
	Link    spec.Link // AddLink, SetLink: as it should be; an empty Label takes the alias away
	Was     spec.Link // SetLink, DeleteLink: as it is
}

// String is the change for people: "set link bond0: mtu 1500 -> 9000, up".
func (c Change) String() string {
	switch c.Kind {
	case AddAddress:
		return fmt.Sprintf("add address %s on %s", c.Address.Prefix, c.Address.Link)
	case DeleteAddress:
		return fmt.Sprintf("delete address %s on %s", c.Address.Prefix, c.Address.Link)
	case ReplaceRoute:
		return "replace route " + routeText(c.Route)
	case DeleteRoute:
		return "delete route " + routeText(c.Route)
	case AddRule, DeleteRule:
		verb := "add"
		if c.Kind == DeleteRule {
			verb = "delete"
		}
		mark := ""
		if c.Rule.Mask != 0 {
			mark = fmt.Sprintf(" mark 0x%x/0x%x", c.Rule.Mark, c.Rule.Mask)
		}
		return fmt.Sprintf("%s rule %d from %s%s table %d", verb, c.Rule.Priority, c.Rule.From, mark, c.Rule.Table)
	case AddLink:
		return fmt.Sprintf("add link %s (%s)", c.Link.Name, linkText(c.Link))
	case SetLink:
		return "set link " + c.Link.Name + ": " + strings.Join(differences(c.Was, c.Link), ", ")
	default:
		return "delete link " + c.Was.Name
	}
}

// linkText is what a new link is: "vlan 110 on bond0, mtu 1500".
func linkText(l spec.Link) string {
	s := string(l.Kind)
	switch l.Kind {
	case spec.Bond:
		s += " " + strings.Join(differences(spec.Link{}, spec.Link{Kind: l.Kind, Bond: l.Bond}), ", ")
	case spec.VLAN:
		s += fmt.Sprintf(" %d on %s", l.VLAN, l.Parent)
	case spec.VRF:
		s += fmt.Sprintf(" table %d", l.Table)
	case spec.XFRM:
		s += fmt.Sprintf(" if_id %d", l.IfID)
	}
	if l.MTU != 0 {
		s += fmt.Sprintf(", mtu %d", l.MTU)
	}
	return s
}

// differences says what a SetLink changes, in the order in which the settings
// stand in spec.Link.
func differences(was, is spec.Link) []string {
	var d []string
	add := func(name string, a, b any) {
		x, y := fmt.Sprint(a), fmt.Sprint(b)
		switch {
		case x == y:
		case x == "" || x == "0" || x == "[]":
			d = append(d, name+" "+y)
		case y == "":
			d = append(d, "no "+name+" (was "+x+")")
		default:
			d = append(d, name+" "+x+" -> "+y)
		}
	}
	add("label", was.Label, is.Label)
	add("mtu", was.MTU, is.MTU)
	add("master", was.Master, is.Master)
	if is.Kind == spec.Bond {
		a, b := was.Bond, is.Bond
		add("mode", a.Mode, b.Mode)
		add("miimon", a.MIIMon, b.MIIMon)
		add("arp interval", a.ARPMon, b.ARPMon)
		add("arp targets", targets(a.Targets), targets(b.Targets))
		add("primary", a.Primary, b.Primary)
		add("lacp rate", rate(a), rate(b))
		add("min links", a.MinLinks, b.MinLinks)
	}
	if is.Kind == spec.Bridge && was.STP != is.STP {
		d = append(d, map[bool]string{true: "stp", false: "no stp"}[is.STP])
	}
	if was.Up != is.Up {
		d = append(d, map[bool]string{true: "up", false: "down"}[is.Up])
	}
	return d
}

func rate(b spec.BondOptions) string {
	switch {
	case b.Mode != spec.LACP:
		return ""
	case b.Fast:
		return "fast"
	}
	return "slow"
}

// targets is the sorted text of ARP targets, whose order has no meaning.
func targets(list []netip.Addr) string {
	list = slices.SortedFunc(slices.Values(list), netip.Addr.Compare)
	var s []string
	for _, a := range list {
		s = append(s, a.String())
	}
	return strings.Join(s, " ")
}

func routeText(r spec.Route) string {
	s := r.To.String()
	if r.Via.IsValid() {
		s += " via " + r.Via.String()
	}
	s += " on " + r.Link
	if r.Source.IsValid() {
		s += " from " + r.Source.String()
	}
	if r.Table != 0 {
		s += fmt.Sprintf(" table %d", r.Table)
	}
	if r.Metric != 0 {
		s += fmt.Sprintf(" metric %d", r.Metric)
	}
	if r.MTU != 0 {
		s += fmt.Sprintf(" mtu %d", r.MTU)
	}
	return s
}

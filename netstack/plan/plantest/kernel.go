// Package plantest holds a small kernel of values for tests: it applies the
// changes of netstack/plan with the rules of Linux 6.1, refuses what that
// refuses, and drops what that drops. It is written from the kernel's side and
// shares no code with the planner. Start reading at Kernel.Apply.
package plantest

import (
	"fmt"
	"maps"
	"slices"

	"komainu/netstack/plan"
	"komainu/netstack/spec"
)

// Kernel is one network namespace.
type Kernel struct {
	// Promote is the sysctl promote_secondaries: the secondary addresses of a
	// deleted primary stay.
	Promote bool

	links     []*spec.Link
	own       map[string]int    // a port's MTU before it joined a bond
	primary   map[string]string // by bond, the wish, also while it is no port
	addresses []spec.Address
	routes    []spec.Route
	rules     []spec.Rule
	index     int
}

// New returns a kernel with these links and what is on them. Link.Index is given
// by the kernel, Link.Ours follows Label.
func New(n spec.Network) *Kernel {
	k := &Kernel{own: map[string]int{}, primary: map[string]string{}}
	for _, l := range n.Links {
		k.index++
		l.Index, l.Ours = k.index, l.Label != ""
		k.links = append(k.links, &l)
		k.primary[l.Name] = l.Bond.Primary
	}
	k.addresses = slices.Clone(n.Addresses)
	for _, r := range n.Routes {
		k.routes = append(k.routes, defaults(r))
	}
	k.rules = slices.Clone(n.Rules)
	return k
}

// Clone is a copy that changes apart from k.
func (k *Kernel) Clone() *Kernel {
	c := *k
	c.links = nil
	for _, l := range k.links {
		l := *l
		c.links = append(c.links, &l)
	}
	c.own, c.primary = maps.Clone(k.own), maps.Clone(k.primary)
	c.addresses, c.routes, c.rules = slices.Clone(k.addresses), slices.Clone(k.routes), slices.Clone(k.rules)
	return &c
}

// Observe is the network as a driver would see it.
func (k *Kernel) Observe() spec.Network {
	var n spec.Network
	for _, l := range k.links {
		o := *l
		if p := k.link(o.Bond.Primary); p == nil || p.Master != o.Name || o.Bond.Mode != spec.ActiveBackup {
			o.Bond.Primary = ""
		}
		n.Links = append(n.Links, o)
	}
	n.Addresses, n.Routes, n.Rules = slices.Clone(k.addresses), slices.Clone(k.routes), slices.Clone(k.rules)
	return n
}

// Apply makes one change, or says why the kernel refuses it.
func (k *Kernel) Apply(c plan.Change) error {
	var err error
	switch c.Kind {
	case plan.AddAddress:
		err = k.addAddress(c.Address)
	case plan.DeleteAddress:
		k.deleteAddress(c.Address)
	case plan.ReplaceRoute:
		err = k.replaceRoute(defaults(c.Route))
	case plan.DeleteRoute:
		r := defaults(c.Route)
		k.routes = slices.DeleteFunc(k.routes, func(o spec.Route) bool {
			return sameKey(o, r) && o.Via == r.Via && o.Link == r.Link
		})
	case plan.AddRule:
		k.rules = append(k.rules, c.Rule)
	case plan.DeleteRule:
		k.rules = slices.DeleteFunc(k.rules, func(r spec.Rule) bool { return r == c.Rule })
	case plan.AddLink:
		err = k.addLink(c.Link)
	case plan.SetLink:
		err = k.setLink(c.Was, c.Link)
	case plan.DeleteLink:
		if l := k.link(c.Was.Name); l == nil {
			err = fmt.Errorf("no such device")
		} else if l.Kind == spec.Port {
			err = fmt.Errorf("operation not supported: hardware")
		} else {
			k.unregister(l)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c, err)
	}
	return nil
}

func (k *Kernel) link(name string) *spec.Link {
	for _, l := range k.links {
		if l.Name == name {
			return l
		}
	}
	return nil
}

func (k *Kernel) addLink(l spec.Link) error {
	if k.link(l.Name) != nil {
		return fmt.Errorf("file exists")
	}
	mtu := 1500
	switch l.Kind {
	case spec.Bond, spec.Bridge, spec.Dummy, spec.VRF:
	case spec.XFRM:
		if l.IfID == 0 {
			return fmt.Errorf("invalid argument: if_id 0")
		}
		for _, o := range k.links {
			if o.Kind == spec.XFRM && o.IfID == l.IfID {
				return fmt.Errorf("file exists: if_id %d is %s's", l.IfID, o.Name)
			}
		}
	case spec.VLAN:
		parent := k.link(l.Parent)
		if parent == nil {
			return fmt.Errorf("no such device: %s", l.Parent)
		}
		for _, o := range k.links {
			if o.Kind == spec.VLAN && o.Parent == l.Parent && o.VLAN == l.VLAN {
				return fmt.Errorf("file exists: VLAN %d is %s", l.VLAN, o.Name)
			}
		}
		if mtu = parent.MTU; l.MTU > mtu {
			return fmt.Errorf("numerical result out of range: mtu %d above %d", l.MTU, mtu)
		}
	default:
		return fmt.Errorf("operation not supported: a %s can't be made", l.Kind)
	}
	if l.MTU == 0 {
		l.MTU = mtu
	}
	k.index++
	k.primary[l.Name] = l.Bond.Primary
	l.Index, l.Ours, l.Up, l.Master = k.index, l.Label != "", false, ""
	k.links = append(k.links, &l)
	return nil
}

// setLink does what differs between was and to, in the order of do_setlink:
// options, MTU, alias, master, flags.
func (k *Kernel) setLink(was, to spec.Link) error {
	l := k.link(to.Name)
	if l == nil {
		return fmt.Errorf("no such device")
	}
	if l.Kind == spec.Bond {
		if err := k.setBond(l, was.Bond, to.Bond); err != nil {
			return err
		}
	}
	if was.STP != to.STP {
		l.STP = to.STP
	}
	if was.MTU != to.MTU {
		if err := k.setMTU(l, to.MTU); err != nil {
			return err
		}
	}
	if was.Label != to.Label {
		l.Label, l.Ours = to.Label, to.Label != ""
	}
	if was.Master != to.Master && l.Master != to.Master {
		if err := k.setMaster(l, to.Master); err != nil {
			return err
		}
	}
	if was.Up != to.Up && l.Up != to.Up {
		if to.Up {
			return k.open(l)
		}
		k.close(l)
	}
	return nil
}

func (k *Kernel) setBond(l *spec.Link, was, to spec.BondOptions) error {
	if was.Mode != to.Mode {
		for _, o := range k.links {
			if o.Master == l.Name {
				return fmt.Errorf("directory not empty: mode with port %s", o.Name)
			}
		}
		if l.Up {
			return fmt.Errorf("operation not permitted: mode while up")
		}
	}
	if to.MIIMon != 0 && to.ARPMon != 0 {
		return fmt.Errorf("invalid argument: miimon with arp interval")
	}
	if to.Mode == spec.LACP && to.ARPMon != 0 {
		return fmt.Errorf("permission denied: arp interval with 802.3ad")
	}
	if to.Mode == spec.LACP && was.Mode == to.Mode && was.Fast != to.Fast && l.Up {
		return fmt.Errorf("operation not permitted: lacp rate while up")
	}
	if was.Primary != to.Primary {
		k.primary[l.Name] = to.Primary
	}
	l.Bond = to
	l.Bond.Primary = k.primary[l.Name]
	return nil
}

func (k *Kernel) setMTU(l *spec.Link, mtu int) error {
	if p := k.link(l.Parent); l.Kind == spec.VLAN && p != nil && mtu > p.MTU {
		return fmt.Errorf("numerical result out of range: mtu %d above %d", mtu, p.MTU)
	}
	l.MTU = mtu
	if mtu < minMTU6 {
		for _, a := range slices.Clone(k.addresses) {
			if a.Link == l.Name && a.Prefix.Addr().Is6() {
				k.deleteAddress(a)
			}
		}
		k.routes = slices.DeleteFunc(k.routes, func(r spec.Route) bool { return r.Link == l.Name && r.To.Addr().Is6() })
	}
	for _, o := range slices.Clone(k.links) {
		if l.Kind == spec.Bond && o.Master == l.Name {
			if err := k.setMTU(o, mtu); err != nil {
				return err
			}
		}
		if o.Kind == spec.VLAN && o.Parent == l.Name && o.MTU > mtu {
			if err := k.setMTU(o, mtu); err != nil {
				return err
			}
		}
	}
	return nil
}

func (k *Kernel) setMaster(l *spec.Link, master string) error {
	if old := k.link(l.Master); old != nil {
		l.Master = ""
		switch old.Kind {
		case spec.Bond:
			k.close(l)
			if err := k.setMTU(l, k.own[l.Name]); err != nil {
				return err
			}
		case spec.VRF:
			k.cycle(l)
		}
	}
	if master == "" {
		return nil
	}
	m := k.link(master)
	switch {
	case m == nil:
		return fmt.Errorf("no such device: %s", master)
	case m.Kind == spec.Bond:
		if l.Up {
			return fmt.Errorf("operation not permitted: device can not be enslaved while up")
		}
		l.Master = master
		k.own[l.Name] = l.MTU
		if err := k.setMTU(l, m.MTU); err != nil {
			return err
		}
		k.flush6(l)
		return k.open(l)
	case m.Kind == spec.VRF:
		l.Master = master
		k.cycle(l)
	case m.Kind == spec.Bridge:
		l.Master = master
	default:
		return fmt.Errorf("operation not supported: %s takes no ports", master)
	}
	return nil
}

func (k *Kernel) cycle(l *spec.Link) {
	if l.Up {
		k.close(l)
		_ = k.open(l) // what was up can be up
	}
}

func (k *Kernel) open(l *spec.Link) error {
	if p := k.link(l.Parent); l.Kind == spec.VLAN && p != nil && !p.Up {
		return fmt.Errorf("network is down: %s", l.Parent)
	}
	l.Up = true
	for _, o := range k.links {
		if o.Kind == spec.VLAN && o.Parent == l.Name && !o.Up {
			if err := k.open(o); err != nil {
				return err
			}
		}
	}
	return nil
}

func (k *Kernel) close(l *spec.Link) {
	l.Up = false
	k.routes = slices.DeleteFunc(k.routes, func(r spec.Route) bool { return r.Link == l.Name })
	k.flush6(l)
	for _, o := range k.links {
		if o.Kind == spec.VLAN && o.Parent == l.Name && o.Up {
			k.close(o)
		}
	}
}

func (k *Kernel) flush6(l *spec.Link) {
	for _, a := range slices.Clone(k.addresses) {
		if a.Link == l.Name && a.Prefix.Addr().Is6() && !a.Prefix.Addr().IsLinkLocalUnicast() {
			k.deleteAddress(a)
		}
	}
}

func (k *Kernel) unregister(l *spec.Link) {
	for _, o := range slices.Clone(k.links) {
		if o.Master == l.Name {
			_ = k.setMaster(o, "") // no case of it fails
		}
		if o.Kind == spec.VLAN && o.Parent == l.Name {
			k.unregister(o)
		}
	}
	k.close(l)
	for _, a := range slices.Clone(k.addresses) {
		if a.Link == l.Name {
			k.deleteAddress(a)
		}
	}
	k.links = slices.DeleteFunc(k.links, func(o *spec.Link) bool { return o == l })
}

package plan

import (
	"slices"

	"komainu/netstack/spec"
)

// setLinks makes, moves and sets the wanted links.
func (p *planner) setLinks() {
	p.clear()
	for _, n := range p.order { // first, since a port gets back its old MTU when it leaves a bond
		if l := p.links[n]; l != nil && p.isKind(l.Master, spec.Bond) && l.Master != p.want[n].Master {
			p.change(n, func(l *spec.Link) { l.Master = "" })
		}
	}
	for _, n := range slices.Backward(p.order) { // VLANs before what carries them
		if l := p.links[n]; l != nil && p.mtu(n) != 0 && p.mtu(n) < l.MTU {
			p.change(n, func(l *spec.Link) { l.MTU = p.mtu(n) })
		}
	}
	for _, n := range p.order {
		p.make(n)
	}
	for _, n := range p.order {
		p.bond(n)
	}
	for _, n := range p.order {
		p.enslave(n)
	}
	for _, n := range p.order {
		w := p.want[n]
		settle := func(l *spec.Link) {
			if w.Master == "" || p.links[w.Master] != nil {
				l.Master = w.Master
			}
			if l.Kind == spec.Bridge {
				l.STP = w.STP
			}
			if m := p.mtu(n); m != 0 {
				l.MTU = m
			}
			// A VLAN can't be up on a link that is down (vlan_dev_open).
			parent := p.links[l.Parent]
			l.Up = w.Up && (l.Kind != spec.VLAN || parent == nil || parent.Up)
		}
		p.change(n, settle)
	}
	for _, n := range p.order {
		l, w := p.links[n], p.want[n]
		// A primary is one only once it is a port of the bond.
		if l.Kind == spec.Bond && w.Bond.Primary != l.Bond.Primary {
			if m := p.links[w.Bond.Primary]; w.Bond.Primary == "" || m != nil && m.Master == n {
				p.change(n, func(l *spec.Link) { l.Bond.Primary = w.Bond.Primary })
			}
		}
		if m := p.links[l.Master]; m != nil && m.Kind == spec.Bond && l.MTU != m.MTU && m.MTU != 0 {
			p.change(n, func(l *spec.Link) { l.MTU = m.MTU })
		}
	}
}

// mtu is the wanted MTU of a link; 0: as it is. A port of a bond follows the bond.
func (p *planner) mtu(n string) int {
	w := p.want[n]
	if m, ok := p.want[w.Master]; ok && m.Kind == spec.Bond || p.isKind(w.Master, spec.Bond) {
		return 0
	}
	return w.MTU
}

// change plans one SetLink, if edit changes anything. It carries our mark from
// the first on, so that a plan broken off leaves nothing that isn't known as ours.
func (p *planner) change(n string, edit func(*spec.Link)) {
	was := *p.links[n]
	to := was
	edit(&to)
	if w := p.want[n]; w.Label != "" {
		to.Label, to.Ours = w.Label, true
	}
	if !differ(was, to) {
		return
	}
	p.changes = append(p.changes, Change{Kind: SetLink, Was: was, Link: to})
	p.set(to)
}

func differ(a, b spec.Link) bool {
	return a.Label != b.Label || a.MTU != b.MTU || a.Master != b.Master || a.Up != b.Up || a.STP != b.STP || !sameOptions(a.Bond, b.Bond)
}

// tag is what the kernel lets only one link have: a VLAN its number on another
// link, the inside of a tunnel its if_id. The zero value: nothing of the kind.
type tag struct {
	parent string
	number uint32
}

func tagOf(l spec.Link) tag {
	switch l.Kind {
	case spec.VLAN:
		return tag{l.Parent, uint32(l.VLAN)}
	case spec.XFRM:
		return tag{number: l.IfID}
	}
	return tag{}
}

// clear deletes what stands in the way: links of ours that can't become what is
// wanted in place, and those whose tag another name shall have.
func (p *planner) clear() {
	tags := map[tag]string{}
	for _, n := range p.order {
		tags[tagOf(p.want[n])] = n
	}
	delete(tags, tag{})
	for _, n := range slices.Clone(p.names) {
		l := p.links[n]
		if l == nil || l.Label == "" || !made(l.Kind) {
			continue // it went with another, or isn't ours
		}
		w, ok := p.want[n]
		rival := tags[tagOf(*l)]
		if ok && !inPlace(*l, w) || rival != "" && rival != n {
			p.delete(n)
		}
	}
	p.order = slices.DeleteFunc(p.order, func(n string) bool {
		return p.links[n] == nil && !made(p.want[n].Kind)
	})
}

// inPlace says whether the kernel can turn l into w: it never changes a link's
// kind, a VLAN's number or parent, or a VRF's table. A tunnel with another if_id
// is another tunnel: nothing that was routed into the old one may meet the new one.
func inPlace(l, w spec.Link) bool {
	switch {
	case w.Kind == spec.Port || w.Kind == spec.External:
		return true
	case l.Kind != w.Kind:
		return false
	case l.Kind == spec.VLAN:
		return l.Parent == w.Parent && l.VLAN == w.VLAN
	case l.Kind == spec.VRF:
		return l.Table == w.Table
	case l.Kind == spec.XFRM:
		return l.IfID == w.IfID
	}
	return true
}

func (p *planner) delete(n string) {
	p.changes = append(p.changes, Change{Kind: DeleteLink, Was: *p.links[n]})
	p.remove(n)
}

// make adds a link that isn't there, or raises its MTU before that of the VLANs
// upon it.
func (p *planner) make(n string) {
	w, l := p.want[n], p.links[n]
	if l == nil || !inPlace(*l, w) { // somebody else's of that name makes the change fail, and say so
		w.Master, w.Up, w.Bond.Primary, w.Ours = "", false, "", true
		p.changes = append(p.changes, Change{Kind: AddLink, Link: w})
		switch parent := p.links[w.Parent]; {
		case w.MTU != 0:
		case parent != nil:
			w.MTU = parent.MTU
		default:
			w.MTU = 1500
		}
		p.put(w)
		return
	}
	if m := p.mtu(n); m > l.MTU {
		p.change(n, func(l *spec.Link) { l.MTU = m })
	}
}

// bond sets a bond's options. Its mode changes only down and without ports, its
// LACP rate only down (kernel: drivers/net/bonding/bond_options.c); all others
// in place. The primary is set when the ports are there.
func (p *planner) bond(n string) {
	l, w := p.links[n], p.want[n]
	to := w.Bond
	to.Primary = l.Bond.Primary
	if w.Kind != spec.Bond || sameOptions(l.Bond, to) {
		return
	}
	if l.Bond.Mode != to.Mode {
		for _, port := range p.members(n, false) {
			p.change(port, func(l *spec.Link) { l.Master, l.Up = "", false })
		}
		to.Primary = ""
	}
	if l.Up && (l.Bond.Mode != to.Mode || l.Bond.Fast != to.Fast) {
		p.change(n, func(l *spec.Link) { l.Up = false })
	}
	p.change(n, func(l *spec.Link) { l.Bond = to })
}

// enslave takes a port to its bond: it must be down for it, and the bond opens it.
func (p *planner) enslave(n string) {
	l, w := p.links[n], p.want[n]
	if l.Master == w.Master || !p.isKind(w.Master, spec.Bond) {
		return
	}
	if l.Master != "" {
		p.change(n, func(l *spec.Link) { l.Master = "" })
	}
	if l.Up {
		p.change(n, func(l *spec.Link) { l.Up = false })
	}
	p.change(n, func(l *spec.Link) { l.Master, l.Up = w.Master, true })
}

// unwanted says whether a link of ours that we made goes.
func (p *planner) unwanted(n string) bool {
	l := p.links[n]
	_, ok := p.want[n]
	return l != nil && l.Label != "" && made(l.Kind) && !ok
}

// release takes our mark from links that aren't ours any more, when nothing else
// is left to do there.
func (p *planner) release() {
	for _, n := range p.order {
		if p.want[n].Label == "" {
			p.change(n, func(l *spec.Link) { l.Label, l.Ours = "", false })
		}
	}
}

// deleteLinks deletes made links that aren't wanted, VLANs before what carries
// them, and says whether there were any.
func (p *planner) deleteLinks() bool {
	any := false
	for _, last := range []bool{false, true} {
		for _, n := range slices.Clone(p.names) {
			if p.unwanted(n) && (last || p.links[n].Kind == spec.VLAN) {
				p.delete(n)
				any = true
			}
		}
	}
	return any
}

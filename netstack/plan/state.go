package plan

import (
	"net/netip"
	"slices"

	"komainu/netstack/spec"
)

// state is the network as it stands after the changes that are planned so far.
// It foresees what the kernel (6.1) takes away by itself, so that the plan puts
// back what is wanted. Where the kernel's behaviour hangs on a setting
// (promote_secondaries, keep_addr_on_down) it expects the worse: to put back
// what is still there changes nothing.
type state struct {
	names  []string // in the order in which links were met
	links  map[string]*spec.Link
	addrs  map[string][]spec.Address // by link, in the kernel's order
	local  map[netip.Addr]int        // how often an address is there
	routes map[routeKey][]spec.Route
}

// routeKey is what makes a route another one. IPv6 may have several of a key.
type routeKey struct {
	to            netip.Prefix
	table, metric uint32
}

func key(r spec.Route) routeKey { return routeKey{r.To, r.Table, r.Metric} }

// plain writes out a route's defaults: table main, metric 1024 of IPv6
// (IP6_RT_PRIO_USER), no host bits.
func plain(r spec.Route) spec.Route {
	r.To = r.To.Masked()
	if r.Table == 0 {
		r.Table = 254
	}
	if r.Metric == 0 && r.To.Addr().Is6() {
		r.Metric = 1024
	}
	return r
}

func observed(have spec.Network) *state {
	s := &state{links: map[string]*spec.Link{}, addrs: map[string][]spec.Address{}, local: map[netip.Addr]int{}, routes: map[routeKey][]spec.Route{}}
	for _, l := range have.Links {
		if !l.Ours {
			l.Label = ""
		} else if l.Label == "" {
			l.Label = l.Name
		}
		l.Bond = options(l.Bond)
		s.put(l)
	}
	for _, a := range have.Addresses {
		s.address(a)
	}
	for _, r := range have.Routes {
		k := key(plain(r))
		s.routes[k] = append(s.routes[k], r)
	}
	return s
}

// options leaves out what has no meaning in the bond's mode, so that it never
// counts as a difference.
func options(b spec.BondOptions) spec.BondOptions {
	if b.Mode == spec.LACP {
		b.ARPMon, b.Primary = 0, ""
	} else {
		b.Fast, b.MinLinks = false, 0
	}
	if b.ARPMon == 0 {
		b.Targets = nil
	} else { // the kernel refuses both monitors
		b.MIIMon = 0
		b.Targets = slices.SortedFunc(slices.Values(b.Targets), netip.Addr.Compare)
	}
	return b
}

func sameOptions(a, b spec.BondOptions) bool {
	return a.Mode == b.Mode && a.MIIMon == b.MIIMon && a.ARPMon == b.ARPMon && slices.Equal(a.Targets, b.Targets) &&
		a.Primary == b.Primary && a.Fast == b.Fast && a.MinLinks == b.MinLinks
}

func (s *state) put(l spec.Link) {
	if s.links[l.Name] == nil {
		s.names = append(s.names, l.Name)
	}
	s.links[l.Name] = &l
}

func (s *state) isKind(name string, k spec.Kind) bool {
	l := s.links[name]
	return l != nil && l.Kind == k
}

// members lists the links with this master, or, with parent, the VLANs on it.
func (s *state) members(name string, parent bool) []string {
	var list []string
	for _, n := range s.names {
		l := s.links[n]
		if l == nil || n == name {
			continue
		}
		if parent && l.Kind == spec.VLAN && l.Parent == name || !parent && l.Master == name {
			list = append(list, n)
		}
	}
	return list
}

// set makes a link as it should be, with the kernel's consequences: MTU first,
// then master, then up or down, as one message has them done.
func (s *state) set(to spec.Link) {
	l := s.links[to.Name]
	was := *l
	if to.MTU != was.MTU {
		l.MTU = to.MTU
		s.shrink(l)
	}
	if to.Master != was.Master {
		s.move(l, to.Master)
	}
	up := to.Up
	to.MTU, to.Up = l.MTU, l.Up
	*l = to
	switch {
	case up == was.Up: // then it is as the move left it
	case up:
		s.up(l)
	case l.Up:
		s.down(l)
	}
}

// shrink takes a new MTU to the ports of a bond, and to VLANs that exceed it.
// A link that is too narrow for IPv6 loses it (addrconf_notify).
func (s *state) shrink(l *spec.Link) {
	if l.Kind == spec.Bond {
		for _, n := range s.members(l.Name, false) {
			s.links[n].MTU = l.MTU
		}
	}
	if narrow(l.MTU) {
		s.lose6(l.Name)
	}
	for _, n := range s.members(l.Name, true) {
		if v := s.links[n]; v.MTU > l.MTU {
			v.MTU = l.MTU
			s.shrink(v)
		}
	}
}

// narrow says whether IPv6 can't be where this is the MTU (IPV6_MIN_MTU); 0 is
// unknown.
func narrow(mtu int) bool { return mtu != 0 && mtu < 1280 }

// lose6 takes all IPv6 addresses and routes of a link away.
func (s *state) lose6(link string) {
	for _, a := range slices.Clone(s.addrs[link]) {
		if a.Prefix.Addr().Is6() {
			s.unaddress(a)
		}
	}
	s.dropRoutes(func(r spec.Route) bool { return r.Link == link && r.To.Addr().Is6() })
}

// move takes a link from its master to another. A port that leaves a bond is
// closed and gets back its own MTU (bond_release), one that joins is opened (bond_enslave); to enter or
// leave a VRF a link goes down and up (cycle_netdev).
func (s *state) move(l *spec.Link, master string) {
	old := s.links[l.Master]
	if old != nil && old.Kind == spec.Bond {
		if old.Bond.Primary == l.Name {
			old.Bond.Primary = ""
		}
		s.down(l)
		s.forget(l)
	}
	if (old != nil && old.Kind == spec.VRF || s.isKind(master, spec.VRF)) && l.Up {
		s.down(l)
		s.up(l)
	}
	l.Master = master
	if s.isKind(master, spec.Bond) {
		s.down(l)
		s.up(l)
		if l.MTU != s.links[master].MTU {
			l.MTU = s.links[master].MTU
			s.shrink(l)
		}
	}
}

// forget marks MTUs as unknown: a port has again the one from before it joined a
// bond, and VLANs on it may have shrunk to that.
func (s *state) forget(l *spec.Link) {
	l.MTU = 0
	for _, n := range s.members(l.Name, true) {
		s.forget(s.links[n])
	}
}

// up takes the VLANs on a link along (vlan_device_event).
func (s *state) up(l *spec.Link) {
	l.Up = true
	for _, n := range s.members(l.Name, true) {
		s.up(s.links[n])
	}
}

// down takes the VLANs on a link along, all routes over them, and their IPv6
// addresses (addrconf_ifdown).
func (s *state) down(l *spec.Link) {
	gone := map[string]bool{}
	s.close(l, gone)
	s.dropRoutes(func(r spec.Route) bool { return gone[r.Link] })
}

func (s *state) close(l *spec.Link, gone map[string]bool) {
	l.Up = false
	gone[l.Name] = true
	for _, a := range slices.Clone(s.addrs[l.Name]) {
		if a.Prefix.Addr().Is6() && !a.Prefix.Addr().IsLinkLocalUnicast() {
			s.unaddress(a)
		}
	}
	for _, n := range s.members(l.Name, true) {
		if v := s.links[n]; v.Up {
			s.close(v, gone)
		}
	}
}

func (s *state) dropRoutes(gone func(spec.Route) bool) {
	for k, list := range s.routes {
		if slices.ContainsFunc(list, gone) {
			s.routes[k] = slices.DeleteFunc(slices.Clone(list), gone)
		}
	}
}

// remove deletes a made link; its VLANs go with it, its ports are released.
func (s *state) remove(name string) {
	l := s.links[name]
	for _, n := range s.members(name, false) {
		s.move(s.links[n], "")
	}
	for _, n := range s.members(name, true) {
		s.remove(n)
	}
	if l.Master != "" {
		s.move(l, "")
	}
	s.down(l)
	for len(s.addrs[name]) > 0 {
		s.unaddress(s.addrs[name][0])
	}
	delete(s.links, name)
	s.names = slices.DeleteFunc(s.names, func(n string) bool { return n == name })
}

func (s *state) has(a spec.Address) bool { return slices.ContainsFunc(s.addrs[a.Link], a.Is) }

func (s *state) address(a spec.Address) {
	s.addrs[a.Link] = append(s.addrs[a.Link], a)
	s.local[a.Prefix.Addr()]++
}

// unaddress deletes an address. The first IPv4 address of a subnet takes the
// others of the subnet along, the last of the link the link's routes; routes
// that have it as their source go (IPv4) or lose their source (IPv6).
func (s *state) unaddress(a spec.Address) {
	list := s.addrs[a.Link]
	i := slices.IndexFunc(list, a.Is)
	if i < 0 {
		return
	}
	four := a.Prefix.Addr().Is4()
	subnet := func(b spec.Address) bool { return b.Prefix.Masked() == a.Prefix.Masked() }
	lost := map[netip.Addr]bool{}
	primary := four && slices.IndexFunc(list, subnet) == i
	list = slices.DeleteFunc(slices.Clone(list), func(b spec.Address) bool {
		if b.Is(a) || primary && subnet(b) {
			s.local[b.Prefix.Addr()]--
			lost[b.Prefix.Addr()] = true
			return true
		}
		return false
	})
	s.addrs[a.Link] = list
	bare := four && !slices.ContainsFunc(list, func(b spec.Address) bool { return b.Prefix.Addr().Is4() })
	if four {
		s.dropRoutes(func(r spec.Route) bool {
			return bare && r.Link == a.Link && r.To.Addr().Is4() || lost[r.Source] && s.local[r.Source] == 0
		})
		return
	}
	for k, list := range s.routes {
		for i := range list {
			if lost[list[i].Source] {
				list = slices.Clone(list)
				list[i].Source = netip.Addr{}
				s.routes[k] = list
			}
		}
	}
}

// route adds a route in the place of those that the kernel takes it for: with
// IPv4 all of its key, with IPv6 those that are like it with or without a next hop.
func (s *state) route(r spec.Route) {
	k := key(plain(r))
	list := slices.DeleteFunc(slices.Clone(s.routes[k]), func(o spec.Route) bool {
		return r.To.Addr().Is4() || o.Via.IsValid() == r.Via.IsValid()
	})
	s.routes[k] = append(list, r)
}

package plantest

import (
	"fmt"
	"net/netip"
	"slices"

	"komainu/netstack/spec"
)

// minMTU6 is the smallest MTU with which a link has IPv6 (IPV6_MIN_MTU).
const minMTU6 = 1280

func (k *Kernel) addAddress(a spec.Address) error {
	l := k.link(a.Link)
	if l == nil {
		return fmt.Errorf("no such device")
	}
	if a.Prefix.Addr().Is6() && l.MTU < minMTU6 {
		return fmt.Errorf("invalid argument: mtu %d is too small for IPv6", l.MTU)
	}
	for _, b := range k.addresses {
		if a.Is(b) {
			return nil
		}
		if a.Link == b.Link && a.Prefix.Addr() == b.Prefix.Addr() && a.Prefix.Addr().Is6() {
			return fmt.Errorf("file exists: %s", b.Prefix)
		}
	}
	k.addresses = append(k.addresses, a)
	return nil
}

func (k *Kernel) deleteAddress(a spec.Address) {
	i := slices.IndexFunc(k.addresses, a.Is)
	if i < 0 {
		return
	}
	subnet := func(b spec.Address) bool { return b.Link == a.Link && b.Prefix.Masked() == a.Prefix.Masked() }
	first := slices.IndexFunc(k.addresses, subnet) == i
	k.addresses = slices.Delete(k.addresses, i, i+1)
	four := a.Prefix.Addr().Is4()
	if four && first && !k.Promote {
		for {
			j := slices.IndexFunc(k.addresses, subnet)
			if j < 0 {
				break
			}
			k.deleteAddress(k.addresses[j])
		}
	}
	bare := four && !slices.ContainsFunc(k.addresses, func(b spec.Address) bool { return b.Link == a.Link && b.Prefix.Addr().Is4() })
	local := k.local(a.Prefix.Addr())
	k.routes = slices.DeleteFunc(k.routes, func(r spec.Route) bool {
		return four && (r.Source == a.Prefix.Addr() && !local || bare && r.Link == a.Link && r.To.Addr().Is4())
	})
	for j, r := range k.routes {
		if !four && r.Source == a.Prefix.Addr() && r.Link == a.Link {
			k.routes[j].Source = netip.Addr{}
		}
	}
}

func (k *Kernel) local(ip netip.Addr) bool {
	return slices.ContainsFunc(k.addresses, func(a spec.Address) bool { return a.Prefix.Addr() == ip })
}

func defaults(r spec.Route) spec.Route {
	if r.Table == 0 {
		r.Table = 254
	}
	if r.Metric == 0 && r.To.Addr().Is6() {
		r.Metric = 1024
	}
	return r
}

func sameKey(a, b spec.Route) bool { return a.To == b.To && a.Table == b.Table && a.Metric == b.Metric }

func (k *Kernel) replaceRoute(r spec.Route) error {
	l := k.link(r.Link)
	switch {
	case l == nil:
		return fmt.Errorf("no such device")
	case !l.Up:
		return fmt.Errorf("network is down")
	case r.To.Addr().Is6() && l.MTU < minMTU6:
		return fmt.Errorf("no such device: mtu %d is too small for IPv6", l.MTU)
	case r.Source.IsValid() && !k.local(r.Source):
		return fmt.Errorf("invalid argument: source %s is no address of the box", r.Source)
	}
	if r.Via.IsValid() && !slices.ContainsFunc(k.addresses, func(a spec.Address) bool {
		return a.Link == r.Link && a.Prefix.Masked().Contains(r.Via)
	}) {
		return fmt.Errorf("network is unreachable: %s", r.Via)
	}
	for i, o := range k.routes {
		if sameKey(o, r) && (r.To.Addr().Is4() || o.Via.IsValid() == r.Via.IsValid()) {
			k.routes[i] = r
			return nil
		}
	}
	k.routes = append(k.routes, r)
	return nil
}

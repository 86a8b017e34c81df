package kick

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// resolve finds the links of clients that have none yet. A next hop that the
// kernel hasn't resolved is asked for, and found in the next round: a broadcast
// frame would be no use, TCP answers unicast only.
func (w *wire) resolve(waiting map[peer]bool, links map[netip.Addr]link) error {
	var missing []netip.Addr
	seen := map[netip.Addr]bool{}
	for p := range waiting {
		a := p.client.Addr()
		if _, ok := links[a]; !ok && !seen[a] {
			seen[a] = true
			missing = append(missing, a)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	known, err := w.neighbours()
	if err != nil {
		return err
	}
	for _, a := range missing {
		h, ok := w.nextHop(a)
		if !ok {
			continue // no route, or the box itself: stays unanswered
		}
		if mac, ok := known[h]; ok {
			links[a] = link{int(h.index), mac}
			continue
		}
		const use = 0x01 // NTF_USE: resolve it as if a packet had to go there
		req := &rtnetlink.NeighMessage{
			Family: family(h.addr), Index: h.index, Flags: use,
			// The library sends a link address in any case, the kernel ignores
			// its value here but not its length.
			Attributes: &rtnetlink.NeighAttributes{Address: h.addr.AsSlice(), LLAddress: make(net.HardwareAddr, 6)},
		}
		// A failure shows as a client without an answer.
		_, _ = w.routes.Execute(req, unix.RTM_NEWNEIGH, netlink.Request|netlink.Acknowledge|netlink.Create)
	}
	return nil
}

type hop struct {
	index uint32
	addr  netip.Addr
}

func family(a netip.Addr) uint16 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// neighbours lists the next hops whose link address the kernel knows.
func (w *wire) neighbours() (map[hop][8]byte, error) {
	list, err := w.routes.Neigh.List()
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	const valid = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_PERMANENT
	known := map[hop][8]byte{}
	for _, n := range list {
		if n.State&valid == 0 || n.Attributes == nil || len(n.Attributes.LLAddress) != 6 {
			continue
		}
		a, ok := netip.AddrFromSlice(n.Attributes.Address)
		if !ok {
			continue
		}
		var mac [8]byte
		copy(mac[:], n.Attributes.LLAddress)
		known[hop{n.Index, a.Unmap()}] = mac
	}
	return known, nil
}

// nextHop asks the kernel's routes for the way to a.
func (w *wire) nextHop(a netip.Addr) (hop, bool) {
	req := &rtnetlink.RouteMessage{
		Family: uint8(family(a)), DstLength: uint8(a.BitLen()),
		Attributes: rtnetlink.RouteAttributes{Dst: a.AsSlice()},
	}
	routes, err := w.routes.Route.Get(req)
	if err != nil || len(routes) == 0 || routes[0].Type != unix.RTN_UNICAST {
		return hop{}, false
	}
	h := hop{routes[0].Attributes.OutIface, a}
	if gw, ok := netip.AddrFromSlice(routes[0].Attributes.Gateway); ok {
		h.addr = gw.Unmap()
	}
	return h, true
}

package update

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"

	"komainu/images/trial"
)

// readPorts are the Ethernet ports that a driver has bound, by the name of
// their device ("0000:02:00.0"), which stays when the interface's moves.
// Sources: Documentation/ABI/testing/sysfs-class-net.
func readPorts(sys string) map[string]trial.Port {
	ports := map[string]trial.Port{}
	all, _ := os.ReadDir(filepath.Join(sys, "class/net")) // none: no network in this kernel
	for _, e := range all {
		name, ok := device(sys, e.Name())
		if !ok {
			continue
		}
		// carrier can't be read (EINVAL) while the port is off.
		on := flags(sys, e.Name())&unix.IFF_UP != 0
		ports[name] = trial.Port{On: on, Carrier: on && text(sys, e.Name(), "carrier") == "1"}
	}
	return ports
}

// device is what an interface is a port of; false for those made by software.
func device(sys, iface string) (string, bool) {
	to, err := os.Readlink(filepath.Join(sys, "class/net", iface, "device"))
	if err != nil {
		return "", false
	}
	name := filepath.Base(to)
	if strings.HasPrefix(name, "virtio") { // numbered by the kernel: its PCI function stays
		if real, err := filepath.EvalSymlinks(filepath.Join(sys, "class/net", iface, "device")); err == nil {
			name = filepath.Base(filepath.Dir(real))
		}
	}
	return name, true
}

func text(sys, iface, file string) string {
	b, _ := os.ReadFile(filepath.Join(sys, "class/net", iface, file)) // what can't be read isn't so
	return strings.TrimSpace(string(b))
}

func flags(sys, iface string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimPrefix(text(sys, iface, "flags"), "0x"), 16, 32)
	return n
}

// below are the ports under an interface, through VLANs and bonds.
func below(sys, iface string) []string {
	if name, ok := device(sys, iface); ok {
		return []string{name}
	}
	var ports []string
	all, _ := filepath.Glob(filepath.Join(sys, "class/net", iface, "lower_*")) // the pattern is good
	for _, l := range all {
		ports = append(ports, below(sys, strings.TrimPrefix(filepath.Base(l), "lower_"))...)
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// hops are the next hops of all routes, by interface: whether one has answered
// since the box was started. nil: the kernel didn't say.
type hops map[string][]bool

// nextHops reads routes and neighbours; what the kernel doesn't say is as if
// nothing had answered.
func nextHops() hops {
	c, err := rtnetlink.Dial(nil)
	if err != nil {
		return nil
	}
	defer c.Close() // only read
	links, err1 := c.Link.List()
	routes, err2 := c.Route.List()
	neighbours, err3 := c.Neigh.List()
	if err1 != nil || err2 != nil || err3 != nil {
		return nil
	}
	names := map[uint32]string{}
	for _, l := range links {
		if l.Attributes != nil {
			names[l.Index] = l.Attributes.Name
		}
	}
	// Whoever has ever given its address on this start has answered; the path's
	// own traffic keeps asking.
	const answered = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_PERMANENT
	h := hops{}
	for _, r := range routes {
		gw := r.Attributes.Gateway
		if gw == nil {
			continue
		}
		found := false
		for _, n := range neighbours {
			found = found || n.Attributes != nil && n.Index == r.Attributes.OutIface && n.Attributes.Address.Equal(gw) && n.State&answered != 0
		}
		name := names[r.Attributes.OutIface]
		h[name] = append(h[name], found)
	}
	return h
}

// answer: a next hop of the interface has answered, or there is none, as on a
// line straight to the peer. "" asks about all interfaces.
func (h hops) answer(iface string) bool {
	switch {
	case h == nil: // nothing is known
		return false
	case iface != "":
		return len(h[iface]) == 0 || slices.Contains(h[iface], true)
	case len(h) == 0:
		return true
	}
	for _, all := range h {
		if slices.Contains(all, true) {
			return true
		}
	}
	return false
}

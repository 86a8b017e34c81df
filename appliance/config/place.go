package config

import (
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
	"strings"
)

// place is what `on` and `ports` name: a link of the kernel, a port by its PCI
// path, a VLAN on either, or a link that exists in the kernel only.
type place struct {
	base  string // kernel's name, or "pci:0000:02:00.0", with "/1" for the second port there
	vlan  uint16 // 0: none
	dummy bool
}

var (
	pciForm  = regexp.MustCompile(`^pci:([0-9a-f]{4}):([0-9a-f]{2}):([01][0-9a-f])\.([0-7])(?:/([0-9]{1,2}))?(?:\.([0-9]{1,4}))?$`)
	vlanForm = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9_-]*)\.([0-9]{1,4})$`)
)

// maxLink is how long a link's name may be, in bytes (IFNAMSIZ is 16 with its
// zero byte).
const maxLink = 15

// parsePlace reads one; not ok if it is none, or the VLAN isn't 1 to 4094.
func parsePlace(s string) (p place, ok bool) {
	number := ""
	if strings.HasPrefix(s, "pci:") {
		s = strings.ToLower(s)
		m := pciForm.FindStringSubmatch(s)
		if m == nil {
			return place{}, false
		}
		if number = m[6]; number != "" {
			s = strings.TrimSuffix(s, "."+number)
		}
		p.base = strings.TrimSuffix(s, "/0")
	} else if m := vlanForm.FindStringSubmatch(s); m != nil && len(m[1]) <= maxLink {
		p.base, number = m[1], m[2]
	} else if p.base = s; !linkForm.MatchString(s) {
		return place{}, false
	}
	if number != "" {
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || n < 1 || n > 4094 {
			return place{}, false
		}
		p.vlan = uint16(n)
	}
	if p.dummy = p.base == "dummy"; p.dummy && p.vlan != 0 {
		return place{}, false
	}
	return p, !reserved(p.base)
}

// Prefixes of links that are called after an interface.
const (
	dummyPrefix = "du-"
	vrfPrefix   = "vrf-"
	vpnPrefix   = "vpn-" // after a tunnel
)

// reserved are names with a meaning of their own in the kernel, or links of
// ours.
func reserved(name string) bool {
	switch name {
	case "lo", "all", "default", "bonding_masters", "komainu-park":
		return true
	}
	return strings.HasPrefix(name, dummyPrefix) || strings.HasPrefix(name, vrfPrefix) || strings.HasPrefix(name, vpnPrefix)
}

// link is the kernel's name; that of a port by PCI path stays its place, since
// only the kernel knows. A VLAN is called after what carries it: "bond0.110",
// "p2s0f0.110". Not for dummies.
func (p place) link() string {
	if p.vlan == 0 {
		return p.base
	}
	base := p.base
	if m := pciForm.FindStringSubmatch(base); m != nil {
		n := [5]uint64{}
		for i := range n {
			n[i], _ = strconv.ParseUint(m[i+1], 16, 16) // the form has only digits there
		}
		base = fmt.Sprintf("p%ds%df%d", n[1], n[2], n[3])
		if n[0] != 0 || m[5] != "" {
			base = digest(p.base)
		}
	}
	suffix := "." + strconv.Itoa(int(p.vlan))
	if len(base)+len(suffix) > maxLink {
		base = digest(p.base)
	}
	return base + suffix
}

// madeLink is the kernel's name of a link that is called after an interface.
func madeLink(prefix, name string) string {
	if len(prefix)+len(name) > maxLink {
		name = digest(name)
	}
	return prefix + name
}

// digest stands for a name that is too long.
func digest(s string) string {
	h := fnv.New32a()
	h.Write([]byte(s)) // never fails
	return fmt.Sprintf("x%08x", h.Sum32())
}

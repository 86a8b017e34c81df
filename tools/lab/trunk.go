package lab

import (
	"fmt"
	"os/exec"
	"strings"

	"komainu/drivers/netns"
)

// Trunk is a switch whose VLANs (IEEE 802.1Q) come tagged over one or more
// cables. A host plugs into Ports with bare links, and other hosts, untagged,
// into the LAN of a VLAN. It needs a kernel with VLANs and bonds, which is the
// stock one.
type Trunk struct {
	Ports *LAN
}

// trunkName is the link in the switch that carries the VLANs.
const trunkName = "trunk"

// NewTrunk adds a switch. With lacp its ports are one 802.3ad bond (fast, the
// carrier looked at each 20 ms), else a bridge, which serves active-backup and a
// single cable.
func (l *Lab) NewTrunk(name string, lacp bool) (*Trunk, error) {
	lan, err := l.NewLAN(name)
	if err != nil {
		return nil, err
	}
	kind := "bridge"
	if lacp {
		kind = "bond mode 802.3ad miimon 20 lacp_rate fast xmit_hash_policy layer3+4"
	}
	t := &Trunk{Ports: &LAN{ns: lan.ns, master: trunkName, trunk: true}}
	if err := t.ip("link add " + trunkName + " type " + kind + "\nlink set " + trunkName + " up"); err != nil {
		return nil, fmt.Errorf("lab %s: trunk %s: %w", l.ID, name, err)
	}
	return t, nil
}

// VLAN adds the network with that number, 1 to 4094.
func (t *Trunk) VLAN(id uint16) (*LAN, error) {
	tagged, bridge := fmt.Sprintf("%s.%d", trunkName, id), fmt.Sprintf("vlan%d", id)
	err := t.ip(fmt.Sprintf(`link add link %[1]s name %[2]s type vlan id %[4]d
link add %[3]s type bridge
link set %[2]s master %[3]s up
link set %[3]s up`, trunkName, tagged, bridge, id))
	if err != nil {
		return nil, fmt.Errorf("VLAN %d of %s: %w", id, t.Ports.ns, err)
	}
	return &LAN{ns: t.Ports.ns, master: bridge}, nil
}

// ip runs lines of iproute2 in the switch.
func (t *Trunk) ip(lines string) error {
	return t.Do(func() error {
		c := exec.Command("ip", "-batch", "-")
		c.Stdin = strings.NewReader(lines + "\n")
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("ip: %w: %s", err, out)
		}
		return nil
	})
}

// Do runs f in the switch, as Host.Do in a host.
func (t *Trunk) Do(f func() error) error { return netns.Do(t.Ports.ns, f) }

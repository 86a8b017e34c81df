package rtnl

import (
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"komainu/netstack/spec"
)

// Detail is what the kernel tells about one link beside its configuration.
type Detail struct {
	spec.Link
	MAC      net.HardwareAddr // nil: it has none
	Mbit     int              // speed, Mbit/s; 0: unknown, or no carrier
	Duplex   string           // "full", "half"; empty: unknown
	Counters Counters

	Active  string           // Kind Bond, active-backup: the port in use; empty: none
	Partner net.HardwareAddr // Kind Bond, 802.3ad: the switch; nil: none answers
	Port    *BondPort        // of a link whose Master is a bond
}

// Counters are the kernel's, since the link was made (struct rtnl_link_stats64).
type Counters struct {
	RxPackets, TxPackets, RxBytes, TxBytes, RxErrors, TxErrors, RxDropped, TxDropped uint64
}

// BondPort is the state of one port of a bond.
type BondPort struct {
	Up       bool   // the bond's monitor finds that it works
	Active   bool   // in use, or in the active aggregator
	Failures uint32 // how often the monitor lost it
	Partner  bool   // 802.3ad: it is in the aggregator that the bond uses
}

// Details tells of all links, in the order of their indexes. Speed and duplex
// come from sysfs, so they are those of the network namespace that it shows.
func (c *Conn) Details() ([]Detail, error) {
	links, err := c.links(true)
	if err != nil {
		return nil, err
	}
	names, aggregators := map[uint32]string{}, map[uint32]uint16{}
	bonds := map[string]bool{}
	for _, l := range links {
		index := uint32(l.Index) //nolint:gosec // an ifindex
		names[index] = l.Name
		if l.Kind == spec.Bond {
			aggregators[index], bonds[l.Name] = l.aggregator, true
		}
	}
	details := make([]Detail, 0, len(links))
	for _, l := range links {
		d := Detail{Link: l.Link, MAC: l.mac, Counters: counters(l.stats)}
		if len(d.MAC) == 0 {
			d.MAC = nil
		}
		if l.Kind == spec.Bond {
			d.Active = names[l.active]
			if l.partner.String() != "00:00:00:00:00:00" && len(l.partner) > 0 {
				d.Partner = l.partner
			}
		}
		if bonds[l.Master] {
			p := l.port
			p.Partner = l.aggregator != 0 && l.aggregator == aggregators[l.master]
			d.Port = &p
		}
		if l.Carrier {
			d.Mbit, d.Duplex = speed(l.Name)
		}
		details = append(details, d)
	}
	return details, nil
}

func counters(b []byte) Counters {
	if len(b) < 64 {
		return Counters{}
	}
	at := func(i int) uint64 { return binary.NativeEndian.Uint64(b[8*i:]) }
	return Counters{
		RxPackets: at(0), TxPackets: at(1), RxBytes: at(2), TxBytes: at(3),
		RxErrors: at(4), TxErrors: at(5), RxDropped: at(6), TxDropped: at(7),
	}
}

func speed(link string) (mbit int, duplex string) {
	if n, err := strconv.Atoi(text("/sys/class/net", link, "speed")); err == nil && n > 0 {
		mbit = n
	}
	if duplex = text("/sys/class/net", link, "duplex"); duplex != "full" && duplex != "half" {
		duplex = ""
	}
	return mbit, duplex
}

// text is what a file of sysfs says; empty if it can't be read.
func text(path ...string) string {
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

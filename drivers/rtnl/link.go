package rtnl

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"komainu/netstack/spec"
)

// This file translates links to and from netlink messages (include/uapi/linux/if_link.h).

// link is what the kernel tells about one link.
type link struct {
	spec.Link
	master, parent, primary uint32 // indexes
	mac                     net.HardwareAddr
	stats                   []byte // struct rtnl_link_stats64

	active     uint32 // bond: index of the port in use
	aggregator uint16 // bond: the one in use; bond port: its own
	partner    net.HardwareAddr
	port       BondPort // of a bond
}

// skipStats is RTEXT_FILTER_SKIP_STATS.
const skipStats = 1 << 3

// links lists all, in the order of their indexes, with the counters if asked for.
func (c *Conn) links(stats bool) ([]link, error) {
	request, err := encode(make([]byte, unix.SizeofIfInfomsg), func(ae *netlink.AttributeEncoder) {
		if !stats {
			ae.Uint32(unix.IFLA_EXT_MASK, skipStats)
		}
	})
	if err != nil {
		return nil, err
	}
	msgs, err := c.dump(unix.RTM_GETLINK, request)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var links []link
	names := map[uint32]string{}
	for _, m := range msgs {
		l, err := decodeLink(m.Data)
		if err != nil {
			return nil, fmt.Errorf("list links: %w", err)
		}
		links = append(links, l)
		names[uint32(l.Index)] = l.Name //nolint:gosec // an ifindex
	}
	for i := range links {
		l := &links[i]
		l.Master, l.Bond.Primary = names[l.master], names[l.primary]
		if l.Kind == spec.VLAN {
			l.Parent = names[l.parent]
		}
	}
	slices.SortFunc(links, func(a, b link) int { return a.Index - b.Index })
	return links, nil
}

func decodeLink(b []byte) (link, error) {
	l := link{Link: spec.Link{Kind: spec.Port}}
	err := attributes(b, unix.SizeofIfInfomsg, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.IFLA_IFNAME:
			l.Name = ad.String()
		case unix.IFLA_ADDRESS:
			l.mac = net.HardwareAddr(ad.Bytes())
		case unix.IFLA_MTU:
			l.MTU = int(ad.Uint32())
		case unix.IFLA_IFALIAS:
			l.Label, l.Ours = strings.CutPrefix(ad.String(), aliasPrefix)
			if !l.Ours {
				l.Label = ""
			}
		case unix.IFLA_MASTER:
			l.master = ad.Uint32()
		case unix.IFLA_LINK:
			l.parent = ad.Uint32()
		case unix.IFLA_STATS64:
			l.stats = ad.Bytes()
		case unix.IFLA_LINKINFO:
			ad.Nested(l.decodeInfo)
		}
	})
	if err != nil {
		return l, err
	}
	l.Index = int(binary.NativeEndian.Uint32(b[4:]))
	flags := binary.NativeEndian.Uint32(b[8:])
	l.Up, l.Carrier = flags&unix.IFF_UP != 0, flags&unix.IFF_LOWER_UP != 0
	return l, nil
}

// decodeInfo reads IFLA_LINKINFO; the kernel puts the kind before the data.
func (l *link) decodeInfo(ad *netlink.AttributeDecoder) error {
	portOf := ""
	for ad.Next() {
		switch ad.Type() {
		case unix.IFLA_INFO_KIND:
			switch k := spec.Kind(ad.String()); k {
			case spec.Bond, spec.VLAN, spec.Bridge, spec.Dummy, spec.VRF, spec.XFRM:
				l.Kind = k
			}
		case unix.IFLA_INFO_DATA:
			switch l.Kind {
			case spec.Bond:
				ad.Nested(l.decodeBond)
			case spec.VLAN:
				ad.Nested(each(func(d *netlink.AttributeDecoder) {
					if d.Type() == unix.IFLA_VLAN_ID {
						l.VLAN = d.Uint16()
					}
				}))
			case spec.Bridge:
				ad.Nested(each(func(d *netlink.AttributeDecoder) {
					if d.Type() == unix.IFLA_BR_STP_STATE {
						l.STP = d.Uint32() != 0
					}
				}))
			case spec.VRF:
				ad.Nested(each(func(d *netlink.AttributeDecoder) {
					if d.Type() == unix.IFLA_VRF_TABLE {
						l.Table = d.Uint32()
					}
				}))
			case spec.XFRM:
				ad.Nested(each(func(d *netlink.AttributeDecoder) {
					if d.Type() == xfrmIfID {
						l.IfID = d.Uint32()
					}
				}))
			}
		case unix.IFLA_INFO_SLAVE_KIND:
			portOf = ad.String()
		case unix.IFLA_INFO_SLAVE_DATA:
			if portOf == string(spec.Bond) {
				ad.Nested(each(l.decodePort))
			}
		}
	}
	return nil
}

// xfrmIfID is IFLA_XFRM_IF_ID.
const xfrmIfID = 2

func each(f func(*netlink.AttributeDecoder)) func(*netlink.AttributeDecoder) error {
	return func(d *netlink.AttributeDecoder) error {
		for d.Next() {
			f(d)
		}
		return nil
	}
}

// Numbers of the modes (include/uapi/linux/if_bonding.h). Others that somebody
// chose by hand are none of ours: an empty mode.
const (
	modeActiveBackup = 1
	modeLACP         = 4
)

func (l *link) decodeBond(d *netlink.AttributeDecoder) error {
	o := &l.Bond
	for d.Next() {
		switch d.Type() {
		case unix.IFLA_BOND_MODE:
			switch d.Uint8() {
			case modeActiveBackup:
				o.Mode = spec.ActiveBackup
			case modeLACP:
				o.Mode = spec.LACP
			}
		case unix.IFLA_BOND_MIIMON:
			o.MIIMon = int(d.Uint32())
		case unix.IFLA_BOND_ARP_INTERVAL:
			o.ARPMon = int(d.Uint32())
		case unix.IFLA_BOND_ARP_IP_TARGET:
			d.Nested(each(func(d *netlink.AttributeDecoder) { o.Targets = append(o.Targets, addr(d.Bytes())) }))
		case unix.IFLA_BOND_PRIMARY:
			l.primary = d.Uint32()
		case unix.IFLA_BOND_AD_LACP_RATE:
			o.Fast = d.Uint8() != 0
		case unix.IFLA_BOND_MIN_LINKS:
			o.MinLinks = int(d.Uint32())
		case unix.IFLA_BOND_ACTIVE_SLAVE:
			l.active = d.Uint32()
		case unix.IFLA_BOND_AD_INFO:
			d.Nested(each(func(d *netlink.AttributeDecoder) {
				switch d.Type() {
				case unix.IFLA_BOND_AD_INFO_AGGREGATOR:
					l.aggregator = d.Uint16()
				case unix.IFLA_BOND_AD_INFO_PARTNER_MAC:
					l.partner = net.HardwareAddr(d.Bytes())
				}
			}))
		}
	}
	if o.Mode != spec.LACP {
		o.Fast, o.MinLinks = false, 0
	}
	if o.ARPMon == 0 {
		o.Targets = nil
	}
	return nil
}

func (l *link) decodePort(d *netlink.AttributeDecoder) {
	switch d.Type() {
	case unix.IFLA_BOND_SLAVE_STATE:
		l.port.Active = d.Uint8() == 0 // BOND_STATE_ACTIVE
	case unix.IFLA_BOND_SLAVE_MII_STATUS:
		l.port.Up = d.Uint8() == 0 // BOND_LINK_UP
	case unix.IFLA_BOND_SLAVE_LINK_FAILURE_COUNT:
		l.port.Failures = d.Uint32()
	case unix.IFLA_BOND_SLAVE_AD_AGGREGATOR_ID:
		l.aggregator = d.Uint16()
	}
}

// Flags of a message about a link.
type power uint8

const (
	asItIs power = iota
	down
	up
)

// encodeLink is a message about the link of that name, by name: an index would
// be that of another link if ours vanishes and returns.
func encodeLink(name string, p power, f func(*netlink.AttributeEncoder)) ([]byte, error) {
	h := make([]byte, unix.SizeofIfInfomsg)
	if p != asItIs {
		binary.NativeEndian.PutUint32(h[12:], unix.IFF_UP)
	}
	if p == up {
		binary.NativeEndian.PutUint32(h[8:], unix.IFF_UP)
	}
	return encode(h, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.IFLA_IFNAME, name)
		f(ae)
	})
}

// info encodes kind and options of a link; was is the zero value for a new one,
// else only the options that differ are sent.
func info(ae *netlink.AttributeEncoder, l, was spec.Link, primary uint32) {
	ae.Nested(unix.IFLA_LINKINFO, func(ae *netlink.AttributeEncoder) error {
		ae.String(unix.IFLA_INFO_KIND, string(l.Kind))
		ae.Nested(unix.IFLA_INFO_DATA, func(ae *netlink.AttributeEncoder) error {
			switch l.Kind {
			case spec.Bond:
				encodeBond(ae, l.Bond, was.Bond, primary)
			case spec.VLAN:
				ae.Uint16(unix.IFLA_VLAN_ID, l.VLAN)
			case spec.Bridge:
				stp := uint32(0)
				if l.STP {
					stp = 1
				}
				ae.Uint32(unix.IFLA_BR_STP_STATE, stp)
			case spec.VRF:
				ae.Uint32(unix.IFLA_VRF_TABLE, l.Table)
			case spec.XFRM: // of no link: outer packets go where they are routed
				ae.Uint32(xfrmIfID, l.IfID)
			}
			return nil
		})
		return nil
	})
}

// validateAll is BOND_ARP_VALIDATE_ALL: a port works while it carries answers of
// the targets, not while it carries anything at all.
const validateAll = 3

func encodeBond(ae *netlink.AttributeEncoder, o, was spec.BondOptions, primary uint32) {
	if o.Mode != was.Mode {
		mode := uint8(modeActiveBackup)
		if o.Mode == spec.LACP {
			mode = modeLACP
		}
		ae.Uint8(unix.IFLA_BOND_MODE, mode)
	}
	// Each way of monitoring switches the other off in the kernel.
	if o.MIIMon != was.MIIMon && o.ARPMon == 0 {
		ae.Uint32(unix.IFLA_BOND_MIIMON, uint32(o.MIIMon)) //nolint:gosec // ms
	}
	if o.ARPMon != was.ARPMon && (o.ARPMon != 0 || o.MIIMon == 0) {
		ae.Uint32(unix.IFLA_BOND_ARP_INTERVAL, uint32(o.ARPMon)) //nolint:gosec // ms
	}
	if o.ARPMon != 0 && !slices.Equal(o.Targets, was.Targets) {
		ae.Nested(unix.IFLA_BOND_ARP_IP_TARGET, func(ae *netlink.AttributeEncoder) error {
			for i, t := range o.Targets {
				ae.Bytes(uint16(i), ip4(t)) //nolint:gosec // 16 at most
			}
			return nil
		})
	}
	if o.ARPMon != 0 && was.ARPMon == 0 {
		ae.Uint32(unix.IFLA_BOND_ARP_VALIDATE, validateAll)
	}
	if o.Primary != was.Primary && o.Mode == spec.ActiveBackup {
		ae.Uint32(unix.IFLA_BOND_PRIMARY, primary)
	}
	if o.Mode == spec.LACP {
		if o.MinLinks != was.MinLinks {
			ae.Uint32(unix.IFLA_BOND_MIN_LINKS, uint32(o.MinLinks)) //nolint:gosec // a few
		}
		if o.Fast != was.Fast {
			rate := uint8(0)
			if o.Fast {
				rate = 1
			}
			ae.Uint8(unix.IFLA_BOND_AD_LACP_RATE, rate)
		}
	}
}

func ip4(a netip.Addr) []byte {
	b := a.Unmap().As4()
	return b[:]
}

package rtnl

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"komainu/netstack/plan"
	"komainu/netstack/spec"
)

// This file makes, sets and deletes links.

func (b *batch) addLink(ch plan.Change) error {
	l := ch.Link
	if l.Kind == spec.Port || l.Kind == spec.External {
		return fmt.Errorf("the box can't make a link of the kind %s: %w", l.Kind, unix.EOPNOTSUPP)
	}
	parent, err := b.index(l.Parent)
	if err != nil {
		return err
	}
	primary, err := b.index(l.Bond.Primary)
	if err != nil {
		return err
	}
	data, err := encodeLink(l.Name, down, func(ae *netlink.AttributeEncoder) {
		if l.MTU != 0 {
			ae.Uint32(unix.IFLA_MTU, uint32(l.MTU)) //nolint:gosec // at most 65535
		}
		if parent != 0 {
			ae.Uint32(unix.IFLA_LINK, parent)
		}
		info(ae, l, spec.Link{}, primary)
	})
	if err != nil {
		return err
	}
	delete(b.known, l.Name)
	if err := b.now(ch, unix.RTM_NEWLINK, netlink.Create|netlink.Excl, data); err != nil {
		if have, e := b.link(l.Name); !errors.Is(err, unix.EEXIST) || e != nil || have.Kind != l.Kind || !have.Ours {
			return err
		}
	}
	if l.Kind == spec.VRF {
		if err := b.closeTable(ch, l.Table, unix.RTM_NEWROUTE, netlink.Create|netlink.Replace); err != nil {
			return err
		}
	}
	data, err = encodeLink(l.Name, asItIs, func(ae *netlink.AttributeEncoder) { alias(ae, l) })
	if err != nil {
		return err
	}
	return errors.Join(b.now(ch, unix.RTM_NEWLINK, 0, data), b.quiet(l.Name))
}

// alias encodes the mark and the label of a link of ours; without a label, none.
func alias(ae *netlink.AttributeEncoder, l spec.Link) {
	mark := ""
	if l.Label != "" {
		mark = aliasPrefix + l.Label
	}
	ae.Bytes(unix.IFLA_IFALIAS, []byte(mark))
}

// setLink sends what differs: options, MTU, alias and master in one message,
// which the kernel takes in this order (do_setlink), then up or down. In the same
// message the order of master and up hangs on the kernel (6.1: up first, and a
// bond takes no port that is up).
func (b *batch) setLink(ch plan.Change) error {
	l, was := ch.Link, ch.Was
	if l.Label != "" {
		if err := b.quiet(l.Name); err != nil {
			return err
		}
	}
	master, err := b.index(l.Master)
	if err != nil {
		return err
	}
	primary, err := b.index(l.Bond.Primary)
	if err != nil {
		return err
	}
	p := asItIs
	if l.Up && !was.Up {
		p = up
	} else if !l.Up && was.Up {
		p = down
	}
	data, err := encodeLink(l.Name, asItIs, func(ae *netlink.AttributeEncoder) {
		if l.STP != was.STP || !sameBond(l.Bond, was.Bond) {
			info(ae, l, was, primary)
		}
		if l.MTU != 0 && l.MTU != was.MTU {
			ae.Uint32(unix.IFLA_MTU, uint32(l.MTU)) //nolint:gosec // at most 65535
		}
		if l.Label != was.Label || l.Label != "" && !was.Ours {
			alias(ae, l)
		}
		if l.Master != was.Master {
			ae.Uint32(unix.IFLA_MASTER, master)
		}
	})
	if err != nil {
		return err
	}
	if err := b.now(ch, unix.RTM_NEWLINK, 0, data); err != nil || p == asItIs {
		return err
	}
	if data, err = encodeLink(l.Name, p, func(*netlink.AttributeEncoder) {}); err != nil {
		return err
	}
	return b.now(ch, unix.RTM_NEWLINK, 0, data)
}

func sameBond(a, b spec.BondOptions) bool {
	return a.Mode == b.Mode && a.MIIMon == b.MIIMon && a.ARPMon == b.ARPMon && a.Primary == b.Primary &&
		a.Fast == b.Fast && a.MinLinks == b.MinLinks && slices.Equal(a.Targets, b.Targets)
}

func (b *batch) deleteLink(ch plan.Change) error {
	data, err := encodeLink(ch.Was.Name, asItIs, func(*netlink.AttributeEncoder) {})
	if err != nil {
		return err
	}
	delete(b.known, ch.Was.Name)
	if err := b.now(ch, unix.RTM_DELLINK, 0, data, unix.ENODEV); err != nil {
		return err
	}
	if ch.Was.Kind == spec.VRF {
		return b.closeTable(ch, ch.Was.Table, unix.RTM_DELROUTE, 0, unix.ESRCH)
	}
	return nil
}

// lastMetric is worse than that of any route that leads somewhere (vrf.rst).
const lastMetric = 4278198272

// closeTable queues the routes at the end of a VRF's table.
func (b *batch) closeTable(ch plan.Change, table uint32, kind netlink.HeaderType, flags netlink.HeaderFlags, fine ...error) error {
	for _, all := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		data, err := encodeRoute(spec.Route{To: netip.PrefixFrom(all, 0), Table: table, Metric: lastMetric}, 0, unix.RTN_UNREACHABLE)
		if err != nil {
			return err
		}
		b.queue(ch, kind, flags, data, fine...)
	}
	return nil
}

// quiet keeps a link from configuring itself by router advertisements, and from
// dropping the other addresses of a subnet with the first one.
func (b *batch) quiet(name string) error {
	var here unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &here); err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	if here.Ino != b.conn.space.Ino || here.Dev != b.conn.space.Dev {
		return errors.New("links are set in the network namespace of the route socket only")
	}
	for _, s := range []struct{ path, value string }{
		{"/proc/sys/net/ipv6/conf/" + name + "/accept_ra", "0"},
		{"/proc/sys/net/ipv4/conf/" + name + "/promote_secondaries", "1"},
	} {
		err := os.WriteFile(s.path, []byte(s.value), 0)
		if errors.Is(err, os.ErrNotExist) {
			// Without IPv6, or a link that has gone: the next message says so.
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

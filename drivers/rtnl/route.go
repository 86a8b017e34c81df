package rtnl

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"komainu/netstack/spec"
)

// This file translates addresses, routes and rules to and from netlink messages.

var errShort = errors.New("the kernel sent a message that is too short")

// attributes calls f with each attribute behind a fixed header.
func attributes(b []byte, header int, f func(*netlink.AttributeDecoder)) error {
	if len(b) < header {
		return errShort
	}
	ad, err := netlink.NewAttributeDecoder(b[header:])
	if err != nil {
		return err
	}
	for ad.Next() {
		f(ad)
	}
	return ad.Err()
}

// encode puts attributes behind a fixed header.
func encode(header []byte, f func(*netlink.AttributeEncoder)) ([]byte, error) {
	ae := netlink.NewAttributeEncoder()
	f(ae)
	b, err := ae.Encode()
	return append(header, b...), err
}

func family(a netip.Addr) byte {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// prefix puts an address of a family and its length together; without an
// address, which the kernel leaves out of a default route, it is all of the
// family, and of another family than IP the invalid prefix.
func prefix(family byte, ip netip.Addr, bits byte) netip.Prefix {
	if !ip.IsValid() {
		switch family {
		case unix.AF_INET:
			ip = netip.IPv4Unspecified()
		case unix.AF_INET6:
			ip = netip.IPv6Unspecified()
		}
	}
	return netip.PrefixFrom(ip, int(bits))
}

type address struct {
	spec.Address
	index uint32
	own   bool // the kernel's link-local one (IFA_PROTO, Linux 5.18)
}

const (
	ifaProto     = 11 // IFA_PROTO
	protoKernelL = 3  // IFAPROT_KERNEL_LL
)

func decodeAddress(b []byte) (address, error) {
	var a address
	var ip, local netip.Addr
	var flags uint32
	err := attributes(b, unix.SizeofIfAddrmsg, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.IFA_ADDRESS:
			ip = addr(ad.Bytes())
		case unix.IFA_LOCAL: // differs from the address on a point-to-point link
			local = addr(ad.Bytes())
		case unix.IFA_FLAGS:
			flags = ad.Uint32()
		case ifaProto:
			a.own = ad.Uint8() == protoKernelL
		}
	})
	if err != nil {
		return a, err
	}
	if local.IsValid() {
		ip = local
	}
	a.Prefix = netip.PrefixFrom(ip, int(b[1]))
	a.index = binary.NativeEndian.Uint32(b[4:])
	a.Duplicate = flags&unix.IFA_F_DADFAILED != 0
	a.Tentative = flags&unix.IFA_F_TENTATIVE != 0 && !a.Duplicate
	return a, nil
}

// encodeAddress asks for duplicate detection, but for a /128: that is a stable
// address, which has to be usable at once when it moves here.
func encodeAddress(a spec.Address, index uint32) ([]byte, error) {
	ip := a.Prefix.Addr()
	h := make([]byte, unix.SizeofIfAddrmsg)
	h[0], h[1] = family(ip), byte(a.Prefix.Bits()) //nolint:gosec // at most 128
	binary.NativeEndian.PutUint32(h[4:], index)
	return encode(h, func(ae *netlink.AttributeEncoder) {
		ae.Bytes(unix.IFA_LOCAL, ip.AsSlice())
		ae.Bytes(unix.IFA_ADDRESS, ip.AsSlice())
		if ip.Is6() && a.Prefix.Bits() == 128 {
			ae.Uint32(unix.IFA_FLAGS, unix.IFA_F_NODAD)
		}
	})
}

type route struct {
	spec.Route
	index          uint32
	protocol, kind byte
	cloned         bool
}

// defaultMetric6 is what IPv6 takes for no metric (IP6_RT_PRIO_USER).
const defaultMetric6 = 1024

func decodeRoute(b []byte) (route, error) {
	var r route
	var to netip.Addr
	err := attributes(b, unix.SizeofRtMsg, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.RTA_DST:
			to = addr(ad.Bytes())
		case unix.RTA_GATEWAY:
			r.Via = addr(ad.Bytes())
		case unix.RTA_OIF:
			r.index = ad.Uint32()
		case unix.RTA_PREFSRC:
			r.Source = addr(ad.Bytes())
		case unix.RTA_PRIORITY:
			r.Metric = ad.Uint32()
		case unix.RTA_TABLE:
			r.Table = ad.Uint32()
		case unix.RTA_METRICS:
			ad.Nested(each(func(d *netlink.AttributeDecoder) {
				if d.Type() == unix.RTAX_MTU {
					r.MTU = int(d.Uint32())
				}
			}))
		}
	})
	if err != nil {
		return r, err
	}
	r.To = prefix(b[0], to, b[1])
	r.protocol, r.kind = b[5], b[7]
	r.cloned = binary.NativeEndian.Uint32(b[8:])&unix.RTM_F_CLONED != 0
	if r.Table == unix.RT_TABLE_MAIN {
		r.Table = 0
	}
	if b[0] == unix.AF_INET6 && r.Metric == defaultMetric6 {
		r.Metric = 0
	}
	return r, nil
}

func table(t uint32) uint32 {
	if t == 0 {
		return unix.RT_TABLE_MAIN
	}
	return t
}

func encodeRoute(r spec.Route, index uint32, kind byte) ([]byte, error) {
	h := make([]byte, unix.SizeofRtMsg)
	h[0], h[1] = family(r.To.Addr()), byte(r.To.Bits()) //nolint:gosec // at most 128
	h[5], h[6], h[7] = Protocol, unix.RT_SCOPE_UNIVERSE, kind
	if kind == unix.RTN_UNICAST && !r.Via.IsValid() && r.To.Addr().Is4() {
		h[6] = unix.RT_SCOPE_LINK
	}
	metric := r.Metric
	if metric == 0 && r.To.Addr().Is6() {
		metric = defaultMetric6
	}
	return encode(h, func(ae *netlink.AttributeEncoder) {
		ae.Bytes(unix.RTA_DST, r.To.Masked().Addr().AsSlice())
		ae.Uint32(unix.RTA_TABLE, table(r.Table))
		ae.Uint32(unix.RTA_PRIORITY, metric)
		if index != 0 {
			ae.Uint32(unix.RTA_OIF, index)
		}
		if r.Via.IsValid() {
			ae.Bytes(unix.RTA_GATEWAY, r.Via.AsSlice())
		}
		if r.Source.IsValid() {
			ae.Bytes(unix.RTA_PREFSRC, r.Source.AsSlice())
		}
		if r.MTU != 0 {
			ae.Nested(unix.RTA_METRICS, func(ae *netlink.AttributeEncoder) error {
				ae.Uint32(unix.RTAX_MTU, uint32(r.MTU)) //nolint:gosec // at most 65535
				return nil
			})
		}
	})
}

const (
	ruleHeader  = 12 // struct fib_rule_hdr
	actionTable = 1  // FR_ACT_TO_TBL
)

func decodeRule(b []byte) (r spec.Rule, protocol byte, err error) {
	var from netip.Addr
	err = attributes(b, ruleHeader, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.FRA_SRC:
			from = addr(ad.Bytes())
		case unix.FRA_PRIORITY:
			r.Priority = ad.Uint32()
		case unix.FRA_TABLE:
			r.Table = ad.Uint32()
		case unix.FRA_FWMARK:
			r.Mark = ad.Uint32()
		case unix.FRA_FWMASK:
			r.Mask = ad.Uint32()
		case unix.FRA_PROTOCOL:
			protocol = ad.Uint8()
		}
	})
	if err == nil {
		r.From = prefix(b[0], from, b[2])
	}
	return r, protocol, err
}

func encodeRule(r spec.Rule) ([]byte, error) {
	h := make([]byte, ruleHeader)
	h[0], h[2], h[7] = family(r.From.Addr()), byte(r.From.Bits()), actionTable //nolint:gosec // at most 128
	return encode(h, func(ae *netlink.AttributeEncoder) {
		ae.Uint32(unix.FRA_PRIORITY, r.Priority)
		ae.Uint32(unix.FRA_TABLE, table(r.Table))
		ae.Uint8(unix.FRA_PROTOCOL, Protocol)
		if r.From.Bits() > 0 {
			ae.Bytes(unix.FRA_SRC, r.From.Masked().Addr().AsSlice())
		}
		if r.Mask != 0 {
			ae.Uint32(unix.FRA_FWMARK, r.Mark&r.Mask)
			ae.Uint32(unix.FRA_FWMASK, r.Mask)
		}
	})
}

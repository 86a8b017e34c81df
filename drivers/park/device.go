package park

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"

	"komainu/drivers/nft"
)

// The routing table of parked packets, and the priorities of the rules.
const (
	table     = 250
	parkRule  = 50
	localRule = 100 // where the rule of priority 0 goes
)

// device makes the tun device and leads the mark to it; undo takes back the
// rules (the routes go with the device, but for the last resorts).
func device(name string) (_ *os.File, undo func() error, err error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, nil, err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, nil, fmt.Errorf("attach: %w", err)
	}
	// The clients' addresses, and the box's own, don't belong to this link:
	// loose check, which outranks a strict one of "all".
	for key, value := range map[string]string{"rp_filter": "2", "accept_local": "1"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/"+key, []byte(value), 0o644); err != nil {
			return nil, nil, err
		}
	}
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, nil, err
	}
	c, err := rtnetlink.Dial(nil)
	if err != nil {
		return nil, nil, fmt.Errorf("open a route socket: %w", err)
	}
	defer c.Close()
	if err := c.Link.Set(&rtnetlink.LinkMessage{Index: uint32(ifi.Index), Flags: unix.IFF_UP, Change: unix.IFF_UP}); err != nil {
		return nil, nil, fmt.Errorf("set the link up: %w", err)
	}
	// A link without any IPv4 address fails even the loose check of sources
	// (fib_validate_source). This one is nobody's: the dummy address of RFC 7600.
	dummy := net.IPv4(192, 0, 0, 8)
	if err := c.Address.New(&rtnetlink.AddressMessage{
		Family: unix.AF_INET, PrefixLength: 32, Scope: unix.RT_SCOPE_LINK, Index: uint32(ifi.Index),
		Attributes: &rtnetlink.AddressAttributes{Address: dummy, Local: dummy},
	}); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, nil, fmt.Errorf("give the link an address: %w", err)
	}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		if err := lead(c, family, uint32(ifi.Index)); err != nil {
			return nil, nil, err
		}
	}
	// Only now: the runtime can't wait for a tun that isn't attached.
	return os.NewFile(uintptr(fd), "tun "+name), unlead, nil
}

// route is a default route of the parking table.
func route(family uint8, kind uint8, link, priority uint32) *rtnetlink.RouteMessage {
	scope := uint8(unix.RT_SCOPE_UNIVERSE)
	if kind == unix.RTN_UNICAST && family == unix.AF_INET {
		scope = unix.RT_SCOPE_LINK
	}
	return &rtnetlink.RouteMessage{
		Family: family, Table: table, Protocol: unix.RTPROT_STATIC, Type: kind, Scope: scope,
		Attributes: rtnetlink.RouteAttributes{OutIface: link, Priority: priority},
	}
}

func rule(family uint8, priority, table uint32) *rtnetlink.RuleMessage {
	const toTable = 1 // FR_ACT_TO_TBL
	m := &rtnetlink.RuleMessage{
		Family: family, Table: uint8(table), Action: toTable,
		Attributes: &rtnetlink.RuleAttributes{Priority: &priority, Table: &table},
	}
	if priority == parkRule {
		mark := nft.ParkMark
		m.Attributes.FwMark, m.Attributes.FwMask = &mark, &mark
	}
	return m
}

// lead makes routes and rules of one family. Each step can be repeated.
func lead(c *rtnetlink.Conn, family uint8, link uint32) error {
	// When the device is gone the mark must not fall through to the table of
	// local addresses: the box would refuse the client.
	for _, r := range []*rtnetlink.RouteMessage{
		route(family, unix.RTN_BLACKHOLE, 0, 1000), route(family, unix.RTN_UNICAST, link, 100),
	} {
		if err := c.Route.Replace(r); err != nil {
			return fmt.Errorf("route parked packets: %w", err)
		}
	}
	if err := c.Rule.Add(rule(family, parkRule, table)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add the rule for parked packets: %w", err)
	}
	return moveLocal(c, family, localRule)
}

func unlead() error {
	c, err := rtnetlink.Dial(nil)
	if err != nil {
		return fmt.Errorf("open a route socket: %w", err)
	}
	defer c.Close()
	var errs []error
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		errs = append(errs, moveLocal(c, family, 0))
		for what, err := range map[string]error{
			"rule":  c.Rule.Delete(rule(family, parkRule, table)),
			"route": c.Route.Delete(route(family, unix.RTN_BLACKHOLE, 0, 1000)),
		} {
			if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("delete the %s of parked packets: %w", what, err))
			}
		}
	}
	return errors.Join(errs...)
}

// moveLocal makes the rule for local addresses stand at one priority only; it
// is there all the time.
func moveLocal(c *rtnetlink.Conn, family uint8, to uint32) error {
	from := uint32(localRule)
	if to == localRule {
		from = 0
	}
	if err := c.Rule.Add(rule(family, to, unix.RT_TABLE_LOCAL)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add the rule for local addresses at priority %d: %w", to, err)
	}
	rules, err := c.Rule.List()
	if err != nil {
		return fmt.Errorf("list rules: %w", err)
	}
	for _, r := range rules {
		at := uint32(0) // the kernel leaves priority 0 out
		if r.Attributes != nil && r.Attributes.Priority != nil {
			at = *r.Attributes.Priority
		}
		if r.Family == family && r.Table == unix.RT_TABLE_LOCAL && at == from {
			if err := c.Rule.Delete(rule(family, from, unix.RT_TABLE_LOCAL)); err != nil {
				return fmt.Errorf("delete the rule for local addresses at priority %d: %w", from, err)
			}
		}
	}
	return nil
}

package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"komainu/netstack/qos"
)

// Link is the state of one network interface.
type Link struct {
	Name    string
	Up      bool // switched on by the operator (IFF_UP)
	Carrier bool // the other end is there (IFF_LOWER_UP)
}

// Watch calls f with every link as it is now, then with every one that changes,
// from its own goroutine and without overlap, until ctx ends; it returns nil
// then. A link that disappears is reported as down. It works in the network
// namespace of the calling thread at the time of the call.
func Watch(ctx context.Context, f func(Link)) error {
	known := map[string]Link{}
	tell := func(l Link) {
		if old, ok := known[l.Name]; !ok || old != l {
			known[l.Name] = l
			f(l)
		}
	}
	list := func(c *Conn) error {
		links, err := c.links(false)
		if err != nil {
			return err
		}
		there := map[string]bool{}
		for _, l := range links {
			there[l.Name] = true
			tell(Link{Name: l.Name, Up: l.Up, Carrier: l.Carrier})
		}
		for name := range known {
			if !there[name] {
				tell(Link{Name: name})
			}
		}
		return nil
	}
	err := listen(ctx, []uint{unix.RTNLGRP_LINK}, list, func(c *Conn, msgs []netlink.Message) error {
		for _, m := range msgs {
			l, err := decodeLink(m.Data)
			if err != nil {
				return err
			}
			if m.Header.Type == unix.RTM_DELLINK {
				l.Up, l.Carrier = false, false
			}
			tell(Link{Name: l.Name, Up: l.Up, Carrier: l.Carrier})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	return nil
}

// What says what has changed.
type What string

// What Changes tells of. All means that anything may have.
const (
	All       What = "all"
	Links     What = "links"
	Addresses What = "addresses"
	Routes    What = "routes"
	Rules     What = "rules"
	Queues    What = "queues"
)

// Changes calls f whenever links, addresses, or our routes, rules and queues may
// differ from what was observed before, from its own goroutine and without overlap,
// until ctx ends; it returns nil then. It begins with All, once it listens; All
// comes too when changes were lost because f took long. Our own changes are told
// as well: the caller observes and finds nothing. One call stands for all of a
// kind that came together. It works in the network namespace of the calling
// thread at the time of the call.
func Changes(ctx context.Context, f func(What)) error {
	groups := []uint{
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE,
		unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_TC,
	}
	lost := func(*Conn) error {
		f(All)
		return nil
	}
	err := listen(ctx, groups, lost, func(_ *Conn, msgs []netlink.Message) error {
		told := map[What]bool{}
		for _, m := range msgs {
			if w := concerns(m); w != "" && !told[w] {
				told[w] = true
				f(w)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("watch the network: %w", err)
	}
	return nil
}

// concerns says what a notification is about; empty: nothing of ours.
func concerns(m netlink.Message) What {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return Links
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return Addresses
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		// A replacement by hand tells of the new route only.
		if r, err := decodeRoute(m.Data); err == nil && (r.protocol == Protocol || m.Header.Flags&netlink.Replace != 0) {
			return Routes
		}
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		if _, protocol, err := decodeRule(m.Data); err == nil && protocol == Protocol {
			return Rules
		}
	case unix.RTM_NEWQDISC, unix.RTM_DELQDISC, unix.RTM_NEWTCLASS, unix.RTM_DELTCLASS:
		// struct tcmsg: the handle at 8, the parent's at 12 (linux/rtnetlink.h).
		if b := m.Data; len(b) >= 16 && (binary.NativeEndian.Uint32(b[8:])>>16 == qos.Major || binary.NativeEndian.Uint32(b[12:])>>16 == qos.Major) {
			return Queues
		}
	}
	return ""
}

// listen joins groups, calls all once it hears them and whenever something was
// lost, and some with what comes, until ctx ends or one of them fails. The Conn
// that they get is for questions.
func listen(ctx context.Context, groups []uint, all func(*Conn) error, some func(*Conn, []netlink.Message) error) error {
	ear, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return err
	}
	defer ear.Close()
	for _, g := range groups {
		if err := ear.JoinGroup(uint32(g)); err != nil { //nolint:gosec // below 40
			return err
		}
	}
	mouth, err := Open() // after the groups, so that no change falls in between
	if err != nil {
		return err
	}
	defer mouth.Close()
	defer context.AfterFunc(ctx, func() { ear.SetReadDeadline(time.Unix(1, 0)) })()
	err = all(mouth)
	for err == nil && ctx.Err() == nil {
		var msgs []netlink.Message
		msgs, err = ear.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			err = all(mouth)
		case err == nil:
			err = some(mouth, msgs)
		}
	}
	return err
}

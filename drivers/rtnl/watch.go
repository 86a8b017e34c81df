package rtnl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
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
	c, err := rtnetlink.Dial(&netlink.Config{Groups: unix.RTMGRP_LINK})
	if err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	defer c.Close()
	lister, err := Open() // after the groups, so that no change falls in between
	if err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	defer lister.Close()
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })()

	known := map[string]Link{}
	tell := func(l Link) {
		if old, ok := known[l.Name]; !ok || old != l {
			known[l.Name] = l
			f(l)
		}
	}
	list := func() error {
		links, err := lister.conn.Link.List()
		if err != nil {
			return fmt.Errorf("watch links: list them: %w", err)
		}
		there := map[string]bool{}
		for _, m := range links {
			if m.Attributes != nil {
				there[m.Attributes.Name] = true
				tell(state(m))
			}
		}
		for name := range known {
			if !there[name] {
				tell(Link{Name: name})
			}
		}
		return nil
	}
	if err := list(); err != nil {
		return err
	}
	for {
		msgs, raw, err := c.Receive()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, unix.ENOBUFS) { // changes were lost: look at all
			if err := list(); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("watch links: %w", err)
		}
		for i, m := range msgs {
			l, ok := m.(*rtnetlink.LinkMessage)
			if !ok || l.Attributes == nil {
				continue
			}
			if raw[i].Header.Type == unix.RTM_DELLINK {
				tell(Link{Name: l.Attributes.Name})
			} else {
				tell(state(*l))
			}
		}
	}
}

func state(m rtnetlink.LinkMessage) Link {
	return Link{
		Name: m.Attributes.Name, Up: m.Flags&unix.IFF_UP != 0,
		Carrier: m.Flags&unix.IFF_LOWER_UP != 0,
	}
}

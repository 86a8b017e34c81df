// Package uevents listens to what the kernel tells about devices that come,
// change and go (Documentation/ABI, uevent; NETLINK_KOBJECT_UEVENT). It decides
// nothing. Start reading at Conn.
package uevents

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Event is one message. Lost (Action "lost", nothing else) says that the
// kernel had to drop some: look at everything again.
type Event struct {
	Action string            // "add", "remove", "change", "bind", ...; "lost"
	Path   string            // of the device, below /sys
	Vars   map[string]string // SUBSYSTEM, DEVNAME, DEVTYPE, MODALIAS, ...
}

// Lost is the Action of an event that stands for those that were dropped.
const Lost = "lost"

// Conn is an open subscription: what happens from Listen on is kept for Run.
type Conn struct{ f *os.File }

// Listen subscribes to the kernel's own events (group 1), in the network
// namespace of the caller.
func Listen() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("listen to device events: %w", err)
	}
	f := os.NewFile(uintptr(fd), "uevents")
	// A USB hub with its devices comes with some hundred events of 1 KiB. Without
	// the right to force it the default has to do: Lost says when it didn't.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return nil, errors.Join(fmt.Errorf("listen to device events: %w", err), f.Close())
	}
	return &Conn{f}, nil
}

// Run hands over one event after another until ctx ends, which is no error.
// Events are kept for the next Run, one at a time.
func (c *Conn) Run(ctx context.Context, take func(Event)) error {
	if err := c.f.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("read device events: %w", err)
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.f.SetReadDeadline(time.Unix(1, 0)) // fails only when closed
		close(stopped)
	})
	defer func() {
		if !stop() {
			<-stopped // or it would end the next Run
		}
	}()
	raw, err := c.f.SyscallConn()
	if err != nil {
		return err
	}
	buf := make([]byte, 16<<10) // the kernel's limit is 2 KiB of variables
	for {
		var n int
		var from unix.Sockaddr
		var rerr error
		err := raw.Read(func(fd uintptr) bool {
			n, from, rerr = unix.Recvfrom(int(fd), buf, 0)
			return !errors.Is(rerr, unix.EAGAIN) && !errors.Is(rerr, unix.EINTR)
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("read device events: %w", err)
		case errors.Is(rerr, unix.ENOBUFS):
			take(Event{Action: Lost})
			continue
		case rerr != nil:
			return fmt.Errorf("read device events: %w", rerr)
		}
		if nl, ok := from.(*unix.SockaddrNetlink); !ok || nl.Pid != 0 {
			continue // not from the kernel
		}
		if e, ok := Parse(buf[:n]); ok {
			take(e)
		}
	}
}

// Close ends the subscription.
func (c *Conn) Close() error { return c.f.Close() }

// Parse reads "ACTION@PATH\0KEY=VALUE\0..."; false: it is something else.
func Parse(b []byte) (Event, bool) {
	head, rest, _ := strings.Cut(string(b), "\x00")
	action, path, ok := strings.Cut(head, "@")
	if !ok {
		return Event{}, false
	}
	e := Event{Action: action, Path: path, Vars: make(map[string]string)}
	for v := range strings.SplitSeq(rest, "\x00") {
		if key, value, ok := strings.Cut(v, "="); ok {
			e.Vars[key] = value
		}
	}
	return e, true
}

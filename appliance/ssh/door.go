package ssh

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// door bounds how many are inside. A connection without a session is a
// stranger: when there are too many, the oldest of the address that has the
// most goes, so that a flood drives out its own before anybody else.
type door struct {
	strangers int           // at most
	time      time.Duration // until a stranger has a session

	mu  sync.Mutex
	all []*visitor // oldest first
}

// visitor is one connection.
type visitor struct {
	door *door
	conn net.Conn
	from string          // remote address
	net  string          // what counts as one remote address
	ctx  context.Context // until the connection ends
	stop func()          // ends it, any number of times

	sessions int         // under door.mu
	timer    *time.Timer // for a stranger
}

// enter takes a connection in; ctx ends it.
func (d *door) enter(ctx context.Context, conn net.Conn) *visitor {
	c := &visitor{door: d, conn: conn}
	c.from, c.net = origin(conn.RemoteAddr())
	ctx, cancel := context.WithCancel(ctx)
	c.ctx, c.stop = ctx, cancel
	// Closing twice is harmless, and an error of it tells nothing.
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	d.mu.Lock()
	defer d.mu.Unlock()
	c.timer = time.AfterFunc(d.time, c.stop)
	d.all = append(d.all, c)
	if v := d.surplus(); v != nil {
		v.stop()
		d.remove(v)
	}
	return c
}

// surplus is the stranger who must go; nil: there is room.
func (d *door) surplus() *visitor {
	count, per := 0, map[string]int{}
	for _, v := range d.all {
		if v.sessions == 0 {
			count++
			per[v.net]++
		}
	}
	if count <= d.strangers {
		return nil
	}
	var worst *visitor
	for _, v := range d.all { // the first of the most is its oldest
		if v.sessions == 0 && (worst == nil || per[v.net] > per[worst.net]) {
			worst = v
		}
	}
	return worst
}

func (d *door) remove(c *visitor) {
	c.timer.Stop()
	d.all = slices.DeleteFunc(d.all, func(v *visitor) bool { return v == c })
}

// leave ends the connection.
func (c *visitor) leave() {
	c.stop()
	c.door.mu.Lock()
	defer c.door.mu.Unlock()
	c.door.remove(c)
}

// session counts one more session of c; false: there are too many.
func (d *door) session(c *visitor) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	all, each := 0, 0
	for _, v := range d.all {
		all += v.sessions
		if v.net == c.net {
			each += v.sessions
		}
	}
	if all >= sessionsMost || each >= sessionsEach || c.ctx.Err() != nil {
		return false
	}
	c.sessions++
	c.timer.Stop()
	return true
}

// sessionOver takes one away; with the last one c is a stranger again.
func (d *door) sessionOver(c *visitor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.sessions--; c.sessions == 0 {
		c.timer.Reset(d.time)
	}
}

// origin is the address of a, as people read it, and what counts as one
// address: whoever has one IPv6 address has its whole /64.
func origin(a net.Addr) (from, network string) {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String(), a.String()
	}
	ip := at.Addr().Unmap()
	if p, err := ip.Prefix(64); ip.Is6() && err == nil {
		return ip.String(), p.String()
	}
	return ip.String(), ip.String()
}

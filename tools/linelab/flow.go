package linelab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"komainu/tools/lab"
)

// Echo sends every datagram and every byte of a connection back, at a host's
// port, until its test ends.
type Echo struct {
	udp  net.PacketConn
	tcp  net.Listener
	work sync.WaitGroup
	mu   sync.Mutex
	open map[net.Conn]bool
}

// NewEcho starts one. addr is "host:port".
func NewEcho(ctx context.Context, at *lab.Host, addr string) (*Echo, error) {
	e := &Echo{open: map[net.Conn]bool{}}
	var err error
	if e.udp, err = at.ListenPacket(ctx, "udp", addr); err == nil {
		e.tcp, err = at.Listen(ctx, "tcp", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("echo at %s: %w", addr, err)
	}
	e.work.Go(func() {
		b := make([]byte, 65536)
		for {
			n, from, err := e.udp.ReadFrom(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = e.udp.WriteTo(b[:n], from) // what doesn't come back is lost, and counted there
			}
		}
	})
	e.work.Go(func() {
		for {
			c, err := e.tcp.Accept()
			if err != nil {
				return
			}
			e.mu.Lock()
			e.open[c] = true
			e.mu.Unlock()
			e.work.Go(func() {
				_, _ = io.Copy(c, c) // ends with the connection
				c.Close()
				e.mu.Lock()
				delete(e.open, c)
				e.mu.Unlock()
			})
		}
	})
	return e, nil
}

// Close ends it.
func (e *Echo) Close() {
	e.udp.Close()
	e.tcp.Close()
	e.mu.Lock()
	for c := range e.open {
		c.Close()
	}
	e.mu.Unlock()
	e.work.Wait()
}

// Flow is datagrams that a host sends at a steady rate to an Echo.
type Flow struct {
	conn    net.Conn
	stop    chan struct{}
	sending sync.WaitGroup
	hearing sync.WaitGroup

	mu   sync.Mutex
	sent []time.Time
	back []time.Time // zero: lost so far
}

// Report is what became of a flow.
type Report struct {
	Sent, Lost int
	RTT        []time.Duration // of those that came back, in the order of sending
	Gap        time.Duration   // longest time without one that came back
}

// Quantile is the q-th part of the round trips, 0 to 1; 0 if there are none.
func (r Report) Quantile(q float64) time.Duration {
	if len(r.RTT) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(r.RTT))
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

// NewFlow starts one: a datagram of size bytes of payload, 8 at least, in each
// interval.
func NewFlow(ctx context.Context, from *lab.Host, to string, every time.Duration, size int) (*Flow, error) {
	c, err := from.Dial(ctx, "udp", to)
	if err != nil {
		return nil, fmt.Errorf("flow to %s: %w", to, err)
	}
	f := &Flow{conn: c, stop: make(chan struct{})}
	f.sending.Go(func() { f.send(every, max(size, 8)) })
	f.hearing.Go(f.receive)
	return f, nil
}

func (f *Flow) send(every time.Duration, size int) {
	b := make([]byte, size)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-tick.C:
		}
		f.mu.Lock()
		binary.BigEndian.PutUint64(b, uint64(len(f.sent)))
		f.sent, f.back = append(f.sent, time.Now()), append(f.back, time.Time{})
		f.mu.Unlock()
		_, _ = f.conn.Write(b) // an unreachable network is a loss
	}
}

func (f *Flow) receive() {
	b := make([]byte, 65536)
	for {
		n, err := f.conn.Read(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n < 8 {
			continue // an ICMP error of a datagram before
		}
		f.mu.Lock()
		if i := binary.BigEndian.Uint64(b); i < uint64(len(f.back)) && f.back[i].IsZero() {
			f.back[i] = time.Now()
		}
		f.mu.Unlock()
	}
}

// Passed tells whether a datagram sent at or after t came back.
func (f *Flow) Passed(t time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := len(f.sent) - 1; i >= 0 && !f.sent[i].Before(t); i-- {
		if !f.back[i].IsZero() {
			return true
		}
	}
	return false
}

// First is when the first datagram that was sent at or after t came back.
func (f *Flow) First(t time.Time) (time.Time, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.sent {
		if !f.sent[i].Before(t) && !f.back[i].IsZero() {
			return f.back[i], true
		}
	}
	return time.Time{}, false
}

// Stop ends the flow, gives what is under way the time late, and reports what
// was sent at or after from.
func (f *Flow) Stop(from time.Time, late time.Duration) Report {
	close(f.stop)
	f.sending.Wait()
	f.until(late)
	f.conn.Close()
	f.hearing.Wait()
	var r Report
	last := from
	for i, s := range f.sent {
		if s.Before(from) {
			continue
		}
		r.Sent++
		if f.back[i].IsZero() {
			r.Lost++
			continue
		}
		r.RTT = append(r.RTT, f.back[i].Sub(s))
		r.Gap = max(r.Gap, f.back[i].Sub(last))
		last = f.back[i]
	}
	return r
}

// until waits until all that was sent is back, late at most.
func (f *Flow) until(late time.Duration) {
	end := time.Now().Add(late)
	for time.Now().Before(end) {
		f.mu.Lock()
		all := !slices.ContainsFunc(f.back, time.Time.IsZero)
		f.mu.Unlock()
		if all {
			return
		}
		time.Sleep(look)
	}
}

// Sessions are open connections to an Echo.
type Sessions []net.Conn

// NewSessions opens n connections, each of which has been answered once.
func NewSessions(ctx context.Context, from *lab.Host, to string, n int) (Sessions, error) {
	var all Sessions
	for range n {
		c, err := from.Dial(ctx, "tcp", to)
		if err != nil {
			return all, err
		}
		all = append(all, c)
	}
	if lost := all.Lost(30 * time.Second); lost > 0 {
		return all, fmt.Errorf("%d of %d new sessions don't answer", lost, n)
	}
	return all, nil
}

// Lost asks every session and counts those that don't answer in time.
func (s Sessions) Lost(within time.Duration) int {
	lost := make(chan bool, len(s))
	for _, c := range s {
		go func() { // ends at the deadline
			_ = c.SetDeadline(time.Now().Add(within))
			_, err := c.Write([]byte{1})
			if err == nil {
				_, err = io.ReadFull(c, make([]byte, 1))
			}
			lost <- err != nil
		}()
	}
	n := 0
	for range s {
		if <-lost {
			n++
		}
	}
	return n
}

// Close ends them.
func (s Sessions) Close() {
	for _, c := range s {
		c.Close()
	}
}

package hublab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"komainu/drivers/netns"
)

// flows are packets through some tunnels, 100 a second each, which the hub sends
// back.
type flows struct {
	all    []*flow
	cancel context.CancelFunc
	work   sync.WaitGroup
}

const (
	flowEvery = 10 * time.Millisecond
	flowPort  = 7000
	late      = time.Second // what comes back later is lost
)

type flow struct {
	hall, hub net.PacketConn
	to        net.Addr

	mu     sync.Mutex
	paused bool
	sent   uint64
	back   map[uint64]bool
}

// begins starts the flows, through every so many-th of the tunnels.
func begins(w *world, n int) (*flows, error) {
	ctx, cancel := context.WithCancel(context.Background())
	fs := &flows{cancel: cancel}
	for i := range n {
		f := &flow{back: map[uint64]bool{}}
		listen := func(ns string, a netip.Addr) (c net.PacketConn, err error) {
			err = netns.Do(ns, func() error {
				c, err = (&net.ListenConfig{}).ListenPacket(ctx, "udp4", netip.AddrPortFrom(a, flowPort).String())
				return err
			})
			return c, err
		}
		at := i * 3
		var e1, e2 error
		f.hall, e1 = listen(w.halls.Namespace, innerHall(at))
		f.hub, e2 = listen(w.hub.Namespace, innerHub(at))
		if err := errors.Join(e1, e2); err != nil {
			fs.stop()
			return nil, err
		}
		f.to = f.hub.LocalAddr()
		fs.all = append(fs.all, f)
		fs.work.Go(func() { f.echo() })
		fs.work.Go(func() { f.hear() })
		fs.work.Go(func() { f.send(ctx) })
	}
	return fs, nil
}

func (fs *flows) stop() {
	fs.cancel()
	for _, f := range fs.all {
		f.hall.Close()
		f.hub.Close()
	}
	fs.work.Wait()
}

func (f *flow) echo() {
	for b := make([]byte, 64); ; {
		n, from, err := f.hub.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = f.hub.WriteTo(b[:n], from) // a loss shows at the hall
	}
}

func (f *flow) hear() {
	for b := make([]byte, 64); ; {
		n, _, err := f.hall.ReadFrom(b)
		if err != nil {
			return
		}
		if n == 8 {
			f.mu.Lock()
			f.back[binary.BigEndian.Uint64(b)] = true
			f.mu.Unlock()
		}
	}
}

func (f *flow) send(ctx context.Context) {
	tick := time.NewTicker(flowEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		f.mu.Lock()
		if f.paused {
			f.mu.Unlock()
			continue
		}
		f.sent++
		b := binary.BigEndian.AppendUint64(nil, f.sent)
		f.mu.Unlock()
		_, _ = f.hall.WriteTo(b, f.to) // what isn't sent is lost
	}
}

// pause stops sending, or goes on.
func (fs *flows) pause(on bool) {
	for _, f := range fs.all {
		f.mu.Lock()
		f.paused = on
		f.mu.Unlock()
	}
}

// pass waits until something that is sent from now on has come back by each.
func (fs *flows) pass(ctx context.Context) error {
	for i, f := range fs.all {
		f.mu.Lock()
		after := f.sent
		f.mu.Unlock()
		err := until(ctx, fmt.Sprint("flow ", i), func() error {
			f.mu.Lock()
			defer f.mu.Unlock()
			for seq := after + 1; seq <= f.sent; seq++ {
				if f.back[seq] {
					return nil
				}
			}
			return fmt.Errorf("%d packets sent, %d came back", f.sent, len(f.back))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lost ends sending and is how many packets didn't come back.
func (fs *flows) lost(ctx context.Context) int {
	fs.pause(true)
	lost := 0
	count := func() error {
		lost = 0
		for _, f := range fs.all {
			f.mu.Lock()
			lost += int(f.sent) - len(f.back)
			f.mu.Unlock()
		}
		if lost > 0 {
			return fmt.Errorf("%d", lost)
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, late)
	defer cancel()
	_ = until(ctx, "all packets", count) // else lost says how many
	return lost
}

// until waits for a condition that nobody announces.
func until(ctx context.Context, what string, met func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := met()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, ctx.Err(), err)
		}
	}
}

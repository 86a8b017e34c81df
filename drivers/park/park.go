// Package park keeps the first SYNs of parked services waiting and lets them go
// on after a switch, unchanged and with their clients' addresses: a SYN that is
// dropped instead costs its client a second (RFC 6298, 2.1). drivers/nft marks
// them; a policy rule leads the mark to a tun device, whose reader is the queue;
// what is written back to the device comes in as if from the client. When
// services are parked is the caller's decision.
//
// The rule has to stand before the kernel's own rule for local addresses, since
// stable addresses are local: that one is moved from priority 0 to 100.
//
// Without a reader (the agent has died) parked SYNs are dropped, so their
// clients try again; none is refused.
package park

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// limit is the number of SYNs that wait; the clients of more try again by
// themselves after a second.
const limit = 4096

// Park is the queue. At first everything that is parked is held.
type Park struct {
	device *os.File
	undo   func() error

	mu      sync.Mutex
	passing map[netip.AddrPort]bool // released destinations, not held again since
	order   []flow                  // as they came
	packets map[flow][]byte
}

// flow is the client and the stable address that it wants.
type flow struct{ from, to netip.AddrPort }

// Open makes the tun device name, its routes and its policy rules, in the
// network namespace of the calling thread. What an earlier process left of them
// is taken over. Needs CAP_NET_ADMIN and /dev/net/tun.
func Open(name string) (*Park, error) {
	p := &Park{passing: map[netip.AddrPort]bool{}, packets: map[flow][]byte{}}
	var err error
	if p.device, p.undo, err = device(name); err != nil {
		return nil, fmt.Errorf("make the parking device %s: %w", name, err)
	}
	return p, nil
}

// Close takes device and rules away; SYNs that wait are dropped. Run must have
// ended.
func (p *Park) Close() error { return errors.Join(p.device.Close(), p.undo()) }

// Run collects SYNs until ctx ends, and returns nil then.
func (p *Park) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { p.device.SetReadDeadline(time.Unix(1, 0)) })()
	buf := make([]byte, 65536)
	for {
		n, err := p.device.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read parked packets: %w", err)
		}
		// Router solicitations and the like come this way, too.
		if f, ok := parse(buf[:n]); ok {
			if err := p.take(f, buf[:n]); err != nil {
				return err
			}
		}
	}
}

// take queues a SYN, or sends it on if its destination was released while it
// was on its way here.
func (p *Park) take(f flow, packet []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.passing[f.to] {
		return p.write(packet)
	}
	if _, again := p.packets[f]; !again {
		if len(p.order) >= limit {
			return nil
		}
		p.order = append(p.order, f)
	}
	p.packets[f] = append([]byte(nil), packet...)
	return nil
}

func (p *Park) write(packet []byte) error {
	if _, err := p.device.Write(packet); err != nil {
		return fmt.Errorf("let a parked packet go on: %w", err)
	}
	return nil
}

// Hold keeps SYNs to these destinations waiting, again, after an earlier
// Release. Call it before drivers/nft parks them.
func (p *Park) Hold(to ...netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range to {
		delete(p.passing, a)
	}
}

// Release lets the SYNs to these destinations go on, also those that are still
// on their way into the queue. Call it after drivers/nft has given the services
// another target, also on abort: a service that is still parked would get its
// SYNs back here, until their TTL ends. It returns how many there were.
func (p *Park) Release(to ...netip.AddrPort) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range to {
		p.passing[a] = true
	}
	var errs []error
	for _, packet := range p.remove(to) {
		errs = append(errs, p.write(packet))
		n++
	}
	return n, errors.Join(errs...)
}

// Drop forgets the SYNs to these destinations; their clients try again.
func (p *Park) Drop(to ...netip.AddrPort) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.remove(to))
}

// Waiting is the number of SYNs in the queue.
func (p *Park) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.order)
}

func (p *Park) remove(to []netip.AddrPort) (packets [][]byte) {
	gone := map[netip.AddrPort]bool{}
	for _, a := range to {
		gone[a] = true
	}
	var rest []flow
	for _, f := range p.order {
		if !gone[f.to] {
			rest = append(rest, f)
			continue
		}
		packets = append(packets, p.packets[f])
		delete(p.packets, f)
	}
	p.order = rest
	return packets
}

// parse reads the addresses of a first SYN; anything else is no business of ours.
func parse(b []byte) (f flow, ok bool) {
	if len(b) < 20 {
		return f, false
	}
	var src, dst netip.Addr
	var tcp []byte
	switch b[0] >> 4 {
	case 4:
		n := int(b[0]&0xf) * 4
		if n < 20 || len(b) < n || b[9] != unix.IPPROTO_TCP {
			return f, false
		}
		src, dst, tcp = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[n:]
	case 6:
		if len(b) < 40 || b[6] != unix.IPPROTO_TCP {
			return f, false
		}
		src, dst, tcp = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[40:]
	}
	const opening, syn = 0x17, 0x02 // FIN, SYN, RST, ACK
	if len(tcp) < 20 || tcp[13]&opening != syn {
		return f, false
	}
	return flow{
		from: netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp)),
		to:   netip.AddrPortFrom(dst, binary.BigEndian.Uint16(tcp[2:])),
	}, true
}

package lab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/netns"
)

// Direction is one way of a line.
type Direction int

// The directions, and the end at which each begins.
const (
	HallToDC Direction = iota
	DCToHall
)

func (d Direction) String() string { return [...]string{"hall-to-dc", "dc-to-hall"}[d] }

// Params is how one direction of a line behaves. The zero value is a perfect
// line.
type Params struct {
	Delay  time.Duration
	Jitter time.Duration // each packet gets Delay ± up to Jitter; order is kept
	Loss   float64       // 0 to 1
	Rate   int           // bytes of IP packets per second; 0: no limit
	Queue  int           // bytes that may wait for Rate, more are dropped; 0: 64 KiB
	MTU    int           // bytes; larger packets are dropped; 0: no limit
	TooBig bool          // tell the sender of a packet that was too large (ICMP), instead of silence
}

// Counters of one direction, in packets.
type Counters struct {
	Sent      uint64 // came from the sending host
	Delivered uint64 // written to the receiving host
	Cut       uint64 // dropped by a cut, those under way included
	Lost      uint64 // dropped by Loss
	Full      uint64 // dropped by a full queue
	TooBig    uint64 // dropped by MTU
	Down      uint64 // dropped because the receiving host has no power or its link is down
}

// Line is a point-to-point line between two hosts: a tun device of the line's
// name in each, and this process between them. When an end is a LAN it carries
// Ethernet frames, by tap devices, as a line behind a provider's converter does.
type Line struct {
	Name string
	ends [2]*end // by the direction that begins there
	ways [2]*way
	all  sync.WaitGroup
	tap  atomic.Pointer[func(Direction, []byte)]
}

// LineEnd is where a line meets a host, or a LAN.
type LineEnd struct {
	Host      *Host
	Addresses []netip.Prefix
	LAN       *LAN // in place of a host
}

// headerBytes stand before the packet in a frame of Ethernet (IEEE 802.3).
const headerBytes = 14

// NewLine connects two hosts; both ways are perfect at first.
func (l *Lab) NewLine(name string, hall, dc LineEnd) (*Line, error) {
	line := &Line{Name: name}
	l.mu.Lock()
	seed := l.seed + uint64(len(l.lines))
	l.lines = append(l.lines, line)
	l.mu.Unlock()
	header := 0
	if hall.LAN != nil || dc.LAN != nil {
		header = headerBytes
	}
	for d, e := range []LineEnd{hall, dc} {
		x := &end{line: line, host: e.Host, lan: e.LAN, dir: Direction(d), addresses: e.Addresses, frames: header > 0}
		if e.LAN != nil {
			x.ns = e.LAN.ns
		} else {
			x.ns = e.Host.Namespace
		}
		line.ends[d] = x
		line.ways[d] = &way{
			rng: rand.New(rand.NewPCG(seed, uint64(d))), wake: make(chan struct{}, 1), stop: make(chan struct{}), header: header,
		}
	}
	line.ways[HallToDC].to, line.ways[DCToHall].to = line.ends[DCToHall], line.ends[HallToDC]
	for _, w := range line.ways {
		line.all.Go(w.run)
	}
	for _, e := range line.ends {
		if err := e.join(); err != nil {
			return nil, fmt.Errorf("lab %s: line %s: %w", l.ID, name, err)
		}
	}
	return line, nil
}

// Set changes how a direction behaves. Packets under way keep their time.
func (l *Line) Set(d Direction, p Params) { l.ways[d].set(p) }

// Params is what Set said last.
func (l *Line) Params(d Direction) Params {
	w := l.ways[d]
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.params
}

// Cut silently drops all that is under way and all that comes; the carrier
// stays, so neither host is told.
func (l *Line) Cut(d Direction) { l.ways[d].cut(true) }

// Heal ends a Cut.
func (l *Line) Heal(d Direction) { l.ways[d].cut(false) }

// Swap exchanges the plugs of two lines at one end: what one end of l sends comes
// out at the other end of o, and the reverse. Another Swap puts that right.
func (l *Line) Swap(o *Line) {
	for d, a := range l.ways {
		b := o.ways[d]
		a.mu.Lock()
		b.mu.Lock()
		a.to, b.to = b.to, a.to
		b.mu.Unlock()
		a.mu.Unlock()
	}
}

// Counters of a direction since the line was made.
func (l *Line) Counters(d Direction) Counters {
	w := l.ways[d]
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counters
}

// Watch has see look at every packet, or frame, that a host puts on the line,
// before anything happens to it; see must not keep it. Nil ends that.
func (l *Line) Watch(see func(Direction, []byte)) {
	if see == nil {
		l.tap.Store(nil)
		return
	}
	l.tap.Store(&see)
}

// Carrier takes the carrier of both ends away or gives it back, as a pulled
// cable: the hosts are told, addresses and routes stay.
func (l *Line) Carrier(up bool) error {
	for _, e := range l.ends {
		if err := e.carrier(up); err != nil {
			return fmt.Errorf("line %s: carrier up=%v in %s: %w", l.Name, up, e.ns, err)
		}
	}
	return nil
}

// close ends the line's goroutines; its links go with their tun files.
func (l *Line) close() {
	for _, e := range l.ends {
		if e != nil {
			e.detach()
		}
	}
	for _, w := range l.ways {
		if w != nil {
			close(w.stop)
		}
	}
	l.all.Wait()
}

// end is a line's link in one host while that host has power, or in a LAN.
type end struct {
	line      *Line
	host      *Host // or
	lan       *LAN
	ns        string    // of either
	dir       Direction // that begins here
	addresses []netip.Prefix
	frames    bool // Ethernet

	mu     sync.Mutex
	file   *os.File // nil: no power
	down   bool     // carrier
	reader chan struct{}
}

// join attaches the end now, or leaves it to its host's next power-on.
func (e *end) join() error {
	if e.host == nil {
		return e.attach()
	}
	e.host.mu.Lock()
	defer e.host.mu.Unlock()
	e.host.ends = append(e.host.ends, e)
	if !e.host.on {
		return nil
	}
	return e.attach()
}

// attach makes the device and starts to read from it.
func (e *end) attach() error {
	f, err := openTun(e.ns, e.line.Name, e.frames)
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.file, e.reader = f, make(chan struct{})
	down := e.down
	e.mu.Unlock()
	err = configure(e.ns, func(k kernel) error {
		if e.lan != nil {
			return k.plug(e.line.Name, e.lan.master)
		}
		if e.frames {
			if err := k.station(e.line.Name, hardware(e.line.Name, e.host.Name)); err != nil {
				return err
			}
		}
		for _, a := range e.addresses {
			if err := k.address(e.line.Name, a); err != nil {
				return err
			}
		}
		// Drops are the line's to decide and count, not the kernel's.
		if err := k.queue(e.line.Name, 10000); err != nil {
			return err
		}
		return k.set(e.line.Name, true)
	})
	go e.read(f, e.reader) // ended and awaited by detach
	if err == nil && down {
		err = e.carrier(false)
	}
	return err
}

// detach removes the device, without a word to the other end.
func (e *end) detach() {
	e.mu.Lock()
	f, reader := e.file, e.reader
	e.file = nil
	e.mu.Unlock()
	if f == nil {
		return
	}
	f.Close()
	<-reader
}

func (e *end) carrier(up bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down = !up
	if e.file == nil {
		return nil // attach will see to it
	}
	c, err := e.file.SyscallConn()
	if err != nil {
		return err
	}
	on := 0
	if up {
		on = 1
	}
	return errors.Join(c.Control(func(fd uintptr) {
		err = unix.IoctlSetPointerInt(int(fd), unix.TUNSETCARRIER, on)
	}), err)
}

// read hands every packet of the host to its way until the device is closed.
func (e *end) read(f *os.File, done chan struct{}) {
	defer close(done)
	w := e.line.ways[e.dir]
	buf := make([]byte, 65536)
	for {
		n, err := f.Read(buf)
		if err != nil {
			return // closed, or the namespace went
		}
		if see := e.line.tap.Load(); see != nil {
			(*see)(e.dir, buf[:n])
		}
		if reply := w.send(buf[:n], time.Now()); reply != nil {
			e.write(reply)
		}
	}
}

// write gives a packet to the host; false if it has no power or its link is
// down.
func (e *end) write(p []byte) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.file == nil || e.down {
		return false
	}
	_, err := e.file.Write(p)
	return err == nil
}

// address is the end's own of the same family as like.
func (e *end) address(v4 bool) (netip.Addr, bool) {
	for _, a := range e.addresses {
		if a.Addr().Is4() == v4 {
			return a.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// openTun makes a tun device, or for Ethernet a tap device, inside ns that lives
// as long as the file.
func openTun(ns, name string, frames bool) (*os.File, error) {
	kind := uint16(unix.IFF_TUN)
	if frames {
		kind = unix.IFF_TAP
	}
	var f *os.File
	err := netns.Do(ns, func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		r, err := unix.NewIfreq(name)
		if err == nil {
			r.SetUint16(kind | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
		}
		if err == nil {
			// Only now: a tun file without a device can't be polled.
			err = unix.SetNonblock(fd, true)
		}
		if err != nil {
			unix.Close(fd)
			return err
		}
		f = os.NewFile(uintptr(fd), name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("make tun or tap device %s in %s: %w", name, ns, err)
	}
	return f, nil
}

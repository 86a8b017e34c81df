package ntpio

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"komainu/ntp/wall"
)

const (
	// pending is how many departures can be awaited. An interface has a handful
	// of packets under way.
	pending = 256
	// overdue is when they are given up: a queue or the interface dropped them.
	overdue = 100 * time.Millisecond
)

// ask is what is to be done with a time stamp of departure.
type ask struct {
	token  uint64 // the handler's; 0: it isn't told
	sample bool   // the lead is learned from it
}

func (a ask) none() bool { return a == ask{} }

// departures knows which time stamps of departure are awaited. The kernel
// numbers the replies of a socket that ask for one from 0, in the order in
// which it takes them (SOF_TIMESTAMPING_OPT_ID).
type departures struct {
	queue  batch
	flags  uint32       // to ask with
	asked  [depth]ask   // by the batch that is about to be sent
	tokens [pending]ask // those awaited, by number modulo pending
	next   uint32       // number that the kernel gives next
	open   int          // how many are awaited
	since  wall.Time    // when the last of them was sent, or refused
	// doubt: a reply that asked was not taken, and whether the kernel counted it
	// depends on how far it had come. Nothing is asked for until the last report
	// is overdue and the numbers have begun anew.
	doubt bool
	lead  lead
	lost  atomic.Uint64
}

// ask notes what reply i of the batch asks and returns the flags to ask with.
func (d *departures) ask(i int, a ask) uint32 {
	if d.doubt {
		d.lose(a)
		a = ask{}
	}
	d.asked[i] = a
	if a.none() {
		return 0
	}
	return d.flags
}

// lose counts an ask that won't be answered, if the handler waits for it.
func (d *departures) lose(a ask) {
	if a.token != 0 {
		d.lost.Add(1)
	}
}

// taken notes that the kernel has taken replies [first, end) of the batch.
func (d *departures) taken(first, end int) {
	for _, a := range d.asked[first:end] {
		switch {
		case a.none():
			continue
		case d.doubt:
			d.lose(a)
			continue
		}
		at := &d.tokens[d.next%pending]
		if !at.none() {
			d.lose(*at)
			d.open--
		}
		if a.sample {
			d.lead.sent(d.next)
		}
		*at = a
		d.next++
		d.open++
		d.since = now()
	}
}

// refused notes that the kernel has not taken reply i of the batch.
func (d *departures) refused(i int) {
	if a := d.asked[i]; !a.none() {
		d.doubt, d.since = true, now()
		d.lose(a)
	}
}

// awaited tells whether reports are to be read.
func (d *departures) awaited() bool { return d.open > 0 || d.doubt }

// departed returns the handler's token of the reply with this number, which
// left at tx, 0 if that isn't known; 0: it isn't told.
func (d *departures) departed(number uint32, tx wall.Time) uint64 {
	if behind := d.next - number; behind == 0 || behind > pending {
		return 0
	}
	at := &d.tokens[number%pending]
	a := *at
	if a.none() {
		return 0
	}
	*at = ask{}
	d.open--
	if tx == 0 { // the interface's clock was set
		d.lose(a)
		return 0
	}
	d.lead.departed(number, tx)
	return a.token
}

// giveUp forgets all that are awaited.
func (d *departures) giveUp() {
	for _, a := range d.tokens {
		d.lose(a)
	}
	d.open = 0
	clear(d.tokens[:])
}

// departed tells the handler of the departures that the kernel has reported.
func (k *socket) departed(h Handler) error {
	d := &k.departures
	for d.awaited() {
		d.queue.reset(depth)
		n, _, e := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(k.fd), uintptr(unsafe.Pointer(&d.queue.headers)), depth, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT, 0, 0)
		if e == unix.EINTR {
			continue
		}
		if e != 0 && e != unix.EAGAIN {
			return fmt.Errorf("read the time stamps of departure of %v: %w", k.local, e)
		}
		if e == unix.EAGAIN {
			if now().Sub(d.since) <= overdue {
				return nil
			}
			d.giveUp()
			if d.doubt {
				return k.renumber()
			}
			return nil
		}
		k.tell(int(n), h)
	}
	return nil
}

// tell tells the handler of n reports.
func (k *socket) tell(n int, h Handler) {
	k.guard.Lock()
	defer k.guard.Unlock()
	d := &k.departures
	for i := range n {
		note := d.queue.headers[i].read(&d.queue.slots[i])
		// struct sock_extended_err: errno, origin, type, code, pad, info, data.
		if len(note.failure) < 16 || note.failure[4] != unix.SO_EE_ORIGIN_TIMESTAMPING {
			continue
		}
		tx := k.nic.best(note.software, note.hardware, now())
		if token := d.departed(binary.NativeEndian.Uint32(note.failure[12:]), tx); token != 0 {
			h.Sent(token, tx)
			k.counters.stamps.Add(1)
		}
	}
}

// renumber lets the kernel begin at 0 again, which it does when the option is
// set anew.
func (k *socket) renumber() error {
	for _, flags := range []int{k.flags &^ unix.SOF_TIMESTAMPING_OPT_ID &^ unix.SOF_TIMESTAMPING_OPT_TSONLY, k.flags} {
		if err := unix.SetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, flags); err != nil {
			return fmt.Errorf("renumber the time stamps of departure of %v: %w", k.local, err)
		}
	}
	k.departures.next, k.departures.doubt = 0, false
	return nil
}

package ntpio

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"komainu/ntp/wall"
)

func now() wall.Time { return wall.Time(time.Now().UnixNano()) }

// backlog is the age of a request when it is looked at from which others are
// taken to wait behind it.
const backlog = 50 * time.Microsecond

// serve receives, asks the handler, sends, for ever. After a request the next
// is awaited without telling the Go scheduler, which is what makes a request
// cheap; a signal of the runtime ends that wait within microseconds. When
// nothing has come between two such signals, the wait becomes an ordinary one
// that costs nothing while it lasts.
func (k *socket) serve(h Handler) error {
	k.in.reset(depth)
	k.want = 1
	busy, heard := false, false
	for {
		wait := unix.Syscall6
		if busy {
			wait = unix.RawSyscall6
		}
		n, _, e := wait(unix.SYS_RECVMMSG, uintptr(k.fd), uintptr(unsafe.Pointer(&k.in.headers)), k.want, unix.MSG_WAITFORONE, 0, 0)
		if k.stopping.Load() {
			return nil
		}
		switch {
		case e == 0:
			busy, heard = true, true
			k.handle(int(n), h)
			k.in.reset(int(n))
		case e == unix.EINTR, e == unix.EAGAIN:
			busy, heard = heard, false
		case e == unix.ENOBUFS, e == unix.ENOMEM: // passes
		default:
			return fmt.Errorf("receive NTP requests on %v: %w", k.local, e)
		}
		if k.departures.awaited() {
			if err := k.departed(h); err != nil {
				return err
			}
		}
	}
}

// handle answers a batch of n.
func (k *socket) handle(n int, h Handler) {
	begun, replies := k.respond(n, h)
	if replies == 0 {
		return
	}
	if n == 1 {
		k.send(replies)
		return
	}
	made := now()
	k.send(replies)
	k.departures.lead.batch(n, begun, made, now())
}

// respond fills the batch of replies and returns their number, and when the
// first was begun.
func (k *socket) respond(n int, h Handler) (begun wall.Time, replies int) {
	k.guard.Lock()
	defer k.guard.Unlock()
	lead := &k.departures.lead
	received := 0
	for i := range n {
		in, req := &k.in.headers[i], &k.in.slots[i]
		note := in.read(req)
		switch {
		case in.Flags&unix.MSG_TRUNC != 0:
			k.counters.oversized.Add(1)
			continue
		case note.software == 0:
			k.counters.unstamped.Add(1)
			continue
		case broadcast(note.info):
			k.counters.elsewhere.Add(1)
			continue
		}
		received++
		size := int(in.n)
		out, reply := &k.out.headers[replies], &k.out.slots[replies]
		t := now()
		if begun == 0 {
			begun = t
			k.want = 1 // looking for a second one that isn't there has its price
			if n > 1 || t.Sub(note.software) > backlog {
				k.want = depth
			}
		}
		made, token := h.Respond(req.data[:size:size], k.nic.best(note.software, note.hardware, note.software), t.Add(lead.of(size, i, n)), req.from(), reply.data[:size:size])
		if made <= 0 || made > size {
			continue
		}
		reply.iov.SetLen(made)
		out.Name, out.Namelen = &req.name[0], in.Namelen
		out.answer(reply, note.info, k.departures.ask(replies, ask{token, n == 1 && lead.due(t, size)}))
		replies++
	}
	k.counters.received.Add(uint64(received))
	return begun, replies
}

// send sends the first n replies. One that the kernel doesn't take is lost: a
// client asks again.
func (k *socket) send(n int) {
	for first := 0; first < n; {
		sent, _, e := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(k.fd), uintptr(unsafe.Pointer(&k.out.headers[first])), uintptr(n-first), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case e == 0:
			k.counters.sent.Add(uint64(sent))
			k.departures.taken(first, first+int(sent))
			first += int(sent)
		case e == unix.EINTR:
		default:
			k.counters.unsent.Add(1)
			k.departures.refused(first)
			first++
		}
	}
}

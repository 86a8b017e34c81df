package ntpio

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"komainu/ntp/wall"
)

func now() wall.Time { return wall.Time(time.Now().UnixNano()) }

// serve receives, asks the handler, sends, for ever. After a request the next
// is awaited without telling the Go scheduler, which is what makes a request
// cheap; a signal of the runtime ends that wait within microseconds. When
// nothing has come between two such signals, the wait becomes an ordinary one
// that costs nothing while it lasts.
func (k *socket) serve(h Handler) error {
	k.in.reset(depth)
	busy, heard := false, false
	for {
		wait := unix.Syscall6
		if busy {
			wait = unix.RawSyscall6
		}
		n, _, e := wait(unix.SYS_RECVMMSG, uintptr(k.fd), uintptr(unsafe.Pointer(&k.in.headers)), depth, unix.MSG_WAITFORONE, 0, 0)
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

// handle answers a batch.
func (k *socket) handle(n int, h Handler) {
	if replies := k.respond(n, h); replies > 0 {
		k.send(replies)
	}
}

// respond fills the batch of replies and returns their number.
func (k *socket) respond(n int, h Handler) int {
	k.guard.Lock()
	defer k.guard.Unlock()
	replies := 0
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
		out, reply := &k.out.headers[replies], &k.out.slots[replies]
		size, token := h.Respond(req.data[:in.n:in.n], note.software, now(), req.from(), reply.data[:in.n:in.n])
		if size <= 0 || size > int(in.n) {
			continue
		}
		reply.iov.SetLen(size)
		out.Name, out.Namelen = &req.name[0], in.Namelen
		out.answer(reply, note.info, k.departures.ask(replies, token))
		replies++
	}
	k.counters.received.Add(uint64(received))
	return replies
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

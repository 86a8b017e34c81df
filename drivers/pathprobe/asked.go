package pathprobe

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/clock"
	"komainu/ntp/instant"
)

// asked are the questions that may still be answered.
type asked struct {
	mu   sync.Mutex
	next uint64 // id of the next, as it is sent
	all  [mostAsked]question
}

// mostAsked is how many are kept: more than are sent within any answer's time.
const mostAsked = 256

type question struct {
	id   uint64 // the caller's
	size int    // 0: answered
	at   instant.Instant
}

func newAsked() *asked {
	var b [8]byte
	_, _ = rand.Read(b[:])                                            // never fails
	return &asked{next: binary.BigEndian.Uint64(b[:])>>1 + mostAsked} // never 0, nor again 0
}

// add keeps a question and returns the id with which it is sent.
func (a *asked) add(id uint64, size int) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	wire := a.next
	a.next++
	a.all[wire%mostAsked] = question{id, size, clock.Now()}
	return wire
}

// take is the question that an answer is to; false: to none, to one of another
// size, or not for the first time.
func (a *asked) take(wire uint64, size int) (question, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	q := &a.all[wire%mostAsked]
	if q.size == 0 || q.size != size || wire >= a.next || a.next-wire > mostAsked {
		return question{}, false
	}
	was := *q
	q.size = 0
	return was, true
}

// arriving is the train under way towards us.
type arriving struct {
	id    uint64
	first time.Duration
	next  uint8
}

// take notes one packet of a train, which the kernel got at a time, and returns
// how long the train took if it is the last of a whole one.
func (a *arriving) take(m message, at time.Duration) (time.Duration, bool) {
	if m.index == 0 {
		*a = arriving{id: m.id, first: at}
	}
	if m.id != a.id || m.index != a.next {
		a.id = 0 // one is missing: this train says nothing
		return 0, false
	}
	a.next++
	if a.next != m.count || m.count == 1 {
		return 0, false
	}
	return max(at-a.first, 0), true
}

// stamped is when the kernel got a packet, by the wall clock: of use for
// differences only.
func stamped(oob []byte) time.Duration {
	all, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for _, c := range all {
		if c.Header.Level == unix.SOL_SOCKET && c.Header.Type == unix.SCM_TIMESTAMPNS && len(c.Data) >= 16 {
			return time.Duration(binary.NativeEndian.Uint64(c.Data))*time.Second + time.Duration(binary.NativeEndian.Uint64(c.Data[8:]))
		}
	}
	return 0
}

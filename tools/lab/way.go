package lab

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// defaultQueue is what waits for Rate when Params.Queue is 0, in bytes.
const defaultQueue = 64 << 10

// way is one direction of a line: it decides when a packet arrives, if at all.
type way struct {
	to   *end
	wake chan struct{} // the queue has a new head
	stop chan struct{}
	// header is the bytes that stand before an IP packet.
	header int

	mu       sync.Mutex
	params   Params
	isCut    bool
	rng      *rand.Rand
	queue    []packet  // in order of arrival, which is the order of sending
	free     time.Time // when the line has sent all that it accepted, for Rate
	counters Counters
}

type packet struct {
	due  time.Time
	data []byte
}

func (w *way) set(p Params) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.params = p
}

func (w *way) cut(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = on
	if on {
		w.counters.Cut += uint64(len(w.queue))
		w.queue = nil
	}
}

// send takes a packet from the sending host at the time now. It returns the
// ICMP packet that the sender is to get, or nil. p is not kept.
func (w *way) send(p []byte, now time.Time) []byte {
	w.mu.Lock()
	due, reply, ok := w.judge(p, now)
	if !ok {
		w.mu.Unlock()
		return reply
	}
	if !due.After(now) && len(w.queue) == 0 {
		w.deliver(p)
		w.mu.Unlock()
		return nil
	}
	first := len(w.queue) == 0
	w.queue = append(w.queue, packet{due, slices.Clone(p)})
	w.mu.Unlock()
	if first {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// judge says when p arrives; false if it never does. w.mu is held.
func (w *way) judge(p []byte, now time.Time) (due time.Time, reply []byte, ok bool) {
	w.counters.Sent++
	q := w.params
	if w.isCut {
		w.counters.Cut++
		return due, nil, false
	}
	if q.MTU > 0 && len(p)-w.header > q.MTU {
		w.counters.TooBig++
		if q.TooBig && w.header == 0 { // a converter has no address to answer with
			reply = tooBig(p, q.MTU, w.to)
		}
		return due, reply, false
	}
	if q.Loss > 0 && w.rng.Float64() < q.Loss {
		w.counters.Lost++
		return due, nil, false
	}
	due = now
	if q.Rate > 0 {
		if w.free.Before(now) {
			w.free = now
		}
		limit := q.Queue
		if limit == 0 {
			limit = defaultQueue
		}
		if waiting := w.free.Sub(now).Seconds() * float64(q.Rate); waiting+float64(len(p)) > float64(limit) {
			w.counters.Full++
			return due, nil, false
		}
		w.free = w.free.Add(time.Duration(float64(len(p)) / float64(q.Rate) * float64(time.Second)))
		due = w.free
	}
	due = due.Add(q.Delay)
	if q.Jitter > 0 {
		due = due.Add(time.Duration((2*w.rng.Float64() - 1) * float64(q.Jitter)))
	}
	if n := len(w.queue); n > 0 && due.Before(w.queue[n-1].due) {
		due = w.queue[n-1].due
	}
	return due, nil, true
}

// deliver writes p to the receiving host. w.mu is held.
func (w *way) deliver(p []byte) {
	if w.to.write(p) {
		w.counters.Delivered++
	} else {
		w.counters.Down++
	}
}

// run writes queued packets when they are due, until stop.
func (w *way) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		w.mu.Lock()
		for len(w.queue) > 0 && !w.queue[0].due.After(time.Now()) {
			w.deliver(w.queue[0].data)
			w.queue[0].data = nil
			w.queue = w.queue[1:]
		}
		wait := time.Hour
		if len(w.queue) > 0 {
			wait = time.Until(w.queue[0].due)
		}
		w.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-w.wake:
		case <-w.stop:
			return
		}
	}
}

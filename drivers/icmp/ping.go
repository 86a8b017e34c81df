package icmp

import (
	"context"
	"errors"
	"maps"
	"math"
	"os"
	"slices"
	"time"
)

// Pings says how often to ask.
type Pings struct {
	Count int           // 1 and up
	Size  int           // bytes of the whole IP packet, Header to SizeMost
	Every time.Duration // between two
	Wait  time.Duration // for the answer to one
}

// Reply is how one question ended.
type Reply struct {
	Answer
	Number    int           // 1 and up
	RTT       time.Duration // of EchoReply
	Duplicate bool          // another answer came before
	Err       error         // of NotSent
}

// Summary is how all ended. Times are zero without an answer.
type Summary struct {
	Sent, Received, Duplicates int
	Least, Mean, Most          time.Duration
}

// Lost is the part without an answer, 0 to 1.
func (s Summary) Lost() float64 {
	if s.Sent == 0 {
		return 0
	}
	return 1 - float64(s.Received)/float64(s.Sent)
}

// Ping asks and reports each question once it has ended, and duplicates. When
// ctx ends it returns what there is so far, without an error; what still had
// time for its answer then counts as not sent.
func (c *Conn) Ping(ctx context.Context, p Pings, report func(Reply) error) (Summary, error) {
	r := pinging{open: map[uint16]asked{}, answered: map[uint16]bool{}, report: report}
	next := time.Now()
	for n := 1; (n <= p.Count || len(r.open) > 0) && ctx.Err() == nil; {
		now := time.Now()
		if err := r.expire(now, p.Wait); err != nil {
			return r.sum(), err
		}
		if n <= p.Count && !now.Before(next) {
			if err := r.ask(c, n, p.Size); err != nil {
				return r.sum(), err
			}
			n++
			next = next.Add(p.Every)
			continue
		}
		if n > p.Count && len(r.open) == 0 {
			break
		}
		a, err := c.Receive(ctx, r.wake(n <= p.Count, next, p.Wait))
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), ctx.Err() != nil:
		case err != nil:
			return r.sum(), err
		default:
			if err := r.answer(a); err != nil {
				return r.sum(), err
			}
		}
	}
	r.s.Sent -= len(r.open)
	return r.sum(), nil
}

type asked struct {
	number int
	at     time.Time
}

// pinging is what is under way.
type pinging struct {
	open     map[uint16]asked
	answered map[uint16]bool
	total    time.Duration
	s        Summary
	report   func(Reply) error
}

func (r *pinging) ask(c *Conn, n, size int) error {
	seq := uint16(n)
	delete(r.answered, seq) // of 65,536 packets ago
	at := time.Now()
	err := c.Send(seq, size)
	r.s.Sent++
	switch {
	case errors.Is(err, ErrTooLong):
		return r.report(Reply{Number: n, Answer: Answer{Kind: LongHere}})
	case err != nil:
		return r.report(Reply{Number: n, Answer: Answer{Kind: NotSent}, Err: err})
	}
	r.open[seq] = asked{n, at}
	return nil
}

// wake is when there is something to do without an answer.
func (r *pinging) wake(more bool, next time.Time, wait time.Duration) time.Time {
	var at time.Time
	if more {
		at = next
	}
	for _, a := range r.open {
		if end := a.at.Add(wait); at.IsZero() || end.Before(at) {
			at = end
		}
	}
	return at
}

func (r *pinging) expire(now time.Time, wait time.Duration) error {
	for _, seq := range slices.Sorted(maps.Keys(r.open)) {
		if a := r.open[seq]; !now.Before(a.at.Add(wait)) {
			delete(r.open, seq)
			if err := r.report(Reply{Number: a.number, Answer: Answer{Kind: Silent, Seq: seq}}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *pinging) answer(a Answer) error {
	q, ok := r.open[a.Seq]
	if !ok {
		if !r.answered[a.Seq] || a.Kind != EchoReply {
			return nil // too late, or told already
		}
		r.s.Duplicates++
		return r.report(Reply{Answer: a, Number: int(a.Seq), Duplicate: true})
	}
	delete(r.open, a.Seq)
	reply := Reply{Answer: a, Number: q.number}
	if a.Kind == EchoReply {
		r.answered[a.Seq] = true
		reply.RTT = a.At.Sub(q.at)
		if r.s.Received == 0 {
			r.s.Least = time.Duration(math.MaxInt64)
		}
		r.s.Received++
		r.total += reply.RTT
		r.s.Least, r.s.Most = min(r.s.Least, reply.RTT), max(r.s.Most, reply.RTT)
	}
	return r.report(reply)
}

func (r *pinging) sum() Summary {
	if r.s.Received > 0 {
		r.s.Mean = r.total / time.Duration(r.s.Received)
	}
	return r.s
}

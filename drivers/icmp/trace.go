package icmp

import (
	"context"
	"errors"
	"os"
	"time"
)

// A trace takes 5 s at most: all hops are asked without waiting for the ones
// before, so that a silent router costs nothing. Probes to a router are spread
// so that its limit of ICMP messages (Linux: 6 at once, icmp_ratelimit) isn't met.
const (
	HopsMost  = 30
	HopProbes = 3
	hopEvery  = 20 * time.Millisecond   // between two hops' probes
	hopWait   = 1900 * time.Millisecond // for the answer to the last
)

// Hop is what answered at one distance.
type Hop struct {
	Number  int // 1 and up
	Answers [HopProbes]Answer
	RTT     [HopProbes]time.Duration
}

// last: the packet didn't get farther than this.
func (h *Hop) last() bool {
	for _, a := range h.Answers {
		switch a.Kind {
		case Silent, TimeOut, NotSent:
		default:
			return true
		}
	}
	return false
}

// Trace finds the routers on the way and reports each hop in its order, as soon
// as all before it are known. It ends with the host's own hop (true), with one
// that can't pass the packets on, or after HopsMost. size is the whole packet's,
// in bytes.
func (c *Conn) Trace(ctx context.Context, size int, report func(Hop) error) (reached bool, err error) {
	t := tracing{}
	for i := range t.hops {
		t.hops[i].Number = i + 1
		for k := range HopProbes {
			t.hops[i].Answers[k].Kind = Silent
		}
	}
	for n := 0; n < HopsMost*HopProbes && !t.over(n); n++ {
		hop, k := n/HopProbes, n%HopProbes
		if err := c.TTL(hop + 1); err != nil {
			return false, err
		}
		t.sent[hop][k] = time.Now()
		if err := c.Send(uint16(n), size); err != nil {
			return false, err
		}
		if k == HopProbes-1 {
			if err := t.hear(ctx, c, time.Now().Add(hopEvery), report); err != nil {
				return false, err
			}
		}
	}
	if err := t.hear(ctx, c, time.Now().Add(hopWait), report); err != nil {
		return false, err
	}
	// What is still open stays silent.
	for !t.done {
		if err := t.tell(report); err != nil {
			return false, err
		}
	}
	return t.reached, nil
}

type tracing struct {
	hops    [HopsMost]Hop
	sent    [HopsMost][HopProbes]time.Time
	told    int // hops
	done    bool
	reached bool
}

// over: the end is known to be before probe n.
func (t *tracing) over(n int) bool {
	for i := range n / HopProbes {
		if t.hops[i].last() {
			return true
		}
	}
	return t.done
}

// hear takes answers until a moment, or until all are told.
func (t *tracing) hear(ctx context.Context, c *Conn, until time.Time, report func(Hop) error) error {
	for !t.done {
		a, err := c.Receive(ctx, until)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		hop, k := int(a.Seq)/HopProbes, int(a.Seq)%HopProbes
		if hop >= HopsMost || t.sent[hop][k].IsZero() || t.hops[hop].Answers[k].Kind != Silent {
			continue
		}
		t.hops[hop].Answers[k], t.hops[hop].RTT[k] = a, a.At.Sub(t.sent[hop][k])
		for !t.done && t.whole(t.told) {
			if err := t.tell(report); err != nil {
				return err
			}
		}
	}
	return nil
}

// whole: all answers of a hop are there.
func (t *tracing) whole(hop int) bool {
	for _, a := range t.hops[hop].Answers {
		if a.Kind == Silent {
			return false
		}
	}
	return true
}

// tell reports the next hop.
func (t *tracing) tell(report func(Hop) error) error {
	h := t.hops[t.told]
	t.told++
	t.done = h.last() || t.told == HopsMost
	for _, a := range h.Answers {
		t.reached = t.reached || a.Kind == EchoReply
	}
	return report(h)
}

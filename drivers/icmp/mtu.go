package icmp

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"time"
)

// Probe is one packet of a search.
type Probe struct {
	Size int // bytes of the whole IP packet
	Kind Kind
	From netip.Addr // who said so; invalid: nobody
	MTU  int        // TooBig: what the router takes; 0: not told
}

// PathMTU is what a search found.
type PathMTU struct {
	Outcome Outcome
	Size    int // bytes of the largest IP packet that came back whole
	Probes  int
	// Told: a router, or this host's own interface, said that this is the most.
	// A smaller MTU that nobody told of is a black hole: TCP hangs there.
	Told bool
	// Interface is the MTU of the own link, in bytes; 0: not known.
	Interface int
}

// BlackHole says that longer packets vanish without a word on the way.
func (p PathMTU) BlackHole() bool {
	return p.Outcome == Found && !p.Told && (p.Interface == 0 || p.Size < min(p.Interface, SizeMost))
}

const (
	jumbo       = 9216 // where the own link's MTU isn't known
	answerMost  = time.Second
	answerLeast = 150 * time.Millisecond
)

// MTU searches the path MTU with echo requests that nobody may fragment, and
// reports each. The answer is as long as the question, so it is the smaller one
// of both directions.
func (c *Conn) MTU(ctx context.Context, report func(Probe) error) (PathMTU, error) {
	top := c.mtu
	if top == 0 {
		top = jumbo
	}
	top = min(top, SizeMost)
	s := NewSearch(min(Least, top), top)
	wait, slowest := answerMost, time.Duration(0)
	var told []int // what was said to be the most
	for seq := uint16(1); ; seq++ {
		size, more := s.Next()
		if !more {
			break
		}
		p, rtt, err := c.try(ctx, seq, size, wait)
		if err != nil {
			return PathMTU{}, err
		}
		switch p.Kind {
		case EchoReply:
			s.Passed()
			slowest = max(slowest, rtt)
			wait = min(max(4*slowest, answerLeast), answerMost) // of a jittery line, too
		case TooBig, LongHere:
			told = append(told, p.MTU, size-1)
			s.TooBig(p.MTU)
		default:
			s.Silent()
		}
		if err := report(p); err != nil {
			return PathMTU{}, err
		}
	}
	return PathMTU{Outcome: s.Outcome(), Size: s.Size(), Probes: s.Probes(), Told: slices.Contains(told, s.Size()), Interface: c.mtu}, nil
}

// try sends one packet and waits for what is said about it.
func (c *Conn) try(ctx context.Context, seq uint16, size int, wait time.Duration) (Probe, time.Duration, error) {
	p := Probe{Size: size, Kind: Silent}
	at := time.Now()
	switch err := c.Send(seq, size); {
	case errors.Is(err, ErrTooLong):
		p.Kind = LongHere
		return p, 0, nil
	case err != nil:
		return p, 0, err
	}
	for until := at.Add(wait); ; {
		a, err := c.Receive(ctx, until)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return p, 0, nil
		}
		if err != nil {
			return p, 0, err
		}
		if a.Seq == seq {
			p.Kind, p.From, p.MTU = a.Kind, a.From, a.MTU
			return p, a.At.Sub(at), nil
		}
	}
}

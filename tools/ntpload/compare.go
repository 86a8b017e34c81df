package main

import (
	"errors"
	"math/rand/v2"
	"time"

	"komainu/ntp/packet"
	"komainu/ntp/wall"
)

func (l *load) stamps() (Result, error)      { return l.compare(false) }
func (l *load) interleaved() (Result, error) { return l.compare(true) }

// exchange is a request and its reply.
type exchange struct {
	request, reply packet.Header
	sent, at       wall.Time // by the kernel here
}

// comparison collects the errors of time stamps in microseconds: of the server's
// receive stamp against ours of sending, of its transmit stamp against ours of
// receiving.
type comparison struct {
	interleaved           bool
	last                  exchange // the one before, if at isn't 0
	arrival, leave, worse []float64
	lastArrival           float64
	notMeant              int
}

func (c *comparison) add(x exchange) {
	arrival := after(x.reply.Receive, x.sent)
	switch {
	case !c.interleaved:
		c.note(arrival, -after(x.reply.Transmit, x.at))
	case c.last.at != 0 && x.reply.Origin == x.request.Receive:
		// It tells when the last reply left.
		c.note(c.lastArrival, -after(x.reply.Transmit, c.last.at))
	default:
		c.notMeant++ // the first of a series
	}
	c.last, c.lastArrival = x, arrival
}

func (c *comparison) note(arrival, leave float64) {
	c.arrival, c.leave = append(c.arrival, arrival), append(c.leave, leave)
	c.worse = append(c.worse, max(arrival, -arrival, leave, -leave))
}

// next is the header of a request: in interleaved mode it says which reply came
// last (RFC 9769, 2).
func (c *comparison) next() packet.Header {
	h := packet.Header{Version: packet.Version, Mode: packet.ModeClient, Poll: 6, Transmit: packet.Timestamp(rand.Uint64() | 1)}
	if c.interleaved && c.last.at != 0 {
		h.Origin, h.Receive = c.last.reply.Receive, packet.Stamp(c.last.at)
	}
	return h
}

func (l *load) compare(interleaved bool) (r Result, err error) {
	var c comparison
	request := make([]byte, packet.HeaderSize)
	err = l.alone(true, func(to *caller) error {
		return l.measured(&r, func(length time.Duration) error {
			c = comparison{interleaved: interleaved}
			var x exchange
			return l.paced(length, func() (err error) {
				for x.sent != 0 {
					x.reply, x.at, err = to.take()
					if err != nil || x.reply.Origin == x.request.Transmit || x.reply.Origin == x.request.Receive {
						break // what is left over from earlier isn't looked at
					}
				}
				switch {
				case errors.Is(err, errNone):
					c.last = exchange{}
					return nil // it takes longer
				case err != nil:
					return err
				case x.sent != 0:
					r.Replies++
					c.add(x)
				}
				r.Requests++
				x = exchange{request: c.next()}
				x.request.Put(request)
				x.sent, err = to.ask(request)
				return err
			})
		})
	})
	r.Arrival, r.Leave, r.Worse, r.NotMeant = spread(c.arrival), spread(c.leave), spread(c.worse), c.notMeant
	return r, err
}

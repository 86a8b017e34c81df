package ntpio

import (
	"math/bits"
	"time"

	"komainu/ntp/wall"
)

const (
	// sampling is the least time between two samples, so that they cost nothing
	// to speak of.
	sampling = 20 * time.Millisecond
	// mostLead bounds what is taken for a lead: more is a line that is full.
	mostLead = 50 * time.Microsecond
	// A lead follows the lower quartile of its samples, since to be stamped delays
	// a reply a little: a sample above it raises it by up, one below lowers it by
	// three times as much, or by a quarter of the difference.
	up = 50 * time.Nanosecond
	// gain is the reciprocal of the weight of a batch.
	gain = 8
)

// lead is how long before its departure a reply is begun. It is learned from
// time stamps of departure, of which it asks for one now and then, so that the
// transmit time in a reply is that of its departure as nearly as can be known
// beforehand.
type lead struct {
	// alone is the lead of a reply that isn't part of a batch, by class.
	alone [classes]time.Duration
	// In a batch a reply waits until the rest of it is made, and until those
	// before it are sent: per reply.
	make, send time.Duration

	sampled wall.Time // when the last sample was begun
	open    bool      // it is awaited
	number  uint32    // of its reply, as in departures
	base    wall.Time // when its reply was begun
	class   int
}

// classes of requests by their size, since cryptography costs.
const classes = 8

func class(size int) int { return min(bits.Len(uint(size)>>6), classes-1) }

// of is the lead of reply i of a batch of n.
func (l *lead) of(size, i, n int) time.Duration {
	d := l.alone[class(size)]
	if n > 1 {
		d += time.Duration(i)*l.send + time.Duration(n-1-i)*l.make
	}
	return d
}

// due tells whether the reply that is begun at t, alone, is to be a sample.
func (l *lead) due(t wall.Time, size int) bool {
	if d := t.Sub(l.sampled); d >= 0 && d < sampling {
		return false
	}
	l.sampled, l.base, l.class, l.open = t, t, class(size), false
	return true
}

// sent says which number the sample got.
func (l *lead) sent(number uint32) { l.number, l.open = number, true }

// departed learns from a departure, if it is that of the sample.
func (l *lead) departed(number uint32, tx wall.Time) {
	if !l.open || number != l.number {
		return
	}
	l.open = false
	d := tx.Sub(l.base)
	if d < 0 || d > mostLead {
		return // the clock was set, or the line is full
	}
	switch a := &l.alone[l.class]; {
	case *a == 0:
		*a = d
	case d > *a:
		*a += up
	default:
		*a -= min(*a-d, max(3*up, (*a-d)/4))
	}
}

// batch learns from a batch of n: begun, made and sent at these times.
func (l *lead) batch(n int, begun, made, sent wall.Time) {
	learn := func(to *time.Duration, d time.Duration) {
		if d >= 0 && d < mostLead {
			*to += (d - *to) / gain
		}
	}
	learn(&l.make, made.Sub(begun)/time.Duration(n))
	learn(&l.send, sent.Sub(made)/time.Duration(n))
}

package pmtu

import "time"

// times are how long answers take on a path, and so how long they are waited
// for. RFC 8899 asks for 15 s where nobody promises to answer (section 5.1.1);
// here the other end answers each probe at once.
type times struct {
	rtt, dev time.Duration // RFC 6298 section 2
	factor   int           // of what is waited for, after answers that came too late
	silent   int           // rounds in a row in which not even what passes came back
}

const (
	firstTimeout = 500 * time.Millisecond // nothing is known
	leastTimeout = 100 * time.Millisecond
	leastSlack   = 25 * time.Millisecond
	mostTimeout  = 3 * time.Second
	mostFactor   = 8
)

func (t *times) begin(rtt time.Duration) {
	t.factor, t.silent = 1, 0
	if rtt > 0 {
		t.rtt, t.dev = rtt, rtt/8
	}
}

func (t *times) measured(rtt time.Duration) {
	switch {
	case rtt <= 0:
	case t.rtt == 0:
		t.rtt, t.dev = rtt, rtt/2
	default:
		t.dev += ((rtt - t.rtt).Abs() - t.dev) / 4
		t.rtt += (rtt - t.rtt) / 8
	}
}

// patience waits longer: an answer came after it had been given up.
func (t *times) patience() { t.factor = min(2*t.factor, mostFactor) }

// timeout is of a round in which nothing comes back.
func (t *times) timeout() time.Duration {
	d := firstTimeout
	if t.rtt > 0 {
		d = max(leastTimeout, t.rtt+t.rtt/4+4*t.dev)
	}
	return min(d*time.Duration(t.factor)<<min(t.silent, 4), mostTimeout)
}

// slack is how much later than the first the others may come.
func (t *times) slack() time.Duration {
	return min(max(leastSlack, t.rtt/4, 4*t.dev)*time.Duration(t.factor), mostTimeout)
}

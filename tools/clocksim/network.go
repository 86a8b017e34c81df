package main

import (
	"math"
	"math/rand/v2"
	"time"
)

// way describes the network between the box and one source from some time on.
type way struct {
	at          int64         // from when on, ns after the start
	delay       time.Duration // base, each way
	forward     time.Duration // more on the way to the source
	back        time.Duration // more on the way back
	jitter      time.Duration // mean of an exponential, each way, independent
	loss        float64       // share, each way, independent
	swing       time.Duration // amplitude of a sine of the delay, each way
	period      time.Duration // of that sine
	burstJitter time.Duration // mean of the exponential during a burst, in place of jitter
	burstEvery  time.Duration // mean of the exponential pause between bursts; 0: none
	burstFor    time.Duration // mean of the exponential length of a burst
}

// lost is the delay of a packet that doesn't arrive.
const lost = -1

// delays is what a packet meets that leaves in a slot of time: one row, however
// many packets there are, so that all implementations meet the same network.
type delays struct{ forward, back int64 } // ns, or lost

// network gives the delays of a source's packets; the slots must be asked for in order.
type network struct {
	seed   uint64
	slot   time.Duration
	ways   []way // in order of time
	read   []delays
	bursts *rand.Rand
	burst  bool
	until  int64 // when the burst or the pause ends
}

func newNetwork(seed uint64, name string, slot time.Duration, ways []way, read []delays) *network {
	return &network{seed: stream(seed, "network "+name).Uint64(), slot: slot, ways: ways, read: read, bursts: stream(seed, "bursts "+name)}
}

// at gives the delays of a packet sent at now.
func (n *network) at(now int64) delays { return n.row(now / int64(n.slot)) }

func (n *network) row(i int64) delays {
	if len(n.read) > 0 {
		return n.read[min(i, int64(len(n.read)-1))]
	}
	now := i * int64(n.slot)
	w := n.ways[0]
	for _, later := range n.ways[1:] {
		if later.at <= now {
			w = later
		}
	}
	var dice rand.PCG
	dice.Seed(mix(n.seed^uint64(i)), n.seed)
	r := rand.New(&dice)
	lossForward, lossBack, f, b := r.Float64(), r.Float64(), r.ExpFloat64(), r.ExpFloat64()
	jitter := float64(w.jitter)
	if n.bursting(now, w) {
		jitter = float64(w.burstJitter)
	}
	base := float64(w.delay)
	if w.swing > 0 {
		base += float64(w.swing) * math.Sin(2*math.Pi*float64(now)/float64(w.period))
	}
	d := delays{
		forward: max(0, int64(base+float64(w.forward)+f*jitter)),
		back:    max(0, int64(base+float64(w.back)+b*jitter)),
	}
	if lossForward < w.loss {
		d.forward = lost
	}
	if lossBack < w.loss {
		d.back = lost
	}
	return d
}

// bursting says whether a burst is on at now.
func (n *network) bursting(now int64, w way) bool {
	if w.burstEvery == 0 {
		return false
	}
	if n.until == 0 {
		n.until = now + int64(n.bursts.ExpFloat64()*float64(w.burstEvery))
	}
	for n.until <= now {
		n.burst = !n.burst
		mean := w.burstEvery
		if n.burst {
			mean = w.burstFor
		}
		n.until += max(1, int64(n.bursts.ExpFloat64()*float64(mean)))
	}
	return n.burst
}

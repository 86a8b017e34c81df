package main

import (
	"math"
	"math/rand/v2"
	"time"
)

const second = int64(time.Second)

// crystal describes an oscillator. Its true frequency error is the sum of all
// parts and constant within one step of the grid; the phase is exact.
type crystal struct {
	offset      float64       // 1e-6
	white       float64       // fraction: standard deviation of the frequency averaged over one second
	walk        float64       // fraction: standard deviation of the frequency's change in one second
	ageing      float64       // 1e-6 per day, the same all the time
	temperature float64       // 1e-6: amplitude of a sine
	period      time.Duration // of the sine
	phase       float64       // of the sine at the start, in periods; negative: the seed decides
	step        time.Duration // of the grid
}

// jump is a sudden change of frequency.
type jump struct {
	at  int64   // ns after the start
	ppm float64 // 1e-6
}

// oscillator gives the frequency error of every step of the grid, in order.
type oscillator struct {
	crystal
	jumps []jump
	rand  *rand.Rand
	read  []float64 // a trace in place of the noise
	index int64     // of the step that ppm belongs to
	ppm   float64
	walks float64 // what the random walk has come to
}

func newOscillator(c crystal, jumps []jump, read []float64, seed uint64) *oscillator {
	o := &oscillator{crystal: c, jumps: jumps, read: read, rand: stream(seed, "oscillator"), index: -1}
	if phase := o.rand.Float64(); o.phase < 0 {
		o.phase = phase
	}
	o.next()
	return o
}

// end is when the present step of the grid ends, ns after the start.
func (o *oscillator) end() int64 { return (o.index + 1) * int64(o.step) }

// next goes to the next step of the grid. A trace that has ended holds its
// last value.
func (o *oscillator) next() {
	o.index++
	if len(o.read) > 0 {
		o.ppm = o.read[min(o.index, int64(len(o.read)-1))]
		return
	}
	step := o.step.Seconds()
	middle := (float64(o.index) + 0.5) * step
	if o.index > 0 && o.walk > 0 {
		o.walks += 1e6 * o.walk * math.Sqrt(step) * o.rand.NormFloat64()
	}
	o.ppm = o.offset + o.walks + o.ageing*middle/86400
	if o.white > 0 {
		o.ppm += 1e6 * o.white / math.Sqrt(step) * o.rand.NormFloat64()
	}
	if o.temperature > 0 {
		o.ppm += o.temperature * math.Sin(2*math.Pi*(o.phase+middle/o.period.Seconds()))
	}
	for _, j := range o.jumps {
		if j.at <= o.index*int64(o.step) {
			o.ppm += j.ppm
		}
	}
}

// stream is a source of randomness for one purpose: the streams of a seed
// don't depend on each other.
func stream(seed uint64, purpose string) *rand.Rand {
	h := mix(seed)
	for _, c := range []byte(purpose) {
		h = mix(h ^ uint64(c))
	}
	return rand.New(rand.NewPCG(h, mix(h)))
}

// mix spreads the bits of a number (SplitMix64's finish).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

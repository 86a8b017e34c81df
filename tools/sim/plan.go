package main

import (
	"math/rand/v2"

	"komainu/failover/machine"
)

// plan is what a seed decides before the run.
type plan struct {
	interval   int64
	mult       uint8
	look       int64
	probe      int64
	holdDown   int64
	drain      int64
	walTimeout int64

	twoDatabases, twoGroups bool
	autoDown, autoBack      [2]bool
	write                   [2]machine.WritePolicy

	delay, jitter [2]int64
	loss          float64
	ppm           [3]int64
	clientEvery   int64
	noRewind      bool
	helpful       bool // an operator who brings groups back after the heal

	faults    int
	heal, end int64
}

// detection is how long silence of a path may last until it is down.
func (p *plan) detection() int64 { return p.interval * int64(p.mult) }

func draw(r *rand.Rand) plan {
	p := plan{
		interval: (500 + r.Int64N(6)*100) * ms, mult: uint8(3 + r.IntN(3)),
		look: (300 + r.Int64N(8)*100) * ms, probe: sec,
		holdDown: 1*sec + r.Int64N(3*sec), drain: 500*ms + r.Int64N(2*sec), walTimeout: 4*sec + r.Int64N(10*sec),
		twoDatabases: r.IntN(6) == 0, twoGroups: r.IntN(6) == 0,
		clientEvery: 700*ms + r.Int64N(1500*ms),
		noRewind:    r.IntN(5) == 0,
		helpful:     r.IntN(3) > 0,
		faults:      5 + r.IntN(8),
		heal:        390 * sec, end: 610 * sec,
	}
	if r.IntN(10) == 0 {
		p.interval, p.mult = 100*ms, 5
	}
	for i := range 2 {
		p.autoDown[i] = r.IntN(8) > 0
		p.autoBack[i] = r.IntN(3) > 0
		p.write[i] = machine.WriteOperator
		if r.IntN(8) == 0 {
			p.write[i] = machine.WriteNever
		}
		p.delay[i] = ms + r.Int64N(60*ms)
		p.jitter[i] = r.Int64N(20*ms) + 1
	}
	if r.IntN(3) == 0 {
		p.loss = 0.02 * r.Float64()
	}
	for i := range p.ppm {
		p.ppm[i] = r.Int64N(200_001) - 100_000
	}
	return p
}

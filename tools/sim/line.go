package main

import "komainu/failover/detect"

// way is one direction of a line. Faults add to it and take away again what
// they added, so that they may overlap.
type way struct {
	delay, jitter int64
	loss, dup     float64
	cut           int // faults that cut it now
}

// line joins two nodes.
type line struct {
	name string
	ends [2]int
	ways [2]way // [0] from ends[0] to ends[1]
}

func (l *line) from(node int) *way {
	if l.ends[0] == node {
		return &l.ways[0]
	}
	return &l.ways[1]
}

func (l *line) peer(node int) int { return l.ends[0] + l.ends[1] - node }

// datagram sends a heartbeat: lost, late, doubled or overtaken.
func (w *world) datagram(l int, from int, m *detect.Message) {
	line := &w.lines[l]
	way := line.from(from)
	if way.cut > 0 {
		return
	}
	to := line.peer(from)
	copies := 1
	if way.dup > 0 && w.chance(way.dup) {
		copies = 2
	}
	for range copies {
		if way.loss > 0 && w.chance(way.loss) {
			continue
		}
		at := w.now + way.delay
		if way.jitter > 0 {
			at += w.rng.Int64N(way.jitter)
		}
		w.q.push(item{at: at, kind: doBeat, node: uint8(to), n: int32(l), p: m})
	}
}

// stream is the time that a segment of a connection takes one way, with
// retransmissions; false when nothing gets through now.
func (w *world) stream(from, to int) (int64, bool) {
	if from == to {
		return 0, true
	}
	if from != edge && to != edge {
		a, ok := w.stream(from, edge)
		if !ok || !w.nodes[edge].power {
			return 0, false
		}
		b, ok := w.stream(edge, to)
		return a + b, ok
	}
	l := lan
	if from == hall || to == hall {
		if l = w.nodes[from].carries[to]; l < 0 {
			return 0, false
		}
	}
	way := w.lines[l].from(from)
	if way.cut > 0 {
		return 0, false
	}
	took := way.delay
	if way.jitter > 0 {
		took += w.rng.Int64N(way.jitter)
	}
	for i := 0; way.loss > 0 && w.chance(way.loss); i++ {
		if i == 4 {
			return 0, false
		}
		took += 200 * ms << i
	}
	return took, true
}

// joined says whether a connection between two nodes could live now.
func (w *world) joined(a, b int) bool {
	return w.open(a, b) && w.open(b, a)
}

func (w *world) open(from, to int) bool {
	if from != edge && to != edge {
		return w.nodes[edge].power && w.open(from, edge) && w.open(edge, to)
	}
	l := lan
	if from == hall || to == hall {
		if l = w.nodes[from].carries[to]; l < 0 {
			return false
		}
	}
	return w.lines[l].from(from).cut == 0
}

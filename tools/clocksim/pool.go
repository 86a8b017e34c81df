package main

import (
	"math"
	"slices"
	"strconv"
)

// pooling makes one figure of the samples of all runs.
type pooling struct {
	add   func([]pooled, window) []pooled
	value func([]pooled) float64
}

// pooled is a sample of some run.
type pooled struct {
	err, bound float64 // s
	q          float64 // the quantile that is asked for
}

// apart is how far pooled samples are apart; between them they hardly differ.
const apart = 60 * second

func thin(pool []pooled, w window) []pooled {
	q, _ := strconv.ParseFloat(w.arg(0), 64) // checked when the scenario was read
	next := int64(math.MinInt64)
	for _, p := range w.in() {
		if p.at >= next {
			pool = append(pool, pooled{math.Abs(p.err), p.bound, q})
			next = p.at + apart
		}
	}
	return pool
}

func poolQuantile(of func(point) (float64, bool)) *pooling {
	return &pooling{thin, func(pool []pooled) float64 {
		if len(pool) == 0 {
			return math.NaN()
		}
		return quantile(take(pool, of), pool[0].q)
	}}
}

func take(pool []pooled, of func(point) (float64, bool)) []float64 {
	var all []float64
	for _, p := range pool {
		if v, ok := of(point{err: p.err, bound: p.bound}); ok {
			all = append(all, v)
		}
	}
	slices.Sort(all)
	return all
}

func poolTightness(pool []pooled) float64 {
	return quantile(take(pool, pointBound), 0.5) / quantile(take(pool, pointError), 0.99)
}

// addInside keeps the two counts of a run: every sample has its weight.
func addInside(pool []pooled, w window) []pooled {
	n, of := countInside(w.in())
	return append(pool, pooled{err: float64(n), bound: float64(of)})
}

func poolMean(pool []pooled) float64 {
	var n, of float64
	for _, p := range pool {
		n, of = n+p.err, of+p.bound
	}
	return n / of
}

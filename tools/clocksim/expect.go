package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// expect is a figure of a run, and what is demanded of it.
type expect struct {
	text     string
	over     string // how the runs' values are judged: each, or one value of all
	metric   metric
	args     []string
	from, to int64
	relation string // empty: nothing is demanded
	bound    float64
}

// relations of a value to its bound.
var relations = map[string]func(a, b float64) bool{
	"<=": func(a, b float64) bool { return a <= b },
	">=": func(a, b float64) bool { return a >= b },
	"<":  func(a, b float64) bool { return a < b },
	">":  func(a, b float64) bool { return a > b },
	"==": func(a, b float64) bool { return a == b },
}

// expect takes what comes after "expect" and "report".
func (sc *scenario) expect(w []string, judged bool) error {
	e := &expect{text: strings.Join(w, " "), over: "each", to: math.MaxInt64}
	if len(w) > 0 && slices.Contains([]string{"each", "median", "mean", "min", "max", "pooled"}, w[0]) {
		e.over, w = w[0], w[1:]
	}
	if judged {
		if len(w) < 3 || relations[w[len(w)-2]] == nil {
			return errors.New("a relation and a bound are missing")
		}
		e.relation = w[len(w)-2]
		var err error
		if e.bound, err = parseBound(w[len(w)-1]); err != nil {
			return err
		}
		w = w[:len(w)-2]
	}
	if len(w) == 0 {
		return errors.New("a metric is missing")
	}
	m, ok := metrics[w[0]]
	if !ok {
		return fmt.Errorf("unknown metric %q, known are:\n%s", w[0], metricHelp())
	}
	e.metric = m
	for _, word := range w[1:] {
		key, value, pair := strings.Cut(word, "=")
		if !pair {
			e.args = append(e.args, word)
			continue
		}
		d, err := parseDuration(value)
		switch {
		case err != nil:
			return err
		case key == "from":
			e.from = int64(d)
		case key == "to":
			e.to = int64(d)
		default:
			return fmt.Errorf("%q isn't known here", word)
		}
	}
	if len(e.args) < m.least || len(e.args) > m.most {
		return fmt.Errorf("%s takes %d to %d words", w[0], m.least, m.most)
	}
	if e.over == "pooled" && m.pooled == nil {
		return fmt.Errorf("%s can't be pooled", w[0])
	}
	sc.expects = append(sc.expects, e)
	// A dry run finds words that aren't numbers.
	_, err := m.value(&recorder{}, window{e, nil})
	return err
}

// parseBound reads 6s, 85us, 99.9%, 500ppm, 5 and never.
func parseBound(s string) (float64, error) {
	if s == "never" {
		return math.Inf(1), nil
	}
	if n, ok := strings.CutSuffix(s, "%"); ok {
		v, err := strconv.ParseFloat(n, 64)
		return v / 100, err
	}
	if n, ok := strings.CutSuffix(s, "ppm"); ok {
		return strconv.ParseFloat(n, 64)
	}
	if v, err := strconv.ParseFloat(s, 64); err == nil {
		return v, nil
	}
	d, err := parseDuration(s)
	return d.Seconds(), err
}

// result is a figure over all seeds of a scenario.
type result struct {
	*expect
	values []float64 // of the runs, in the order of the seeds
	pool   []pooled
	bad    []uint64 // seeds that don't hold
}

// add takes what a run came to; it says whether the run holds.
func (r *result) add(seed uint64, rec *recorder) (bool, error) {
	w := window{r.expect, rec.points}
	if r.over == "pooled" {
		r.pool = r.metric.pooled.add(r.pool, w)
	}
	v, err := r.metric.value(rec, w)
	if err != nil {
		return false, fmt.Errorf("%s: %w", r.text, err)
	}
	r.values = append(r.values, v)
	if r.over == "each" && r.relation != "" && !relations[r.relation](v, r.bound) {
		r.bad = append(r.bad, seed)
		return false, nil
	}
	return true, nil
}

// value is the one that counts over all runs; each: the median.
func (r *result) value() float64 {
	if len(r.values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(r.values))
	switch r.over {
	case "pooled":
		return r.metric.pooled.value(r.pool)
	case "mean":
		var sum float64
		for _, v := range sorted {
			sum += v
		}
		return sum / float64(len(sorted))
	case "min":
		return sorted[0]
	case "max":
		return sorted[len(sorted)-1]
	}
	return quantile(sorted, 0.5)
}

// holds says whether what is demanded holds over all runs.
func (r *result) holds() bool {
	if r.over == "each" || r.relation == "" {
		return len(r.bad) == 0
	}
	return relations[r.relation](r.value(), r.bound)
}

// quantile of sorted values, between the two nearest.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	if f := at - float64(i); f > 0 {
		return sorted[i] + (sorted[i+1]-sorted[i])*f
	}
	return sorted[i]
}

// show writes a value in its unit.
func (m metric) show(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case math.IsInf(v, 0):
		return "never"
	}
	switch m.unit {
	case unitTime:
		a := math.Abs(v)
		switch {
		case a == 0:
			return "0"
		case a < 1e-3:
			return fmt.Sprintf("%.4gus", v*1e6)
		case a < 1:
			return fmt.Sprintf("%.4gms", v*1e3)
		case a < 600:
			return fmt.Sprintf("%.4gs", v)
		}
		return time.Duration(v * 1e9).Round(time.Second).String()
	case unitShare:
		return fmt.Sprintf("%.6g%%", 100*v)
	case unitPPM:
		return fmt.Sprintf("%.4gppm", v)
	}
	return fmt.Sprintf("%.4g", v)
}

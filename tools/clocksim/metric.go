package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Units of metrics.
type unit int

const (
	unitNone unit = iota
	unitTime
	unitShare
	unitPPM
)

// metric is a figure of a run. Times are seconds.
type metric struct {
	help        string
	unit        unit
	least, most int // words after the name
	value       func(*recorder, window) (float64, error)
	pooled      *pooling // over the samples of all runs; nil: has no sense
}

// window is the part of a run that a figure is about.
type window struct {
	*expect
	points []point
}

// in gives the samples within from and to.
func (w window) in() []point {
	i, _ := slices.BinarySearchFunc(w.points, w.from, func(p point, t int64) int { return int(min(max(p.at-t, -1), 1)) })
	j, _ := slices.BinarySearchFunc(w.points, w.to, func(p point, t int64) int { return int(min(max(p.at-t, -1), 1)) })
	return w.points[i:j]
}

// within counts the times in the window.
func (w window) within(times []int64) int {
	n := 0
	for _, t := range times {
		if t >= w.from && t < w.to {
			n++
		}
	}
	return n
}

func (w window) arg(i int) string {
	if i < len(w.args) {
		return w.args[i]
	}
	return ""
}

// metrics by name.
var metrics = map[string]metric{
	"last-error": {help: "ERROR: time of the last |true error| above it", unit: unitTime, least: 1, most: 1, value: lastError},
	"rms-after":  {help: "ERROR: rms true error after the last |true error| above it", unit: unitTime, least: 1, most: 1, value: rmsAfter},
	"rms-error": {help: "rms true error", unit: unitTime, value: func(_ *recorder, w window) (float64, error) {
		return rms(w.in(), func(p point) float64 { return p.err }), nil
	}},
	"max-error": {help: "largest |true error|", unit: unitTime, value: func(_ *recorder, w window) (float64, error) {
		return largest(w.in(), func(p point) float64 { return p.err }), nil
	}},
	"error-quantile": {help: "Q: of |true error|, 0.99 for p99", unit: unitTime, least: 1, most: 1, value: func(_ *recorder, w window) (float64, error) { return quantileOf(w, pointError) }, pooled: poolQuantile(pointError)},
	"bound-quantile": {help: "Q: of the advertised root distance while synchronised", unit: unitTime, least: 1, most: 1, value: func(_ *recorder, w window) (float64, error) { return quantileOf(w, pointBound) }, pooled: poolQuantile(pointBound)},
	"tightness":      {help: "median root distance / p99 of |true error|", value: func(_ *recorder, w window) (float64, error) { return tightness(w.in()), nil }, pooled: &pooling{thin, poolTightness}},
	"inside":         {help: "share of synchronised time with |true error| <= advertised root distance", unit: unitShare, value: inside, pooled: &pooling{addInside, poolMean}},
	"synced":         {help: "share of time published as synchronised", unit: unitShare, value: shareOf(func(p point, _ window) bool { return p.bound > 0 })},
	"synced-at":      {help: "time of the first sample published as synchronised", unit: unitTime, value: syncedAt},
	"leap":           {help: "N: share of time with this leap published", unit: unitShare, least: 1, most: 1, value: shareOf(func(p point, w window) bool { return strconv.Itoa(int(p.leap)) == w.arg(0) })},
	"stratum":        {help: "N: share of time with this stratum published", unit: unitShare, least: 1, most: 1, value: shareOf(func(p point, w window) bool { return strconv.Itoa(int(p.stratum)) == w.arg(0) })},
	"frequency-rms": {help: "rms of the wall clock's frequency error without slews", unit: unitPPM, value: func(_ *recorder, w window) (float64, error) {
		return rms(w.in(), func(p point) float64 { return p.frequency }), nil
	}},
	"max-rate": {help: "how much faster or slower than true the clock ran at most, slews counted, steps not", unit: unitPPM, value: func(_ *recorder, w window) (float64, error) {
		return largest(w.in(), func(p point) float64 { return p.rate }), nil
	}},
	"steps":            {help: "how often the daemon stepped the clock", value: func(r *recorder, w window) (float64, error) { return float64(w.within(r.steps)), nil }},
	"queries-per-hour": {help: "[NAME]: of one source, or the mean of all", most: 1, value: queriesPerHour},
	"min-gap":          {help: "[NAME]: least time between two queries of a source", unit: unitTime, most: 1, value: minGap},
	"followed":         {help: "NAME: how often a state was published that names the source as reference", least: 1, most: 1, value: func(r *recorder, w window) (float64, error) { return float64(w.within(r.followed[w.arg(0)])), nil }},
	"raised":           {help: "ID [SUBJECT]: how often the alarm was raised", least: 1, most: 2, value: raised},
	"raised-at":        {help: "ID [SUBJECT]: when it was first raised in the window", unit: unitTime, least: 1, most: 2, value: raisedAt},
	"up":               {help: "ID [SUBJECT]: share of time that the alarm was up", unit: unitShare, least: 1, most: 2, value: up},
	"alarms":           {help: "how many alarms of any kind were raised", value: func(r *recorder, w window) (float64, error) { return float64(w.within(r.counts["alarms"])), nil }},
	"notes":            {help: "CODE: how often it was noted", least: 1, most: 1, value: counted("note ")},
	"done":             {help: "CODE: how often an order ended so; ok: carried out", least: 1, most: 1, value: counted("done ")},
	"saves":            {help: "how often the drift was saved", value: func(r *recorder, w window) (float64, error) { return float64(w.within(r.counts["saves"])), nil }},
}

// metricHelp lists the metrics.
func metricHelp() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		fmt.Fprintf(&b, "    %-17s %s\n", name, metrics[name].help)
	}
	return b.String()
}

func (w window) seconds(i int) (float64, error) {
	d, err := parseDuration(w.arg(i))
	return d.Seconds(), err
}

func lastError(_ *recorder, w window) (float64, error) {
	limit, err := w.seconds(0)
	last := 0.0
	for _, p := range w.in() {
		if math.Abs(p.err) > limit {
			last = float64(p.at) / 1e9
		}
	}
	return last, err
}

func rmsAfter(r *recorder, w window) (float64, error) {
	last, err := lastError(r, w)
	points := w.in()
	for len(points) > 0 && float64(points[0].at)/1e9 <= last {
		points = points[1:]
	}
	return rms(points, func(p point) float64 { return p.err }), err
}

func rms(points []point, of func(point) float64) float64 {
	var sum float64
	for _, p := range points {
		v := of(p)
		sum += v * v
	}
	return math.Sqrt(sum / float64(len(points)))
}

func largest(points []point, of func(point) float64) float64 {
	var most float64
	for _, p := range points {
		most = max(most, math.Abs(of(p)))
	}
	return most
}

// Quantities of a point; false: it has none.
func pointError(p point) (float64, bool) { return math.Abs(p.err), true }
func pointBound(p point) (float64, bool) { return p.bound, p.bound > 0 }

func sorted(points []point, of func(point) (float64, bool)) []float64 {
	var all []float64
	for _, p := range points {
		if v, ok := of(p); ok {
			all = append(all, v)
		}
	}
	slices.Sort(all)
	return all
}

func quantileOf(w window, of func(point) (float64, bool)) (float64, error) {
	q, err := strconv.ParseFloat(w.arg(0), 64)
	if err != nil || q < 0 || q > 1 {
		return 0, fmt.Errorf("%q is no quantile, such as 0.99", w.arg(0))
	}
	return quantile(sorted(w.in(), of), q), nil
}

func tightness(points []point) float64 {
	return quantile(sorted(points, pointBound), 0.5) / quantile(sorted(points, pointError), 0.99)
}

func shareOf(holds func(point, window) bool) func(*recorder, window) (float64, error) {
	return func(_ *recorder, w window) (float64, error) {
		points, n := w.in(), 0
		for _, p := range points {
			if holds(p, w) {
				n++
			}
		}
		return float64(n) / float64(len(points)), nil
	}
}

func inside(_ *recorder, w window) (float64, error) {
	n, of := countInside(w.in())
	return float64(n) / float64(of), nil
}

func countInside(points []point) (n, of int) {
	for _, p := range points {
		if p.bound > 0 {
			of++
			if math.Abs(p.err) <= p.bound {
				n++
			}
		}
	}
	return n, of
}

func syncedAt(_ *recorder, w window) (float64, error) {
	for _, p := range w.in() {
		if p.bound > 0 {
			return float64(p.at) / 1e9, nil
		}
	}
	return math.Inf(1), nil
}

func queriesPerHour(r *recorder, w window) (float64, error) {
	n, sources := 0, 0
	for name, at := range r.queries {
		if w.arg(0) == "" || w.arg(0) == name {
			n += w.within(at)
			sources++
		}
	}
	hours := float64(min(w.to, r.length)-w.from) / 3600e9
	return float64(n) / float64(sources) / hours, nil
}

func minGap(r *recorder, w window) (float64, error) {
	least := math.Inf(1)
	for name, at := range r.queries {
		if w.arg(0) != "" && w.arg(0) != name {
			continue
		}
		for i := 1; i < len(at); i++ {
			if at[i-1] >= w.from && at[i] < w.to {
				least = min(least, float64(at[i]-at[i-1])/1e9)
			}
		}
	}
	return least, nil
}

func alarmKey(w window) string { return strings.Join(w.args, " ") }

func raised(r *recorder, w window) (float64, error) {
	n := 0
	for _, c := range r.alarms[alarmKey(w)] {
		if c.up && c.at >= w.from && c.at < w.to {
			n++
		}
	}
	return float64(n), nil
}

func raisedAt(r *recorder, w window) (float64, error) {
	for _, c := range r.alarms[alarmKey(w)] {
		if c.up && c.at >= w.from && c.at < w.to {
			return float64(c.at) / 1e9, nil
		}
	}
	return math.Inf(1), nil
}

// up counts an alarm of several subjects as up while any change left it so.
func up(r *recorder, w window) (float64, error) {
	end, at, is, sum := min(w.to, r.length), w.from, false, int64(0)
	for _, c := range r.alarms[alarmKey(w)] {
		t := min(max(c.at, w.from), end)
		if is {
			sum += t - at
		}
		at, is = t, c.up
	}
	if is {
		sum += end - at
	}
	return float64(sum) / float64(end-w.from), nil
}

func counted(prefix string) func(*recorder, window) (float64, error) {
	return func(r *recorder, w window) (float64, error) {
		code := w.arg(0)
		if code == "ok" {
			code = ""
		}
		return float64(w.within(r.counts[prefix+code])), nil
	}
}

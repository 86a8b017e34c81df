package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Series is one figure of one system over the runs.
type Series struct {
	System string    `json:"system"` // "komainu", or the peer
	Values []float64 `json:"values"` // as measured, in the order of the runs
	N      int       `json:"n"`
	Min    float64   `json:"min"`
	Median float64   `json:"median"`
	Max    float64   `json:"max"`
}

func (s *Series) add(v float64) {
	s.Values = append(s.Values, math.Round(v*1000)/1000)
	sorted := slices.Sorted(slices.Values(s.Values))
	s.N, s.Min, s.Max = len(sorted), sorted[0], sorted[len(sorted)-1]
	s.Median = sorted[len(sorted)/2]
	if len(sorted)%2 == 0 {
		s.Median = (sorted[len(sorted)/2-1] + s.Median) / 2
	}
}

// Verdicts of a figure.
const (
	passed = "pass"
	missed = "missed"
	stated = "stated" // there is no goal
	failed = "failed to run"
)

// Figure is one line of the report.
type Figure struct {
	Name    string   `json:"name"`
	What    string   `json:"what"`
	Unit    string   `json:"unit"`
	Goal    string   `json:"goal"`
	Verdict string   `json:"verdict"`
	Ours    Series   `json:"ours"`
	Peers   []Series `json:"peers,omitempty"`
	Notes   []string `json:"notes,omitempty"`

	holds func(*Figure) bool // nil: no goal
	file  string             // empty: the main one
}

// peer is the series of another system, made when asked for first.
func (f *Figure) peer(system string) *Series {
	for i := range f.Peers {
		if f.Peers[i].System == system {
			return &f.Peers[i]
		}
	}
	f.Peers = append(f.Peers, Series{System: system})
	return &f.Peers[len(f.Peers)-1]
}

func (f *Figure) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(f.Notes, n) {
		f.Notes = append(f.Notes, n)
	}
}

// judge sets the verdict from what was measured.
func (f *Figure) judge() {
	switch {
	case f.Ours.N == 0:
		f.Verdict = failed
	case f.holds == nil:
		f.Verdict = stated
	case f.holds(f):
		f.Verdict = passed
	default:
		f.Verdict = missed
	}
}

// Goals.
func medianAtMost(limit float64) func(*Figure) bool {
	return func(f *Figure) bool { return f.Ours.Median <= limit }
}

func maxAtMost(limit float64) func(*Figure) bool {
	return func(f *Figure) bool { return f.Ours.Max <= limit }
}

// ratioAtLeast holds when the median of the ratios of pairs, in the order of the
// runs, is at least limit.
func ratioAtLeast(system string, limit float64) func(*Figure) bool {
	return func(f *Figure) bool {
		theirs := f.peer(system)
		var ratios Series
		for i := range min(len(f.Ours.Values), len(theirs.Values)) {
			ratios.add(f.Ours.Values[i] / theirs.Values[i])
		}
		f.note("ratio of pairs to %s: min %.3f, median %.3f, max %.3f (%d)", system, ratios.Min, ratios.Median, ratios.Max, ratios.N)
		return ratios.N > 0 && ratios.Median >= limit
	}
}

func between(least, most float64) func(*Figure) bool {
	return func(f *Figure) bool { return f.Ours.Min >= least && f.Ours.Max <= most }
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// table prints the figures for people.
func table(out io.Writer, figures []*Figure) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "figure\tsystem\tmin\tmedian\tmax\tn\tunit\tgoal\tverdict")
	for _, f := range figures {
		line := func(s Series, goal, verdict string) {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", f.What, s.System, number(s.Min), number(s.Median), number(s.Max), s.N, f.Unit, goal, verdict)
		}
		line(f.Ours, f.Goal, f.Verdict)
		for _, p := range f.Peers {
			line(p, "", "")
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, f := range figures {
		if len(f.Notes) > 0 {
			if _, err := fmt.Fprintf(out, "\n%s\n  %s\n", f.What, strings.Join(f.Notes, "\n  ")); err != nil {
				return err
			}
		}
	}
	return nil
}

func number(v float64) string {
	if v == math.Trunc(v) || math.Abs(v) >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

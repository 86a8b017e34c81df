package main

import "math"

// summaries of the figures for programs; what isn't a number becomes null.
func summaries(sc *scenario, results []*result) []summary {
	var all []summary
	for _, r := range results {
		s := summary{Scenario: sc.name, Figure: r.text, Holds: r.holds()}
		if v := r.value(); !math.IsNaN(v) && !math.IsInf(v, 0) {
			s.Value = &v
		}
		for _, v := range r.values {
			if !math.IsNaN(v) && !math.IsInf(v, 0) {
				s.Values = append(s.Values, v)
			}
		}
		all = append(all, s)
	}
	return all
}

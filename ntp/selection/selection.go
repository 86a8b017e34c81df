// Package selection decides which sources tell the truth, and what they say
// together. It looks at one moment and remembers nothing. Start reading at
// Select.
package selection

import (
	"math"
	"slices"
	"sort"
)

// Candidate is a usable source at one moment.
type Candidate struct {
	ID       int
	Offset   float64 // s: how far it is ahead of our clock
	Sigma    float64 // s: standard deviation of Offset by what was measured
	Distance float64 // s: root distance; the true time is within it around Offset
	Stratum  uint8
	Prefer   bool
}

// Result is what the candidates say together.
type Result struct {
	Majority  bool            // most of them agree; if not, nothing else is set but False
	Low, High float64         // s: where the truth must be, as the offset of our clock
	Combined  map[int]float64 // by ID: weight in the combination, sum 1
	Outlying  []int           // may be true, but too far from the others to be combined
	False     []int           // contradict the majority; without a majority: all
	Best      int             // ID that counts most
	Offset    float64         // s, combined
	Sigma     float64         // s, combined
}

// far is how many standard deviations of both apart a source is left out.
const far = 4

// Select finds the largest set of candidates whose intervals have a point in
// common (Marzullo's algorithm, RFC 5905 section 11.2.1), demands that it be
// more than half and at least atLeast, then leaves out who stands apart from
// the rest by more than the noise explains, and combines the others.
func Select(all []Candidate, atLeast int) Result {
	low, high, n := intersection(all)
	r := Result{Low: low, High: high, Majority: 2*n > len(all) && n >= atLeast && n > 0, Combined: map[int]float64{}}
	var true_ []Candidate
	for _, c := range all {
		if r.Majority && c.Offset-c.Distance <= low && c.Offset+c.Distance >= high {
			true_ = append(true_, c)
		} else {
			r.False = append(r.False, c.ID)
		}
	}
	if !r.Majority {
		return r
	}
	kept := cluster(true_, max(atLeast, 2, len(all)/2+1))
	for _, c := range true_ {
		if !slices.Contains(kept, c) {
			r.Outlying = append(r.Outlying, c.ID)
		}
	}
	r.combine(kept)
	return r
}

// intersection is the interval that most candidates share, and how many.
func intersection(all []Candidate) (low, high float64, most int) {
	type edge struct {
		at    float64
		opens bool
	}
	var edges []edge
	for _, c := range all {
		edges = append(edges, edge{c.Offset - c.Distance, true}, edge{c.Offset + c.Distance, false})
	}
	sort.Slice(edges, func(i, j int) bool {
		if edges[i].at != edges[j].at {
			return edges[i].at < edges[j].at
		}
		return edges[i].opens && !edges[j].opens // touching counts
	})
	open := 0
	for i, e := range edges {
		if !e.opens {
			open--
			continue
		}
		if open++; open > most {
			most, low, high = open, e.at, edges[i+1].at
		}
	}
	return low, high, most
}

// cluster leaves out the farthest one as long as it stands apart and enough
// are left for the others to be right against it.
func cluster(in []Candidate, least int) []Candidate {
	kept := slices.Clone(in)
	for len(kept) > least {
		worst, by := -1, 1.0
		for i, c := range kept {
			others := slices.Delete(slices.Clone(kept), i, i+1)
			mid, spread := median(others)
			if d := math.Abs(c.Offset-mid) / (far * math.Hypot(max(c.Sigma, spread), 1e-6)); d > by {
				worst, by = i, d
			}
		}
		if worst < 0 {
			break
		}
		kept = slices.Delete(kept, worst, worst+1)
	}
	return kept
}

// median is the middle offset, and how far the others are from it: the median
// of the distances, or the smallest sigma when they are closer than that.
func median(in []Candidate) (mid, spread float64) {
	at := make([]float64, len(in))
	least := math.Inf(1)
	for i, c := range in {
		at[i], least = c.Offset, min(least, c.Sigma)
	}
	mid = middle(at)
	for i := range at {
		at[i] = math.Abs(at[i] - mid)
	}
	return mid, max(middle(at), least)
}

func middle(x []float64) float64 {
	slices.Sort(x)
	n := len(x)
	return (x[(n-1)/2] + x[n/2]) / 2
}

// combine weighs by what was measured and by a tenth of the root distance,
// since a long way is seldom symmetric. A preferred source stands alone.
func (r *Result) combine(kept []Candidate) {
	if i := slices.IndexFunc(kept, func(c Candidate) bool { return c.Prefer }); i >= 0 {
		kept = kept[i : i+1]
	}
	var sum, best float64
	for _, c := range kept {
		w := 1 / (c.Sigma*c.Sigma + c.Distance*c.Distance/100)
		r.Combined[c.ID] = w
		sum += w
		if w > best {
			r.Best, best = c.ID, w
		}
	}
	var variance float64
	for _, c := range kept {
		w := r.Combined[c.ID] / sum
		r.Combined[c.ID] = w
		r.Offset += w * c.Offset
		variance += w * w * c.Sigma * c.Sigma
	}
	r.Sigma = math.Sqrt(variance)
}

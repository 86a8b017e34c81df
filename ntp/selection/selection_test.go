package selection

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// c is a candidate whose measurement is as good as its distance says.
func c(id int, offset, distance float64) Candidate {
	return Candidate{ID: id, Offset: offset, Sigma: distance / 10, Distance: distance, Stratum: 2}
}

func TestSelect(t *testing.T) {
	prefer := func(c Candidate) Candidate { c.Prefer = true; return c }
	for _, x := range []struct {
		name      string
		in        []Candidate
		atLeast   int
		low, high float64
		combined  []int
		outlying  []int
		false_    []int
	}{
		{name: "none", atLeast: 1},
		{name: "one", in: []Candidate{c(1, 3, 1)}, atLeast: 1, low: 2, high: 4, combined: []int{1}},
		{name: "one, two wanted", in: []Candidate{c(1, 3, 1)}, atLeast: 2, false_: []int{1}},
		{name: "two that agree", in: []Candidate{c(1, 0, 2), c(2, 3, 2)}, atLeast: 1, low: 1, high: 2, combined: []int{1, 2}},
		{name: "two that touch", in: []Candidate{c(1, 0, 2), c(2, 4, 2)}, atLeast: 1, low: 2, high: 2, combined: []int{1, 2}},
		{name: "two that disagree", in: []Candidate{c(1, 0, 1), c(2, 4, 2)}, atLeast: 1, false_: []int{1, 2}},
		{name: "two that disagree, one preferred", in: []Candidate{prefer(c(1, 0, 1)), c(2, 4, 2)}, atLeast: 1, false_: []int{1, 2}},
		// Marzullo's thesis, and RFC 5905 appendix A.5.5.1's walk over the edges.
		{name: "10±2, 12±1, 11±1", in: []Candidate{c(1, 10, 2), c(2, 12, 1), c(3, 11, 1)}, atLeast: 1, low: 11, high: 12, combined: []int{1, 2, 3}},
		{name: "8-12, 11-13, 14-15", in: []Candidate{c(1, 10, 2), c(2, 12, 1), c(3, 14.5, 0.5)}, atLeast: 2, low: 11, high: 12, combined: []int{1, 2}, false_: []int{3}},
		{name: "8-9, 8-12, 10-12", in: []Candidate{c(1, 8.5, 0.5), c(2, 10, 2), c(3, 11, 1)}, atLeast: 2, low: 8, high: 9, combined: []int{1, 2}, false_: []int{3}},
		{name: "one of three is false", in: []Candidate{c(1, 0, 1), c(2, 0.5, 1), c(3, 60, 1)}, atLeast: 1, low: -0.5, high: 1, combined: []int{1, 2}, false_: []int{3}},
		{name: "two of five are false together", in: []Candidate{c(1, 0, 1), c(2, 0.5, 1), c(3, 0.2, 1), c(4, 60, 1), c(5, 60, 1)}, atLeast: 1, low: -0.5, high: 1, combined: []int{1, 2, 3}, false_: []int{4, 5}},
		{name: "two against two", in: []Candidate{c(1, 0, 1), c(2, 0.5, 1), c(4, 60, 1), c(5, 60, 1)}, atLeast: 1, false_: []int{1, 2, 4, 5}},
		{name: "a chain", in: []Candidate{c(1, 0, 1), c(2, 1.5, 1), c(3, 3, 1)}, atLeast: 1, low: 0.5, high: 1, combined: []int{1, 2}, false_: []int{3}},
		{name: "preferred alone", in: []Candidate{c(1, 0, 1), prefer(c(2, 0.5, 1)), c(3, 0.2, 1)}, atLeast: 1, low: -0.5, high: 1, combined: []int{2}},
		{name: "preferred is false", in: []Candidate{c(1, 0, 1), prefer(c(2, 50, 1)), c(3, 0.2, 1)}, atLeast: 1, low: -0.8, high: 1, combined: []int{1, 3}, false_: []int{2}},
		{name: "one stands apart", in: []Candidate{c(1, 0, 1), c(2, 0.01, 1), c(3, -0.01, 1), c(4, 0.9, 1)}, atLeast: 1, low: -0.1, high: 0.99, combined: []int{1, 2, 3}, outlying: []int{4}},
		{name: "one stands apart of two", in: []Candidate{c(1, 0, 1), c(4, 0.9, 1)}, atLeast: 1, low: -0.1, high: 1, combined: []int{1, 4}},
		{name: "one stands apart, all are wanted", in: []Candidate{c(1, 0, 1), c(2, 0.01, 1), c(3, -0.01, 1), c(4, 0.9, 1)}, atLeast: 4, low: -0.1, high: 0.99, combined: []int{1, 2, 3, 4}},
	} {
		for range 4 { // the order of candidates doesn't matter
			r := Select(x.in, x.atLeast)
			if r.Majority != (len(x.combined) > 0) {
				t.Fatalf("%s: majority %v", x.name, r.Majority)
			}
			var combined []int
			sum := 0.0
			for id, w := range r.Combined {
				combined, sum = append(combined, id), sum+w
			}
			slices.Sort(combined)
			slices.Sort(r.False)
			if !slices.Equal(combined, x.combined) || !slices.Equal(r.Outlying, x.outlying) || !slices.Equal(r.False, x.false_) {
				t.Fatalf("%s: combined %v, outlying %v, false %v", x.name, combined, r.Outlying, r.False)
			}
			if r.Majority && (math.Abs(r.Low-x.low) > 1e-9 || math.Abs(r.High-x.high) > 1e-9 || math.Abs(sum-1) > 1e-9 || r.Combined[r.Best] == 0) {
				t.Fatalf("%s: %g..%g, weights %v, best %d", x.name, r.Low, r.High, r.Combined, r.Best)
			}
			if n := len(x.in); n > 1 {
				x.in = append(slices.Clone(x.in[1:]), x.in[0])
			}
		}
	}
}

// TestCombine: two equal sources halve the variance; of a good and a bad one
// the good one decides.
func TestCombine(t *testing.T) {
	r := Select([]Candidate{{ID: 1, Offset: 1, Sigma: 0.2, Distance: 3}, {ID: 2, Offset: 2, Sigma: 0.2, Distance: 3}}, 1)
	if math.Abs(r.Offset-1.5) > 1e-9 || math.Abs(r.Sigma-0.2/math.Sqrt2) > 1e-9 {
		t.Errorf("offset %g ± %g, want 1.5 ± %g", r.Offset, r.Sigma, 0.2/math.Sqrt2)
	}
	r = Select([]Candidate{{ID: 1, Offset: 1, Sigma: 0.01, Distance: 0.1}, {ID: 2, Offset: 2, Sigma: 1, Distance: 10}}, 1)
	if r.Best != 1 || math.Abs(r.Offset-1) > 0.01 || r.Combined[1] < 0.99 {
		t.Errorf("offset %g by %d, weights %v", r.Offset, r.Best, r.Combined)
	}
}

// TestSelectAlways: whatever comes in, everybody is in one list, a minority is
// never followed, and the offset is among those that are combined.
func TestSelectAlways(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		var in []Candidate
		for id := range r.IntN(9) {
			k := c(id+1, math.Round(r.NormFloat64()*3), math.Round(r.ExpFloat64()*20)/10)
			k.Sigma, k.Prefer = k.Sigma+1e-6, r.IntN(20) == 0
			in = append(in, k)
		}
		atLeast := 1 + r.IntN(4)
		got := Select(in, atLeast)
		preferred := slices.ContainsFunc(in, func(k Candidate) bool { return k.Prefer && got.Combined[k.ID] > 0 })
		if n := len(got.Combined) + len(got.Outlying) + len(got.False); n != len(in) && !preferred {
			t.Fatalf("%d of %d: %+v", n, len(in), got)
		}
		if !got.Majority {
			if len(got.Combined) != 0 || len(got.False) != len(in) {
				t.Fatalf("no majority, but %+v", got)
			}
			continue
		}
		if n := len(in) - len(got.False); 2*n <= len(in) || n < atLeast || got.Low > got.High {
			t.Fatalf("%d of %d are followed, %d wanted: %+v", n, len(in), atLeast, got)
		}
		low, high := math.Inf(1), math.Inf(-1)
		for _, k := range in {
			if got.Combined[k.ID] > 0 {
				low, high = min(low, k.Offset), max(high, k.Offset)
			}
		}
		if got.Offset < low-1e-9 || got.Offset > high+1e-9 || math.IsNaN(got.Sigma) {
			t.Fatalf("offset %g ± %g of %+v", got.Offset, got.Sigma, in)
		}
	}
}

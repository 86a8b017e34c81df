package main

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestBugsAreFound plants known mistakes; each must be found within 1,000 seeds.
func TestBugsAreFound(t *testing.T) {
	for b := noBug + 1; b < bugCount; b++ {
		t.Run(strings.ReplaceAll(bugNames[b], " ", "-"), func(t *testing.T) {
			seeds := uint64(1000)
			if testing.Short() {
				seeds = 40
			}
			for seed := uint64(1); seed <= seeds; seed++ {
				w := newWorld(seed)
				w.bugs.plant = b
				w.run()
				if w.failure != "" {
					t.Logf("seed %d: %s", seed, w.failure)
					return
				}
			}
			if testing.Short() {
				t.Skipf("not found within %d seeds; the whole test tries 1,000", seeds)
			}
			t.Errorf("not found within 1,000 seeds")
		})
	}
}

// TestSameSeedSameTranscript: a failure can be replayed.
func TestSameSeedSameTranscript(t *testing.T) {
	for seed := uint64(1); seed <= 5; seed++ {
		var a, b strings.Builder
		for _, to := range []*strings.Builder{&a, &b} {
			w := newWorld(seed)
			w.story.to = to
			w.run()
		}
		if a.String() != b.String() {
			t.Errorf("seed %d: two runs differ", seed)
		}
	}
}

func BenchmarkSeed(b *testing.B) {
	for i := range b.N {
		newWorld(uint64(i + 1)).run()
	}
}

// TestRegressions replays the seeds that once found a real bug.
func TestRegressions(t *testing.T) {
	list, err := os.ReadFile("regressions.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(list)), "\n") {
		number, what, _ := strings.Cut(line, " ")
		seed, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(seed)
		w.run()
		if w.failure != "" {
			t.Errorf("seed %d (%s): %s\n%s", seed, what, w.failure, w.tail(60))
		}
	}
}

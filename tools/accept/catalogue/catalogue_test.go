package catalogue

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestEveryGroupCountsUpFromOne(t *testing.T) {
	for _, g := range Groups() {
		for i, r := range Group(g) {
			if want := fmt.Sprintf("%s-%d", g, i+1); r.ID != want {
				t.Errorf("group %s has %s where %s should stand", g, r.ID, want)
				break
			}
			if r.Meaning == "" {
				t.Errorf("%s has no meaning", r.ID)
			}
		}
	}
}

func TestAcceptanceTestsHaveFigureAndTag(t *testing.T) {
	rows := Group("AT")
	if len(rows) != 189 {
		t.Errorf("%d acceptance tests, the catalogue has 189", len(rows))
	}
	tags := []Tag{Native, Standby, Path, Product}
	for _, r := range rows {
		if r.Benchmark == "" || !slices.Contains(tags, r.Tag) {
			t.Errorf("%s: benchmark %q, tag %q", r.ID, r.Benchmark, r.Tag)
		}
	}
}

func TestNoIDTwice(t *testing.T) {
	if lines := strings.Count(tsv, "\n") - 1; lines != len(table()) {
		t.Errorf("%d lines but %d different IDs", lines, len(table()))
	}
}

func TestLookup(t *testing.T) {
	r, ok := Lookup("AT-62")
	if !ok || r.Group() != "AT" || r.Tag != Standby || !strings.Contains(r.Benchmark, "1 s") {
		t.Errorf("AT-62 is %+v, %v", r, ok)
	}
	for _, id := range []string{"DEG-22", "OFM-12", "HDR-1", "NET-3", "TIM-4", "PRB-3", "VIR-17"} {
		if _, ok := Lookup(id); !ok {
			t.Errorf("%s is missing", id)
		}
	}
	if r, ok := Lookup("AT-190"); ok {
		t.Errorf("AT-190 found: %+v", r)
	}
}

package main

import (
	"strings"
	"testing"
	"time"
)

func TestSeries(t *testing.T) {
	var s Series
	for _, v := range []float64{4, 1, 3, 2} {
		s.add(v)
	}
	if s.N != 4 || s.Min != 1 || s.Median != 2.5 || s.Max != 4 {
		t.Errorf("%+v", s)
	}
	s.add(10)
	if s.Median != 3 {
		t.Errorf("median of five: %+v", s)
	}
}

func TestJudge(t *testing.T) {
	f := Figure{holds: againstPeer(1.3)}
	f.judge()
	if f.Verdict != failed {
		t.Errorf("nothing measured: %s", f.Verdict)
	}
	f.Ours.add(130)
	f.judge()
	if f.Verdict != missed {
		t.Errorf("no peer: %s", f.Verdict)
	}
	f.peer("hand-made").add(100)
	f.judge()
	if f.Verdict != passed {
		t.Errorf("1.3 times the peer: %s", f.Verdict)
	}
	f.holds = nil
	f.judge()
	if f.Verdict != stated {
		t.Errorf("no goal: %s", f.Verdict)
	}
}

func TestTable(t *testing.T) {
	f := Figure{What: "cut to read", Unit: "ms", Goal: "<= 700", Verdict: passed, Ours: Series{System: "komainu"}, Notes: []string{"a note"}}
	f.Ours.add(537.25)
	f.peer("keepalived").add(0.25)
	var b strings.Builder
	if err := table(&b, []*Figure{&f}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"537", "0.25", "keepalived", "<= 700", "pass", "a note"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}

func TestParseSim(t *testing.T) {
	for line, want := range map[string]simSummary{
		"20 seeds, 203 simulated minutes, 220 faults, 24,922 writes acknowledged, 0 failures, 2.5 s (1.2 s of one core), 545,042 events/s": {20, 203, 220, 545042, 1200 * time.Millisecond},
		"1,000 seeds, 10,000 simulated minutes, 7,000 faults, 1 failures, 50.0 s, 99,000 events/s":                                         {1000, 10000, 7000, 99000, 50 * time.Second},
	} {
		if got, ok := parseSim(line); !ok || got != want {
			t.Errorf("%q: %+v, %v", line, got, ok)
		}
	}
	if _, ok := parseSim("seed 3 fails at 4.5 s: two primaries"); ok {
		t.Error("a failure is no summary")
	}
}

func TestParts(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range parts {
		if p.name == "" || p.run == nil || seen[p.name] {
			t.Errorf("part %q", p.name)
		}
		seen[p.name] = true
	}
}

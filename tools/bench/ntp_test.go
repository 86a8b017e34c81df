package main

import "testing"

func TestParseHeap(t *testing.T) {
	got := parseHeap(`time=2026 level=INFO msg="the time daemon started"
gc 1 @0.011s 1%: 0.018+1.1+0.003 ms clock, 0.018+0.1/0.2/0.9+0.003 ms cpu, 3->4->1 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 3 P
gc 2 @120.0s 0%: 0.018+1.1+0.003 ms clock, 0.018+0.1/0.2/0.9+0.003 ms cpu, 2->2->1 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 3 P (forced)
`)
	if want := (heap{cycles: 2, made: 5e6}); got != want {
		t.Errorf("%+v", got)
	}
}

func TestFiguresOfTimeHaveTheirOwnFile(t *testing.T) {
	b := &bench{}
	b.figure(Figure{Name: "a"})
	b.file = "ntp.json"
	b.figure(Figure{Name: "b"})
	files := byFile(b.figures, "out/bench/failover.json")
	if len(files["out/bench/failover.json"]) != 1 || len(files["out/bench/ntp.json"]) != 1 {
		t.Errorf("%v", files)
	}
}

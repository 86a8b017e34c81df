package timer_test

import (
	"testing"
	"time"

	"komainu/ntp/timer"
)

// TestReplacedWhileNothingIsNew: the source that was shown as followed is gone
// for good, and the other alone is no majority.
func TestReplacedWhileNothingIsNew(t *testing.T) {
	w := newWorld(t)
	w.serve(a1, 0).way = 100 * time.Microsecond // counts most
	w.serve(a2, 0).way = 20 * time.Millisecond
	s := spec("pool.example")
	s.Upstreams[0].Pool, s.MinSources = 2, 2
	s.Upstreams[0].MinPoll, s.Upstreams[0].MaxPoll = 10, 10
	b := w.box("box", s, 0, 2)
	b.names[0] = []string{a1, a2}
	b.start(timer.Drift{})
	w.run(6 * time.Hour)
	w.servers[a1].silent = "ntp-timeout"
	b.names[0] = []string{a2}
	w.run(6 * time.Hour)
}

// TestVoidAnswer: the clock was set while a query was under way. Its answer
// measures nothing, and the server is asked again.
func TestVoidAnswer(t *testing.T) {
	w, b := followed(t, time.Hour, spec(a1))
	w.servers[a1].way = 100 * time.Millisecond
	for len(b.coming) == 0 {
		w.run(50 * time.Millisecond)
	}
	before := b.timer.View(b.reading()).Sources[0]
	b.set(-10 * time.Second)
	w.run(250 * time.Millisecond)
	after := b.timer.View(b.reading()).Sources[0]
	if after.Good != before.Good || after.Queries != before.Queries+1 || (after.Offset-before.Offset).Abs() > time.Millisecond {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

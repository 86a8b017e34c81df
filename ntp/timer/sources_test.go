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

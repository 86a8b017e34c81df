package linelab

import (
	"fmt"
	"testing"
	"time"

	"komainu/tools/lab"
)

// TestHostLineProfiles: the business class over lines of 100, 10 and 1 Mbit/s
// with 20 ms of delay, as the trial's clients had them (AT-168, AT-169): the
// shaped line costs a transaction what its bytes cost, and no more.
func TestHostLineProfiles(t *testing.T) {
	stockOnly(t)
	type profile struct {
		rate string
		bits float64
	}
	profiles := []profile{{"100mbit", 100e6}, {"10mbit", 10e6}, {"1mbit", 1e6}}
	var took []time.Duration
	for _, p := range profiles {
		w := start(t, Options{Settings: shaped(p.rate, "256kbit")})
		shares(t, w)
		for _, d := range []lab.Direction{lab.HallToDC, lab.DCToHall} {
			w.Main.Set(d, lab.Params{Delay: 10 * time.Millisecond})
		}
		s, err := NewSessions(t.Context(), w.Clients[0], app, 1)
		must(t, err)
		took = append(took, transactions(t, s))
		s.Close()
	}
	text := fmt.Sprintf("100/10/1 Mbit/s with 20 ms: %.2f, %.2f, %.2f s for 20 exchanges of 2 KB", took[0].Seconds(), took[1].Seconds(), took[2].Seconds())
	ok := took[1] < 2*took[0]
	result("AT-168", ok, "20 exchanges over a shaped tunnel with 20 ms: no knee at 10 Mbit/s", text)
	result("AT-169", ok && took[2] < 10*took[0], "the same profiles of bandwidth: what the line itself costs", text)
	if !ok {
		t.Error(text)
	}
}

// transactions are 20 exchanges of 2 KB each way over a session.
func transactions(t *testing.T, s Sessions) time.Duration {
	t.Helper()
	const times, size = 20, 2048
	b := make([]byte, size)
	begin := time.Now()
	must(t, s[0].SetDeadline(begin.Add(time.Minute)))
	for range times {
		_, err := s[0].Write(b)
		must(t, err)
		for n := 0; n < size; {
			m, err := s[0].Read(b[n:])
			must(t, err)
			n += m
		}
	}
	return time.Since(begin)
}

// TestHostLineFair: one client that floods the class that others use too takes
// nobody's share (AT-178), and a burst after a long gap doesn't hurt business
// (AT-185, PRB-28).
func TestHostLineFair(t *testing.T) {
	stockOnly(t)
	w := start(t, Options{Settings: shaped("1mbit", "512kbit")})
	ctx := t.Context()
	shares(t, w)
	measure := func() Report {
		begin := time.Now()
		f, err := NewFlow(ctx, w.Clients[0], app, 50*time.Millisecond, 200)
		must(t, err)
		sleep(ctx, 4*time.Second)
		return f.Stop(begin, 2*time.Second)
	}
	calm := measure()
	var stops []func()
	for range 4 {
		stops = append(stops, flood(ctx, t, w.Clients[2], 9, 1000, 125_000))
	}
	burst := measure()
	for _, stop := range stops {
		stop()
	}
	ok := burst.Lost == 0
	result("AT-185", ok, "four times the line of bulk at once, as after a long gap, beside business",
		fmt.Sprintf("%d of %d business packets lost; p99 %.0f ms, before %.0f ms", burst.Lost, burst.Sent, millis(burst.Quantile(0.99)), millis(calm.Quantile(0.99))))
	if !ok {
		t.Errorf("%d of %d business packets lost", burst.Lost, burst.Sent)
	}
	// Port 7 is business: the greedy client is in the same class.
	stop := flood(ctx, t, w.Clients[1], 7, 1000, 125_000)
	greedy := measure()
	stop()
	ok = greedy.Lost*10 <= greedy.Sent && greedy.Quantile(0.5) < calm.Quantile(0.5)+200*time.Millisecond
	result("AT-178", ok, "a client floods its class with twice the line, another one works in the same class",
		fmt.Sprintf("%d of %d packets of the other lost; median %.0f ms, before %.0f ms", greedy.Lost, greedy.Sent, millis(greedy.Quantile(0.5)), millis(calm.Quantile(0.5))))
	if !ok {
		t.Errorf("%d of %d packets lost, median %v, before %v", greedy.Lost, greedy.Sent, greedy.Quantile(0.5), calm.Quantile(0.5))
	}
}

// TestHostLineSettable: what happens at a network failure and how often it is
// looked for are settings, each link by itself: heartbeats of 200 ms x 3, both
// lines at once (AT-181, AT-182).
func TestHostLineSettable(t *testing.T) {
	stockOnly(t)
	w := start(t, Options{Settings: Settings{Interval: 200 * time.Millisecond, Multiplier: 3}})
	ctx := t.Context()
	cut := time.Now()
	for _, l := range w.Lines("both") {
		l.Cut(lab.HallToDC)
		l.Cut(lab.DCToHall)
	}
	var slowest time.Duration
	for _, name := range []string{"main", "alt"} {
		slowest = max(slowest, noted(ctx, t, w.Hall, cut, time.Minute, "path-down", name).Sub(cut))
	}
	for _, l := range w.Lines("both") {
		l.Heal(lab.HallToDC)
		l.Heal(lab.DCToHall)
	}
	must(t, w.Ready(ctx, time.Minute))
	text := fmt.Sprintf("both down after %.0f ms, both up again", millis(slowest))
	result("AT-181", true, "both lines cut: the paths degrade, retry and come back by themselves", text)
	result("AT-182", slowest > 400*time.Millisecond, "two links at once, heartbeats set to 200 ms x 3", text)
	if slowest <= 400*time.Millisecond {
		t.Errorf("down after %v already", slowest)
	}
}

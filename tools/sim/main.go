// Command sim runs the agents of a town hall, a DC edge and a database host in
// a world that a seed makes unreliable, and judges every step by the
// invariants of design 5. It never opens a socket and never reads a clock but
// to say how long it took. Start reading at world.run; then plan.go (what a
// seed decides), faults.go, and check.go.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"syscall"
	"time"
)

func main() {
	seeds := flag.Int("seeds", 300, "how many seeds")
	first := flag.Uint64("seed", 1, "the first seed")
	trace := flag.Bool("trace", false, "print the whole transcript")
	all := flag.Bool("all", false, "go on after a failure, print one line for each")
	plant := flag.Int("bug", 0, "plant this known mistake, see bugs.go")
	flag.Parse()
	debug.SetGCPercent(800) // worlds are small and short-lived
	begin := time.Now()
	var total tally
	failures := 0
	for i := range *seeds {
		w := newWorld(*first + uint64(i))
		w.bugs.plant = bug(*plant)
		if *trace {
			w.story.to = os.Stdout
		}
		w.run()
		total.add(w)
		if w.failure == "" {
			continue
		}
		failures++
		if *all {
			fmt.Printf("seed %d: at %.3f s: %s\n", w.seed, float64(w.now)/float64(sec), w.failure)
			continue
		}
		fmt.Printf("seed %d fails at %.3f s: %s\n\n%s\nreplay: make sim SEEDS=1 SEED=%d\n", w.seed, float64(w.now)/float64(sec), w.failure, w.tail(60), w.seed)
		os.Exit(1)
	}
	fmt.Println(total.line(failures, time.Since(begin)))
	if failures > 0 {
		os.Exit(1)
	}
}

// tally is what a run of many seeds amounts to.
type tally struct {
	seeds, faults, events, acked int
	simulated                    int64
}

func (t *tally) add(w *world) {
	t.seeds++
	t.faults += w.checks.faults
	t.events += w.events
	t.acked += w.acked
	t.simulated += w.now
}

func (t *tally) line(failures int, took time.Duration) string {
	cpu := took // what one core needs; the machine may be shared
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) == nil {
		cpu = time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return fmt.Sprintf("%d seeds, %s simulated minutes, %s faults, %s writes acknowledged, %d failures, %.1f s (%.1f s of one core), %s events/s",
		t.seeds, commas(int(t.simulated/sec/60)), commas(t.faults), commas(t.acked), failures, took.Seconds(), cpu.Seconds(), commas(int(float64(t.events)/cpu.Seconds())))
}

func commas(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// simSeeds of one run of the simulator.
const simSeeds = 60

// sim measures how fast the simulator is, on one core.
func (b *bench) sim(ctx context.Context) error {
	seeds := b.figure(Figure{Name: "sim_seeds", What: "simulation: seeds a minute, on one core", Unit: "seeds/min", Goal: "median >= 1000", holds: func(f *Figure) bool { return f.Ours.Median >= 1000 }})
	events := b.figure(Figure{Name: "sim_events", What: "simulation: events a second, on one core", Unit: "events/s"})
	return b.repeat(ctx, func(i int) error {
		cmd := exec.CommandContext(ctx, "go", "run", "./tools/sim", "-all", "-seeds", strconv.Itoa(simSeeds), "-seed", strconv.Itoa(1+i*simSeeds))
		cmd.Env = append(cmd.Environ(), "GOMAXPROCS=1")
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("%v: %w: %s", cmd.Args, err, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		s, ok := parseSim(lines[len(lines)-1])
		if !ok {
			return fmt.Errorf("%v printed no summary: %s", cmd.Args, out)
		}
		seeds.Ours.add(60 * s.seeds / s.took.Seconds())
		events.Ours.add(s.events)
		seeds.note("%.0f simulated minutes and %.0f faults a seed", s.minutes/s.seeds, s.faults/s.seeds)
		if err != nil {
			seeds.note("the simulator found failures: make sim says which")
		}
		return nil
	})
}

// simSummary is the simulator's last line.
type simSummary struct {
	seeds, minutes, faults, events float64
	took                           time.Duration
}

// parseSim reads "20 seeds, 200 simulated minutes, 140 faults, ..., 1.2 s, 99,000 events/s".
func parseSim(line string) (simSummary, bool) {
	var s simSummary
	line, _, _ = strings.Cut(line, "\n")
	core := 0.0 // CPU time, where the summary tells it from the time that passed
	for part := range strings.SplitSeq(line, ", ") {
		part, cpu, ok := strings.Cut(part, " (")
		if ok {
			core, _ = strconv.ParseFloat(strings.TrimSuffix(cpu, " s of one core)"), 64)
		}
		number, unit, _ := strings.Cut(part, " ")
		v, err := strconv.ParseFloat(strings.ReplaceAll(number, ",", ""), 64)
		if err != nil {
			continue
		}
		switch unit {
		case "seeds":
			s.seeds = v
		case "simulated minutes":
			s.minutes = v
		case "faults":
			s.faults = v
		case "s":
			s.took = time.Duration(v * float64(time.Second))
		case "events/s":
			s.events = v
		}
	}
	if core > 0 {
		s.took = time.Duration(core * float64(time.Second))
	}
	return s, s.seeds > 0 && s.took > 0
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"slices"
	"strconv"
)

// Seeds of the simulated clocks: of the scenarios with a figure each, and of holdover.
const (
	clockSeeds    = 20
	holdoverSeeds = 100
)

// simulated is a figure of tools/clocksim over its seeds.
type simulated struct {
	Scenario string    `json:"scenario"`
	Figure   string    `json:"figure"`
	Values   []float64 `json:"values"` // seconds, shares
	Value    *float64  `json:"value"`  // null: there is none
	Holds    bool      `json:"holds"`
}

// clock measures the time discipline in a simulation, the same on every machine.
func (b *bench) clock(ctx context.Context) error {
	for _, line := range []struct {
		scenario, name string
		last, rms      float64 // goals: s, us
	}{{"lan", "LAN", 6, 85}, {"wan", "WAN", 800, 380}} {
		got, err := simulateClock(ctx, clockSeeds, line.scenario)
		if err != nil {
			return err
		}
		last := b.figure(Figure{Name: "clock_" + line.scenario + "_last_error", What: "simulated " + line.name + ": last error above 1 ms after the start", Unit: "s", Goal: fmt.Sprintf("median <= %v", line.last), holds: medianAtMost(line.last)})
		rms := b.figure(Figure{Name: "clock_" + line.scenario + "_rms", What: "simulated " + line.name + ": rms error after that", Unit: "us", Goal: fmt.Sprintf("median <= %v", line.rms), holds: medianAtMost(line.rms)})
		if err := got.all(last, 1, "median last-error 1ms <="); err != nil {
			return err
		}
		if err := got.all(rms, 1e6, "median rms-after 1ms <="); err != nil {
			return err
		}
	}
	return b.clockTrust(ctx)
}

// clockTrust measures what the clock says of itself and whom it believes.
func (b *bench) clockTrust(ctx context.Context) error {
	got, err := simulateClock(ctx, holdoverSeeds, "holdover")
	if err != nil {
		return err
	}
	inside := b.figure(Figure{Name: "clock_holdover_inside", What: "simulated holdover of a day: error inside the advertised root distance", Unit: "% of time", Goal: ">= 99.9", holds: func(f *Figure) bool { return f.Ours.Median >= 99.9 }})
	tight := b.figure(Figure{Name: "clock_holdover_tightness", What: "simulated holdover of a day: median root distance / p99 of the error", Unit: "", Goal: "<= 5", holds: medianAtMost(5)})
	if err := got.one(inside, 100, "pooled inside from=4d"); err != nil {
		return err
	}
	if err := got.one(tight, 1, "pooled tightness"); err != nil {
		return err
	}
	for _, f := range []*Figure{inside, tight} {
		f.note("all samples of %d seeds together", holdoverSeeds)
	}
	for _, trust := range []struct {
		name, what string
		scenarios  []string
	}{
		{"clock_falsetickers", "simulated falsetickers, one of three, two of five, one with valid NTS: demands that don't hold", []string{"falseticker-1-of-3", "falsetickers-2-of-5", "lying-nts-1"}},
		{"clock_lying_majority", "simulated lying majority (alarm, no step, slew bounded): demands that don't hold", []string{"lying-majority", "lying-majority-far"}},
	} {
		got, err := simulateClock(ctx, clockSeeds, trust.scenarios...)
		if err != nil {
			return err
		}
		f := b.figure(Figure{Name: trust.name, What: trust.what, Goal: "0", holds: maxAtMost(0)})
		for _, s := range trust.scenarios {
			missed := 0.0
			for _, g := range got {
				if g.Scenario == s && !g.Holds {
					missed++
					f.note("%s: %s doesn't hold", s, g.Figure)
				}
			}
			f.Ours.add(missed)
		}
		f.note("%d seeds of each", clockSeeds)
	}
	return nil
}

// simulatedRun is what one call of the simulation printed.
type simulatedRun []simulated

// simulateClock runs scenarios of tools/clocksim. A demand that doesn't hold is no error.
func simulateClock(ctx context.Context, seeds int, scenarios ...string) (simulatedRun, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"run", "./tools/clocksim", "-json", "-seeds", strconv.Itoa(seeds)}, scenarios...)...)
	out, err := cmd.Output()
	var got simulatedRun
	if bad := json.Unmarshal(out, &got); bad != nil || len(got) == 0 {
		return nil, fmt.Errorf("%v printed no figures: %w", cmd.Args, err)
	}
	return got, nil
}

// find gives the figure whose words begin so.
func (r simulatedRun) find(words string) (simulated, error) {
	i := slices.IndexFunc(r, func(s simulated) bool { return len(s.Figure) >= len(words) && s.Figure[:len(words)] == words })
	if i < 0 {
		return simulated{}, fmt.Errorf("scenario %s has no figure %q", r[0].Scenario, words)
	}
	return r[i], nil
}

// all takes the values of all seeds.
func (r simulatedRun) all(f *Figure, scale float64, words string) error {
	s, err := r.find(words)
	for _, v := range s.Values {
		f.Ours.add(scale * v)
	}
	return err
}

// one takes the value over all seeds.
func (r simulatedRun) one(f *Figure, scale float64, words string) error {
	s, err := r.find(words)
	if err != nil {
		return err
	}
	if s.Value == nil || math.IsNaN(*s.Value) {
		return fmt.Errorf("scenario %s: %s has no value", s.Scenario, s.Figure)
	}
	f.Ours.add(scale * *s.Value)
	return nil
}

// Command accept replays acceptance tests of the catalogue on one real town
// and writes out/accept.md and out/accept.json. It exits 1 when a test fails
// or is worse than the trial was. Start reading at stages.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"komainu/tools/tally/report"
	"komainu/tools/town"
)

// stage is a piece of work on the town that serves some rows of the catalogue.
// Each begins and ends with the group at the data centre and all lines whole.
type stage struct {
	name string
	ids  []string
	play func(ctx context.Context, r *run) error
	// bound is how long it may take; 0: stageBound.
	bound time.Duration
}

// stages in the order in which they are played: quiet ones first.
var stages = []stage{
	{"locked, switch there and back", []string{"AT-4", "AT-5", "AT-6", "AT-11", "AT-12", "AT-48", "AT-52", "AT-96", "AT-97", "AT-104"}, switches, 0},
	{"time", []string{"AT-172"}, timeServed, 0},
	{"rows", []string{"AT-32", "AT-33", "AT-34", "AT-35", "AT-36", "AT-37", "AT-38", "AT-39"}, rows, 0},
	{"cut inside a run", []string{"AT-40", "AT-62"}, cutInside, 0},
	{"interface disabled", []string{"AT-112"}, interfaceDisabled, 0},
	{"loss of site A", []string{"AT-68", "AT-70", "AT-92", "AT-93"}, lossOfSite, 0},
	{"gap", []string{"AT-18"}, gap, 0},
	{"network", []string{"AT-140", "AT-143", "AT-144", "AT-170", "AT-176", "AT-177", "AT-179"}, network, netBound},
	{"closed line", []string{"AT-21", "AT-22", "AT-23", "AT-24", "AT-25", "AT-26", "AT-168", "AT-169", "AT-171", "AT-173", "AT-174", "AT-175", "AT-178", "AT-181", "AT-182", "AT-185"}, closedLine, lineBound},
	{"image", []string{"AT-107", "AT-108", "AT-109", "AT-110", "AT-111"}, image, imageBound},
}

// stageBound is how long a stage may take; the slowest needs half a minute.
const stageBound = 6 * time.Minute

func main() {
	out := flag.String("out", "out", "`DIR` for accept.md and accept.json")
	only := flag.String("only", "", "play the stages of these rows only, `ID,...`")
	keep := flag.Bool("keep", false, "keep the town's files")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := accept(ctx, *out, *only, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "accept:", err)
		os.Exit(1)
	}
}

func accept(ctx context.Context, out, only string, keep bool) error {
	began := time.Now()
	chosen := choose(only)
	r := &run{results: map[string]result{}}
	err := playAll(ctx, r, chosen, keep)
	all := table(r.results)
	if only == "" { // a part would overwrite the whole
		err = errors.Join(err, write(out, all))
	}
	passed, failed := 0, 0
	for _, x := range r.results {
		if x.Verdict == pass {
			passed++
		} else {
			failed++
		}
	}
	fmt.Printf("%d passed, %d failed, %d not yet served, in %v\n", passed, failed, count(all, notYet), time.Since(began).Round(time.Second))
	if only == "" {
		err = errors.Join(err, report.Total{Passed: passed, Failed: failed}.AppendTo(filepath.Join(out, "tally")))
	}
	if failed > 0 {
		err = errors.Join(err, fmt.Errorf("%d rows failed, see above", failed))
	}
	return err
}

func choose(only string) []stage {
	if only == "" {
		return stages
	}
	var out []stage
	for _, s := range stages {
		for _, id := range s.ids {
			if strings.Contains(","+only+",", ","+id+",") {
				out = append(out, s)
				break
			}
		}
	}
	return out
}

// playAll plays the stages on one town; what a stage leaves unsaid has failed.
func playAll(ctx context.Context, r *run, chosen []stage, keep bool) (err error) {
	r.World, err = town.Build(ctx, town.Options{Name: "accept", Seed: 1, Keep: keep, Settings: town.Settings{Time: true}})
	if err == nil {
		defer func() { err = errors.Join(err, r.Close()) }()
		if keep {
			fmt.Println("files:", r.Dir)
		}
		err = r.prepare(ctx)
	}
	for _, s := range chosen {
		why := err
		begin := time.Now()
		if why == nil {
			why = play(ctx, r, s)
		}
		for _, id := range s.ids {
			if _, ok := r.results[id]; !ok {
				r.row(id, s.name, fmt.Sprint("not reached: ", why), false)
			}
		}
		if why != nil {
			fmt.Printf("stage %q after %v: %v\n", s.name, time.Since(begin).Round(time.Millisecond), why)
		}
		for _, id := range s.ids {
			x := r.results[id]
			fmt.Printf("%-6s %-4s %s: %s (trial: %s)\n", id, x.Verdict, x.Done, x.Ours, x.Trial)
		}
	}
	return err
}

func play(ctx context.Context, r *run, s stage) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(s.bound, stageBound))
	defer cancel()
	err := s.play(ctx, r)
	if err != nil {
		err = errors.Join(err, r.describe(ctx))
	}
	// The next one begins at the data centre, whatever happened.
	return errors.Join(err, r.home(ctx))
}

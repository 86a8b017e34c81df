// Command clocksim runs the time daemon's decisions against simulated
// oscillators, networks and servers, and judges them by the true time that only
// a simulation knows. It touches no clock and no socket. Scenarios are text
// files, `clocksim -language` tells what they may say; the shipped ones are named
// without path and ending. Start reading at world.run; then kernel.go
// (the clocks), network.go and oscillator.go (what a seed decides), metric.go.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"text/tabwriter"

	"komainu/ntp/timer"
)

func main() {
	var o options
	flag.Uint64Var(&o.seed, "seed", 1, "the first seed")
	flag.IntVar(&o.seeds, "seeds", 1, "how many seeds")
	flag.BoolVar(&o.verbose, "v", false, "every figure of every run; with -log Ticks, Wakes and Queries too")
	flag.BoolVar(&o.log, "log", false, "transcript: true time, true error of the wall clock, event or action")
	flag.BoolVar(&o.json, "json", false, "print the figures as JSON")
	flag.StringVar(&o.trace, "trace", "", "take frequency and delays from this folder")
	flag.StringVar(&o.write, "write-trace", "", "write frequency and delays into this folder")
	flag.StringVar(&o.plot, "plot", "", "draw true error and root distance of the first run into this SVG file")
	help := flag.Bool("language", false, "print what a scenario may say")
	flag.Usage = func() {
		fmt.Fprintf(os.Stderr, "clocksim [flags] SCENARIO...   (a path, or one of: %s; all: every one)\n", strings.Join(names(), " "))
		flag.PrintDefaults()
	}
	flag.Parse()
	if *help {
		fmt.Printf("%s\nMetrics:\n%s", strings.TrimSpace(language), metricHelp())
		return
	}
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	debug.SetGCPercent(400) // worlds are short-lived
	scenarios := flag.Args()
	if len(scenarios) == 1 && scenarios[0] == "all" {
		scenarios = names()
	}
	if err := o.all(os.Stdout, scenarios); err != nil {
		fmt.Fprintln(os.Stderr, "clocksim:", err)
		os.Exit(1)
	}
}

// realTimer is what the time daemon runs.
func realTimer(s timer.Spec) stepper { return timer.New(s) }

// options of the command line.
type options struct {
	seed               uint64
	seeds              int
	verbose, log, json bool
	trace, write, plot string
}

func (o *options) all(out io.Writer, scenarios []string) error {
	var errs []error
	var report []summary
	for _, name := range scenarios {
		sc, err := load(name)
		if err != nil {
			return err
		}
		if o.trace != "" {
			sc.trace = o.trace
		}
		s, err := o.play(out, sc)
		if err != nil {
			errs = append(errs, err)
		}
		report = append(report, s...)
	}
	if o.json {
		text, err := json.MarshalIndent(report, "", "  ")
		fmt.Fprintln(out, string(text))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// summary is a figure for programs.
type summary struct {
	Scenario string    `json:"scenario"`
	Figure   string    `json:"figure"` // the words after expect or report
	Values   []float64 `json:"values"` // of the runs, in the order of the seeds; seconds, shares, 1e-6 or counts
	Value    *float64  `json:"value"`  // over all runs, median unless the figure says otherwise; null: there is none
	Holds    bool      `json:"holds"`
}

// play runs a scenario with every seed.
func (o *options) play(out io.Writer, sc *scenario) ([]summary, error) {
	var results []*result
	for _, e := range sc.expects {
		results = append(results, &result{expect: e})
	}
	var errs []error
	for i := range o.seeds {
		seed := o.seed + uint64(i)
		if o.write != "" {
			dir := o.write
			if o.seeds > 1 {
				dir = filepath.Join(dir, fmt.Sprint(seed))
			}
			if err := writeTrace(sc, seed, dir); err != nil {
				return nil, err
			}
		}
		w, err := newWorld(sc, seed, realTimer)
		if err != nil {
			return nil, err
		}
		if o.log {
			w.log, w.chat = out, o.verbose
		}
		if err := w.run(); err != nil {
			errs = append(errs, fmt.Errorf("%s seed %d: %w", sc.name, seed, err))
		}
		line, err := judge(seed, &w.rec, results, o.verbose)
		if err != nil {
			return nil, err
		}
		if !o.json {
			fmt.Fprintf(out, "%s seed %d: %s\n", sc.name, seed, line)
		}
		if o.plot != "" && i == 0 {
			if err := plot(o.plot, sc, w.rec.points); err != nil {
				return nil, err
			}
		}
	}
	for _, r := range results {
		if !r.holds() {
			errs = append(errs, fmt.Errorf("%s: %s: it is %s%s", sc.name, r.text, r.metric.show(r.value()), seedList(r.bad)))
		}
	}
	if !o.json {
		if err := table(out, sc, results); err != nil {
			return nil, err
		}
		return nil, errors.Join(errs...)
	}
	return summaries(sc, results), errors.Join(errs...)
}

// judge takes a run into the figures and tells of it in one line.
func judge(seed uint64, rec *recorder, results []*result, verbose bool) (string, error) {
	word, more := "ok", ""
	for _, r := range results {
		ok, err := r.add(seed, rec)
		if err != nil {
			return "", err
		}
		if !ok {
			word = "FAIL"
		}
		if !ok || verbose {
			more += fmt.Sprintf("; %s: %s", r.text, r.metric.show(r.values[len(r.values)-1]))
		}
	}
	return word + more, nil
}

func seedList(seeds []uint64) string {
	if len(seeds) == 0 {
		return ""
	}
	return fmt.Sprintf(" over all; not with %d seeds, the first: %v", len(seeds), seeds[:min(10, len(seeds))])
}

// table prints the figures for people.
func table(out io.Writer, sc *scenario, results []*result) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\n%s: %s\n\nfigure\tmin\tmedian\tmax\tover all\t\n", sc.name, sc.title)
	for _, r := range results {
		v := r.values
		lo, hi := v[0], v[0]
		for _, x := range v {
			lo, hi = min(lo, x), max(hi, x)
		}
		all, mark := "", ""
		if r.over != "each" {
			all = r.metric.show(r.value())
		}
		if !r.holds() {
			mark = "MISSED"
		}
		middle := *r
		middle.expect = &expect{over: "median"}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", r.text, r.metric.show(lo), r.metric.show(middle.value()), r.metric.show(hi), all, mark)
	}
	fmt.Fprintln(t)
	return t.Flush()
}

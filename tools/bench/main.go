// Command bench measures what a town hall feels when its data centre goes and
// comes back, with real parts, beside the peers in the same run, what its time
// server costs, what its image weighs, how it takes a change of its network, and
// what its closed line carries. It prints a table and writes
// out/bench/failover.json, ntp.json, box.json, net.json and line.json. A missed goal is printed and is no failure; a figure that could not be
// measured is. Start reading at parts.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// bench is one run.
type bench struct {
	runs    int           // of every figure
	flaps   time.Duration // of the false switches, in all
	program string        // of the agents; empty: out/komainu
	trace   bool          // print the journals of every round
	begin   time.Time
	load    string // of the machine at the beginning
	figures []*Figure
	file    string // of the part that runs
}

// part measures some figures that share their set-up.
type part struct {
	name string
	run  func(*bench, context.Context) error
	file string // of its figures, beside the one that -o names; empty: that one
}

// parts in the order of the run; one town at a time.
var parts = []part{
	{"outage", (*bench).outage, ""},
	{"fast", (*bench).fast, ""},
	{"blocked", (*bench).blocked, ""},
	{"boot", (*bench).boot, ""},
	{"one-line", (*bench).oneLine, ""},
	{"flaps", (*bench).falseSwitches, ""},
	{"idle", (*bench).idle, ""},
	{"wal", (*bench).wal, ""},
	{"sim", (*bench).sim, ""},
	{"ntp", (*bench).ntp, "ntp.json"},
	{"clock", (*bench).clock, "ntp.json"},
	{"image", (*bench).image, "box.json"},
	{"broken", (*bench).broken, "box.json"},
	{"kills", (*bench).kills, "box.json"},
	{"net", (*bench).net, "net.json"},
	{"console", (*bench).console, "net.json"},
	{"line", (*bench).line, "line.json"},
	{"halls", (*bench).halls, "line.json"},
}

func main() {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	b := &bench{begin: time.Now(), load: load()}
	flag.IntVar(&b.runs, "n", 10, "runs of every figure")
	flag.DurationVar(&b.flaps, "flaps", 2*time.Minute, "how long to disturb the lines in search of false switches")
	flag.BoolVar(&b.trace, "v", false, "print what the agents wrote down in every round, with the time since its cut or order")
	flag.StringVar(&b.program, "program", "", "the built program (default out/komainu)")
	quick := flag.Bool("quick", false, "three runs of everything, to see that it works")
	only := flag.String("only", "", "comma-separated parts: "+strings.Join(names, ", "))
	to := flag.String("o", filepath.Join("out", "bench", "failover.json"), "where the figures go")
	flag.Parse()
	if *quick {
		b.runs, b.flaps = 3, 15*time.Second
	}
	wanted := names
	if *only != "" {
		wanted = strings.Split(*only, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.measure(ctx, wanted, *to); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) measure(ctx context.Context, wanted []string, to string) error {
	var errs []error
	for _, p := range parts {
		if !slices.Contains(wanted, p.name) || ctx.Err() != nil {
			continue
		}
		fmt.Fprintf(os.Stderr, "%6.1f s  part %s\n", time.Since(b.begin).Seconds(), p.name)
		b.file = p.file
		if err := p.run(b, ctx); err != nil {
			errs = append(errs, fmt.Errorf("part %s: %w", p.name, err))
		}
	}
	for _, f := range b.figures {
		f.judge()
		if f.Verdict == failed {
			errs = append(errs, fmt.Errorf("%s: nothing measured", f.Name))
		}
	}
	if err := table(os.Stdout, b.figures); err != nil {
		errs = append(errs, err)
	}
	fmt.Printf("\n%d CPUs, load of the machine %s at the beginning and %s at the end; %.0f s; written to %s\n", runtime.NumCPU(), b.load, load(), time.Since(b.begin).Seconds(), filepath.Dir(to))
	for name, figures := range byFile(b.figures, to) {
		errs = append(errs, b.write(name, figures))
	}
	return errors.Join(errs...)
}

// report is the file.
type report struct {
	Begin   time.Time `json:"begin"`
	Seconds float64   `json:"seconds"`
	Commit  string    `json:"commit"`
	CPUs    int       `json:"cpus"`
	Kernel  string    `json:"kernel"`
	Load    [2]string `json:"load"` // of the machine at the beginning and at the end: 1, 5 and 15 minutes
	Figures []*Figure `json:"figures"`
}

// byFile sorts figures by the file that they belong into.
func byFile(figures []*Figure, to string) map[string][]*Figure {
	files := map[string][]*Figure{}
	for _, f := range figures {
		name := to
		if f.file != "" {
			name = filepath.Join(filepath.Dir(to), f.file)
		}
		files[name] = append(files[name], f)
	}
	return files
}

func (b *bench) write(to string, figures []*Figure) error {
	r := report{Begin: b.begin, Seconds: time.Since(b.begin).Seconds(), CPUs: runtime.NumCPU(), Figures: figures}
	// What can't be found out stays empty; the figures are what counts.
	if out, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		r.Commit = strings.TrimSpace(string(out))
	}
	if v, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		r.Kernel = strings.TrimSpace(string(v))
	}
	r.Load = [2]string{b.load, load()}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, append(text, '\n'), 0o644)
}

// load is the machine's, other people's work included; empty if unknown.
func load() string {
	v, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(string(v))[:3], " ")
}

// figure adds a line to the report.
func (b *bench) figure(f Figure) *Figure {
	f.Ours.System, f.file = "komainu", b.file
	b.figures = append(b.figures, &f)
	return &f
}

// progress says on the terminal how a round went.
func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1f s    %s\n", time.Since(b.begin).Seconds(), fmt.Sprintf(format, args...))
}

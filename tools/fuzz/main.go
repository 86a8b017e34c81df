// Command fuzz runs every fuzz target of the packages named, one after the
// other, and says what each did. An input that fails is kept where go test puts
// it, below the package's testdata/fuzz: committed with the cure, it is a
// regression test from then on.
//
//	go run ./tools/fuzz [-time 10m | -inputs N] [-to FILE] [PACKAGE...]
//
// Start reading at run; targets.go finds them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"time"

	"golang.org/x/sys/unix"

	"komainu/tools/tally/report"
)

func main() {
	each := budget{}
	flag.DurationVar(&each.time, "time", 10*time.Minute, "fuzz each target for so long")
	flag.IntVar(&each.inputs, "inputs", 0, "or with so many inputs, however long that takes")
	to := flag.String("to", "", "append the count, as \"passed failed skipped\", to this file")
	flag.Parse()
	patterns := flag.Args()
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	total, err := run(ctx, os.Stdout, ".", each, patterns)
	if err == nil && *to != "" {
		err = total.AppendTo(*to)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
	fmt.Println(total)
	if !total.OK() {
		os.Exit(1)
	}
}

// run fuzzes all targets below dir; an error if there are none, or if ctx ended.
func run(ctx context.Context, out io.Writer, dir string, each budget, patterns []string) (report.Total, error) {
	var total report.Total
	all, err := targets(ctx, dir, patterns)
	if err != nil {
		return total, err
	}
	if len(all) == 0 {
		return total, fmt.Errorf("no fuzz target in %q", patterns)
	}
	for _, t := range all {
		said, err := t.fuzz(ctx, dir, each)
		figures := summary(said)
		if ctx.Err() != nil {
			return total, fmt.Errorf("stopped at %s", t)
		}
		if err == nil && figures == "" {
			err = errors.New("go test fuzzed nothing")
		}
		total.Packages++
		if err != nil {
			total.Failed++
			fmt.Fprintf(out, "FAIL\t%s: %v\n%s", t, err, said)
			continue
		}
		total.Passed++
		fmt.Fprintf(out, "ok  \t%s\t%s\n", t, figures)
	}
	return total, nil
}

// budget is how much of each target: a time or, where the result must not
// depend on the machine's speed, a number of inputs.
type budget struct {
	time   time.Duration
	inputs int // 0: by time
}

// String is go test's -fuzztime.
func (b budget) String() string {
	if b.inputs > 0 {
		return fmt.Sprintf("%dx", b.inputs)
	}
	return b.time.String()
}

// overtime is for the build, and for an input that takes long.
const overtime = 5 * time.Minute

// fuzz runs one target and returns what go test says.
func (t target) fuzz(ctx context.Context, dir string, each budget) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, each.time+overtime)
	defer cancel()
	c := exec.CommandContext(ctx, "go", "test", "-run=^$", "-fuzz=^"+t.name+"$", "-fuzztime="+each.String(), t.pkg)
	c.Dir = dir
	// The workers are children of its children.
	c.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return unix.Kill(-c.Process.Pid, unix.SIGKILL) }
	c.WaitDelay = 10 * time.Second
	said, err := c.CombinedOutput()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("not done after %v", each.time+overtime)
	}
	return said, err
}

var progress = regexp.MustCompile(`execs: (\d+) .*new interesting: (\d+)`)

// summary is go test's last figures; empty: it told none.
func summary(said []byte) string {
	all := progress.FindAllSubmatch(said, -1)
	if len(all) == 0 {
		return ""
	}
	last := all[len(all)-1]
	return fmt.Sprintf("%s inputs, %s of new interest", last[1], last[2])
}

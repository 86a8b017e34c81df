// Package report understands the text that `go test -v` and a test binary
// with -test.v print: it counts tests and keeps a passing package's talk back.
package report

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Total counts top-level tests, and what failed outside of a test: a package
// that did not build, panicked or ran out of time.
type Total struct {
	Passed, Failed, Skipped int
	Packages                int // result lines seen
	Broken                  int // packages that failed without a failed test of their own
}

// OK says that at least one package reported and nothing failed.
func (t Total) OK() bool { return t.Packages > 0 && t.Failed == 0 && t.Broken == 0 }

func (t Total) String() string {
	s := fmt.Sprintf("%d passed, %d failed", t.Passed, t.Failed+t.Broken)
	if t.Skipped > 0 {
		s += fmt.Sprintf(", %d skipped", t.Skipped)
	}
	return s
}

// AppendTo adds the line "passed failed skipped" to a file, which it creates
// with its folder if need be; make test sums the lines of its stages.
func (t Total) AppendTo(name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("folder for the count: %w", err)
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("count: %w", err)
	}
	_, err = fmt.Fprintln(f, t.Passed, t.Failed+t.Broken, t.Skipped)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write the count: %w", err)
	}
	return nil
}

// Test counts one line of a test binary's output and says whether it was the
// verdict of a top-level test.
func (t *Total) Test(line string) bool {
	switch {
	case strings.HasPrefix(line, "--- PASS: "):
		t.Passed++
	case strings.HasPrefix(line, "--- FAIL: "):
		t.Failed++
	case strings.HasPrefix(line, "--- SKIP: "):
		t.Skipped++
	default:
		return false
	}
	return true
}

// Copy reads the whole of `go test -v` for any number of packages. Of each
// package it writes the result line alone,
// and all of its output if it failed.
func Copy(w io.Writer, r io.Reader) (Total, error) {
	var total Total
	var said []string // by the package whose result line has not come yet
	failed := 0
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<24)
	for in.Scan() {
		line := in.Text()
		total.Test(line)
		switch name, _, _ := strings.Cut(line, "\t"); name {
		case "ok  ", "?   ":
			total.Packages++
			fmt.Fprintln(w, line)
			said, failed = nil, total.Failed
		case "FAIL":
			if line == "FAIL" { // the test binary's own word, or the end of a run
				said = append(said, line)
				continue
			}
			total.Packages++
			if total.Failed == failed {
				total.Broken++
			}
			for _, s := range said {
				fmt.Fprintln(w, s)
			}
			fmt.Fprintln(w, line)
			said, failed = nil, total.Failed
		default:
			if strings.HasPrefix(line, "\t") && strings.Contains(line, "coverage:") {
				continue // a package without tests, under -cover
			}
			said = append(said, line)
		}
	}
	if err := in.Err(); err != nil {
		return total, fmt.Errorf("read test output: %w", err)
	}
	for _, s := range said { // the end of a run, or a build that failed before any package
		fmt.Fprintln(w, s)
	}
	return total, nil
}

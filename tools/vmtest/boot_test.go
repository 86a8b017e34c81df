package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"komainu/tools/tally/report"
	"komainu/tools/vmtest/job"
)

// stream is what a guest would send: text is output, an Event an event.
func stream(t *testing.T, parts ...any) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b.WriteString(p)
		case job.Event:
			if err := p.Write(&b); err != nil {
				t.Fatal(err)
			}
		}
	}
	return &b
}

func TestTranslate(t *testing.T) {
	const pass, fail = "--- PASS: TestA (0.00s)\n", "--- FAIL: TestB (0.00s)\n"
	for _, c := range []struct {
		name string
		in   *bytes.Buffer
		want string
		done bool
		fail string // in the error
		ok   bool   // of the report
	}{
		{"passed", stream(t, job.Event{Kind: "begin", Package: "a"}, pass, "\nPASS\n",
			job.Event{Kind: "end", Package: "a", Seconds: 1.5}, job.Event{Kind: "done"}),
			pass + "\nPASS\nok  \ta\t1.500s\n", true, "", true},
		{"failed", stream(t, job.Event{Kind: "begin", Package: "a"}, fail, "no end of line",
			job.Event{Kind: "end", Package: "a", Seconds: 1, Exit: "exit status 1"}, job.Event{Kind: "done"}),
			fail + "no end of line\nexit status 1\nFAIL\ta\t1.000s\n", true, "", false},
		{"panicked kernel", stream(t, job.Event{Kind: "begin", Package: "a"}, pass),
			pass + "FAIL\ta\t[the virtual machine ended]\n", false, "", false},
		{"broken guest", stream(t, job.Event{Kind: "error", Text: "no such module"}),
			"", false, "no such module", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			done, err := translate(&out, c.in)
			if done != c.done || fmt.Sprint(err) == "<nil>" != (c.fail == "") || !strings.Contains(fmt.Sprint(err), c.fail) {
				t.Errorf("done %v, error %v", done, err)
			}
			if diff := cmp.Diff(c.want, out.String()); diff != "" {
				t.Error(diff)
			}
			total, err := report.Copy(&bytes.Buffer{}, &out)
			if err != nil || total.OK() != c.ok {
				t.Errorf("counted as %+v, %v", total, err)
			}
		})
	}
}

func TestSweepTakesOnlyTheDead(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, fmt.Sprintf("run-%d-1", os.Getpid()))
	dead := filepath.Join(dir, "run-4194305-1") // above the kernel's largest pid
	for _, name := range []string{mine, dead} {
		if err := os.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := sweep(dir); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{mine}, left); diff != "" {
		t.Error(diff)
	}
}

// The list of modules must not name one twice or out of order.
func TestModuleListIsSorted(t *testing.T) {
	last := ""
	for line := range strings.Lines(moduleList) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if line <= last {
			t.Errorf("%s comes after %s", line, last)
		}
		last = line
	}
}

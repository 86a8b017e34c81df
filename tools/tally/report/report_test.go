package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCopy(t *testing.T) {
	in := strings.Join([]string{
		"=== RUN   TestA", "--- PASS: TestA (0.00s)", "PASS", "ok  \tkomainu/a\t0.005s",
		"?   \tkomainu/none\t[no test files]",
		"=== RUN   TestB", "    b_test.go:7: 3 rows, 4 expected", "--- FAIL: TestB (0.01s)",
		"=== RUN   TestC", "    b_test.go:9: not root", "--- SKIP: TestC (0.00s)",
		"FAIL", "FAIL\tkomainu/b\t0.010s",
		"# komainu/c", "c/c.go:3: syntax error", "FAIL\tkomainu/c [build failed]",
		"FAIL",
	}, "\n")
	want := strings.Join([]string{
		"ok  \tkomainu/a\t0.005s",
		"?   \tkomainu/none\t[no test files]",
		"=== RUN   TestB", "    b_test.go:7: 3 rows, 4 expected", "--- FAIL: TestB (0.01s)",
		"=== RUN   TestC", "    b_test.go:9: not root", "--- SKIP: TestC (0.00s)",
		"FAIL", "FAIL\tkomainu/b\t0.010s",
		"# komainu/c", "c/c.go:3: syntax error", "FAIL\tkomainu/c [build failed]",
		"FAIL", "",
	}, "\n")
	var out strings.Builder
	total, err := Copy(&out, strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Total{Passed: 1, Failed: 1, Skipped: 1, Packages: 4, Broken: 1}, total); diff != "" {
		t.Error(diff)
	}
	if total.OK() {
		t.Error("a run with failures is OK")
	}
}

func TestNothingIsNotOK(t *testing.T) {
	total, err := Copy(&strings.Builder{}, strings.NewReader("go: no such package\n"))
	if err != nil || total.OK() {
		t.Errorf("%v, %v", total, err)
	}
}

func TestAppendTo(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out", "tally")
	for _, total := range []Total{{Passed: 3}, {Passed: 1, Failed: 1, Broken: 1, Skipped: 2}} {
		if err := total.AppendTo(name); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil || string(got) != "3 0 0\n1 2 2\n" {
		t.Errorf("%q, %v", got, err)
	}
}

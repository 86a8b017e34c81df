package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What comes from the network or from a person's file is fuzzed.
func TestTargets(t *testing.T) {
	all, err := targets(t.Context(), "../..", []string{"./..."})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []target{
		{"komainu/appliance/config", "FuzzParse"},
		{"komainu/ntp/keys", "FuzzParse"},
		{"komainu/ntp/leap", "FuzzParse"},
		{"komainu/ntp/nts", "FuzzKERecords"},
		{"komainu/ntp/packet", "FuzzSplit"},
		{"komainu/ntp/server", "FuzzRespond"},
	} {
		if !slices.Contains(all, want) {
			t.Errorf("%s isn't found", want)
		}
	}
	if slices.ContainsFunc(all, func(x target) bool { return x.pkg == "komainu/tools/fuzz" }) {
		t.Error("the example below is taken for a target")
	}
	if !slices.IsSortedFunc(all, func(a, b target) int { return strings.Compare(a.String(), b.String()) }) {
		t.Errorf("not sorted: %v", all)
	}
}

// One target finds nothing, the other at once; the input that fails is kept.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and fuzzes a module")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example\n\ngo 1.26\n",
		"example_test.go": `package example

import "testing"

func FuzzBad(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 2 {
			t.Error("too long")
		}
	})
}

func FuzzGood(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {})
}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	total, err := run(t.Context(), &out, dir, budget{inputs: 20000}, []string{"./..."})
	if err != nil || total.Passed != 1 || total.Failed != 1 || total.OK() {
		t.Errorf("%v, %v", total, err)
	}
	for _, want := range []string{"FAIL\texample FuzzBad: ", "too long", "ok  \texample FuzzGood\t", " of new interest"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q isn't in what it says:\n%s", want, out.String())
		}
	}
	kept, err := filepath.Glob(filepath.Join(dir, "testdata", "fuzz", "FuzzBad", "*"))
	if err != nil || len(kept) != 1 {
		t.Errorf("kept %q, %v", kept, err)
	}
}

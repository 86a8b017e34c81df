package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"komainu/drivers/files"
	"komainu/tools/accept/catalogue"
)

type verdict string

const (
	pass    verdict = "pass"
	fail    verdict = "fail"
	notYet  verdict = "not yet"
	outside verdict = "outside" // belongs to the application product
)

// result is one row of the report.
type result struct {
	ID      string  `json:"id"`
	Meaning string  `json:"meaning"`
	Done    string  `json:"done,omitempty"`
	Trial   string  `json:"trial"`
	Ours    string  `json:"ours,omitempty"`
	Verdict verdict `json:"verdict"`
}

// table is every acceptance test of the catalogue, those that were played with
// what they gave.
func table(played map[string]result) []result {
	var out []result
	for _, c := range catalogue.Group("AT") {
		x, ok := played[c.ID]
		if !ok {
			x = result{Verdict: notYet}
			if c.Tag == catalogue.Product {
				x.Verdict = outside
			}
		}
		x.ID, x.Meaning, x.Trial = c.ID, c.Meaning, c.Benchmark
		out = append(out, x)
	}
	return out
}

func count(all []result, v verdict) int {
	n := 0
	for _, x := range all {
		if x.Verdict == v {
			n++
		}
	}
	return n
}

// write puts accept.md and accept.json into dir, which it makes.
func write(dir string, all []result) error {
	j, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("acceptance report: %w", err)
	}
	for name, b := range map[string][]byte{"accept.json": append(j, '\n'), "accept.md": markdown(all)} {
		if err := files.Replace(filepath.Join(dir, name), b, 0o644); err != nil {
			return fmt.Errorf("acceptance report: %w", err)
		}
	}
	return nil
}

func markdown(all []result) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Acceptance run\n\n%d pass, %d fail, %d not yet, %d outside (of the application product).\n\n",
		count(all, pass), count(all, fail), count(all, notYet), count(all, outside))
	fmt.Fprintln(&b, "| ID | test | what was done | the trial's figure | ours | |\n|---|---|---|---|---|---|")
	for _, x := range all {
		cells := []string{x.ID, x.Meaning, x.Done, x.Trial, x.Ours, string(x.Verdict)}
		for i, c := range cells {
			cells[i] = strings.NewReplacer("|", `\|`, "\n", " ").Replace(c)
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	return b.Bytes()
}

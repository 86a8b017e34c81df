package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"komainu/tools/accept/catalogue"
)

func TestEveryRowOnce(t *testing.T) {
	seen := map[string]string{}
	for _, s := range stages {
		for _, id := range s.ids {
			if other, ok := seen[id]; ok {
				t.Errorf("%s is served by %q and by %q", id, s.name, other)
			}
			seen[id] = s.name
			if r, ok := catalogue.Lookup(id); !ok || r.Tag == catalogue.Product {
				t.Errorf("%s (%q) is no test of ours: %+v", id, s.name, r)
			}
		}
	}
}

func TestReport(t *testing.T) {
	r := &run{results: map[string]result{}}
	r.row("AT-5", "one | command", "106ms", true)
	r.row("AT-6", "another", "2s", false)
	all := table(r.results)
	if len(all) != len(catalogue.Group("AT")) || count(all, pass) != 1 || count(all, fail) != 1 || count(all, outside) == 0 {
		t.Fatalf("%d rows, %d pass, %d fail, %d outside", len(all), count(all, pass), count(all, fail), count(all, outside))
	}
	dir := t.TempDir()
	if err := write(dir, all); err != nil {
		t.Fatal(err)
	}
	md, err := os.ReadFile(filepath.Join(dir, "accept.md"))
	if err != nil || !strings.Contains(string(md), `| AT-5 | One operation makes the standby usable | one \| command | <= 1 s | 106ms | pass |`) {
		t.Errorf("%v:\n%.600s", err, md)
	}
	var back []result
	j, err := os.ReadFile(filepath.Join(dir, "accept.json"))
	if err != nil || json.Unmarshal(j, &back) != nil || len(back) != len(all) {
		t.Errorf("accept.json: %v, %d rows", err, len(back))
	}
}

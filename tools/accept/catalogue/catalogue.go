// Package catalogue is the table behind every ID such as AT-62, DEG-22 or
// PRB-3 in this tree: what the requirement documents ask for, in one short
// English phrase, and for acceptance tests the trial's figure. It judges
// nothing; tools/accept does. The table is catalogue.tsv.
package catalogue

import (
	_ "embed" // the table
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed catalogue.tsv
var tsv string

// Tag says what an acceptance test needs.
type Tag string

// The tags, as the catalogue prints them.
const (
	Native  Tag = "N" // the appliance alone
	Standby Tag = "S" // the standby database or the degraded host
	Path    Tag = "P" // a workload or a stand-in driven through the appliance
	Product Tag = "X" // belongs to the application product; listed for completeness
)

// Row is one requirement, fact, problem or acceptance test.
type Row struct {
	ID        string
	Meaning   string
	Benchmark string // acceptance tests only: the trial's figure or pass condition, to meet or beat
	Tag       Tag    // acceptance tests only; empty otherwise
}

// Group is the letters of the ID: "AT" of AT-62.
func (r Row) Group() string { group, _, _ := strings.Cut(r.ID, "-"); return group }

var table = sync.OnceValue(func() map[string]Row {
	rows := make(map[string]Row)
	for n, line := range strings.Split(strings.TrimSuffix(tsv, "\n"), "\n") {
		f := strings.Split(line, "\t")
		if len(f) != 4 {
			panic(fmt.Sprintf("catalogue.tsv:%d: %d fields, 4 expected", n+1, len(f)))
		}
		if n > 0 {
			rows[f[0]] = Row{ID: f[0], Meaning: f[1], Benchmark: f[2], Tag: Tag(f[3])}
		}
	}
	return rows
})

// Lookup finds the row of an ID such as "AT-62"; false if the catalogue has none.
func Lookup(id string) (Row, bool) {
	r, ok := table()[id]
	return r, ok
}

// Group returns the rows of one group, such as "AT", in the order of their
// numbers; none for an unknown group.
func Group(name string) []Row {
	var rows []Row
	for _, r := range table() {
		if r.Group() == name {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b Row) int { return number(a.ID) - number(b.ID) })
	return rows
}

// Groups returns the letters of all groups, sorted.
func Groups() []string {
	names := make(map[string]bool)
	for _, r := range table() {
		names[r.Group()] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// number is the numeric part of an ID; the table's test proves that it has one.
func number(id string) int {
	_, digits, _ := strings.Cut(id, "-")
	n, err := strconv.Atoi(digits)
	if err != nil {
		panic("catalogue: " + id + " has no number")
	}
	return n
}

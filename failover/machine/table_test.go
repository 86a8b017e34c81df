package machine

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"komainu/failover/standby"
	"komainu/ntp/instant"
)

var update = flag.Bool("update", false, "write TABLE.md anew")

// TestTable keeps TABLE.md, the tables as people read them, equal to the code.
func TestTable(t *testing.T) {
	got := render()
	if *update {
		if err := os.WriteFile("TABLE.md", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("TABLE.md")
	if err != nil || string(want) != got {
		t.Errorf("TABLE.md differs from the tables (%v): go test ./failover/machine -run TestTable -update", err)
	}
}

// TestEveryPhaseHasItsRows: each phase can be reached and left, and wants something.
func TestEveryPhaseHasItsRows(t *testing.T) {
	left, reached := map[Phase]bool{}, map[Phase]bool{AtDC: true, Fencing: true, Rejoining: true} // the last two by order
	for _, r := range hallRows {
		reached[r.To] = true
		for _, p := range r.From {
			left[p] = true
		}
	}
	for p := range phases {
		if !left[p] || !reached[p] {
			t.Errorf("%s: left %v, reached %v", p, left[p], reached[p])
		}
		if w := hallWant(p); w.Role == standby.Unknown {
			t.Errorf("%s wants no role of the local server", p)
		}
		if p.String() == "" || strings.HasPrefix(p.String(), "unknown") {
			t.Errorf("phase %d has no name", p)
		}
	}
	dcLeft, dcReached := map[DCPhase]bool{}, map[DCPhase]bool{Closed: true, Keeping: true} // by boot, by order
	for _, r := range dcRows {
		dcReached[r.To] = true
		for _, p := range r.From {
			dcLeft[p] = true
		}
	}
	for p := range dcPhases {
		if !dcLeft[p] || !dcReached[p] {
			t.Errorf("%s: left %v, reached %v", p, dcLeft[p], dcReached[p])
		}
		if dcWant(p).Role == standby.Unknown {
			t.Errorf("%s wants no role of the server", p)
		}
	}
}

func hallWant(p Phase) Want {
	rec := FirstRecord("town/resident")
	rec.Phase, rec.Confirmed = p, true
	return NewHall(Policy{}, rec, 1).Want(Facts{Now: 1})
}

func dcWant(p DCPhase) DCWant {
	rec := FirstDCRecord("town/resident", "resident")
	rec.Phase = p
	return NewDatabase(false, rec, 1).Want(instant.Instant(1))
}

func render() string {
	var b strings.Builder
	b.WriteString("# The two tables\n\nMade from the code by `go test ./failover/machine -run TestTable -update`; a test keeps it so.\n\n## Town hall: what each phase wants\n\n")
	b.WriteString("| phase | mode | new clients go | local server | gate | operation | order to the DC |\n|---|---|---|---|---|---|---|\n")
	for p := range phases {
		w := hallWant(p)
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", p, p.Mode(), [...]string{"DC", "here", "nowhere", "wait parked"}[w.Target], w.Role, open(w.Gate),
			[...]string{"", "checkpoint", "drain", "open writes"}[w.Op], w.Order)
	}
	b.WriteString("\n## Town hall: moves by themselves, the first that holds\n\n| from | why | to |\n|---|---|---|\n")
	for _, r := range hallRows {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", list(r.From), r.Code, r.To)
	}
	b.WriteString("\n## Town hall: orders\n\n| order | in | may be refused | answered |\n|---|---|---|---|\n")
	for _, r := range orderRows {
		from := list(r.From)
		if len(r.From) == int(phases) {
			from = "every phase"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.Kind, from, yes(r.Refuse != nil), [...]string{"at once", "at its end"}[bit(r.Waits)])
	}
	b.WriteString("\n## Database host: what each phase wants\n\n| phase | server | gate | operation |\n|---|---|---|---|\n")
	for p := range dcPhases {
		w := dcWant(p)
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", p, w.Role, open(w.Gate), [...]string{"", "keep", "list", "rewind", "copy", "slots"}[w.Op])
	}
	b.WriteString("\n## Database host: moves by themselves, the first that holds\n\n| from | why | to |\n|---|---|---|\n")
	for _, r := range dcRows {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", list(r.From), r.Code, r.To)
	}
	b.WriteString("\n## Database host: orders\n\n| order | in | may be refused |\n|---|---|---|\n")
	for _, r := range dcOrderRows {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.Kind, list(r.From), yes(r.Refuse != nil))
	}
	return b.String()
}

func list[P fmt.Stringer](ps []P) string {
	names := make([]string, len(ps))
	for i, p := range ps {
		names[i] = p.String()
	}
	return strings.Join(names, ", ")
}

func open(is bool) string { return [...]string{"closed", "open"}[bit(is)] }

func yes(is bool) string { return [...]string{"", "yes"}[bit(is)] }

func bit(is bool) int {
	if is {
		return 1
	}
	return 0
}

package qos_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"komainu/netstack/qos"
)

func span(t *testing.T, s string) qos.Span {
	t.Helper()
	p, err := qos.ParseSpan(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func classes() []qos.Class {
	return []qos.Class{
		{Name: "heartbeat", Number: 1, Match: []qos.Match{{Proto: "udp", Port: 4795}}},
		{Name: "bulk", Number: 2, Match: []qos.Match{{Proto: "tcp", Port: 445}}},
		{Name: "rest", Number: qos.MaxClasses},
	}
}

func text(t qos.Tree) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %d bit/s overhead %d\n", t.Link, t.Kind, t.Rate, t.Overhead)
	for _, n := range t.Nodes {
		fmt.Fprintf(&b, "%04x under %04x rate %d ceil %d prio %d burst %d leaf %v %s %s\n", n.ID, n.Parent, n.Rate, n.Ceil, n.Prio, n.Burst, n.Leaf, n.Peer, n.Class)
	}
	return b.String()
}

func TestTree(t *testing.T) {
	l := qos.Line{Link: "wan", Kind: qos.HTB, Rate: 100_000_000, Overhead: 4,
		Classes: []qos.Rate{{Class: "heartbeat", Min: 1_000_000}, {Class: "bulk", Max: 384_000, Prio: 6}, {Class: "bulk", Max: 50_000_000, Prio: 6, When: span(t, "mon-fri 19:00-07:00")}},
		Shares:  []qos.Share{{Peer: "hinata-cho", Min: 10_000_000, Max: 50_000_000, Prio: 1}, {Peer: "nishi-cho", Min: 5_000_000}}}
	day := text(qos.Plan{Classes: classes(), Lines: []qos.Line{l}}.Trees(qos.Moment{Day: 2, Minute: 12 * 60})[0])
	night := text(qos.Plan{Classes: classes(), Lines: []qos.Line{l}}.Trees(qos.Moment{Day: 2, Minute: 20 * 60})[0])
	got := "by day\n" + day + "by night\n" + night
	const file = "testdata/tree.txt"
	if os.Getenv("GOLDEN") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// TestHoursGoFirst: rates with hours hold in them, wherever they stand.
func TestHoursGoFirst(t *testing.T) {
	day, night := qos.Rate{Class: "bulk", Max: 1e6}, qos.Rate{Class: "bulk", Max: 2e6, When: span(t, "daily 19:00-07:00")}
	for _, rates := range [][]qos.Rate{{day, night}, {night, day}} {
		l := qos.Line{Link: "wan", Kind: qos.HTB, Rate: 10e6, Classes: rates}
		tree := qos.Plan{Classes: classes(), Lines: []qos.Line{l}}.Trees(qos.Moment{Minute: 20 * 60})[0]
		for _, n := range tree.Nodes {
			if n.Class == "bulk" && n.Ceil != 2e6 {
				t.Errorf("bulk at night: %d bit/s", n.Ceil)
			}
		}
	}
}

// TestSlotsStay: a peer keeps its slot when others come, and no two have one.
func TestSlotsStay(t *testing.T) {
	var names []string
	for i := range 1700 {
		names = append(names, fmt.Sprintf("town-%d", i))
	}
	before, after := qos.Slots(names[:1699]), qos.Slots(names)
	moved, seen := 0, map[uint16]bool{}
	for n, s := range after {
		if s == 0 || s > 0xffe || seen[s] {
			t.Fatalf("slot %d of %s", s, n)
		}
		seen[s] = true
		if b, ok := before[n]; ok && b != s {
			moved++
		}
	}
	if moved > 3 {
		t.Errorf("%d peers moved for one more", moved)
	}
}

// TestTreesAreSound: whatever is asked, no node exceeds its parent or has no rate.
func TestTreesAreSound(t *testing.T) {
	for _, rate := range []uint64{8000, 384_000, 1_000_000, 10_000_000_000} {
		l := qos.Line{Link: "wan", Kind: qos.HTB, Rate: rate, Classes: []qos.Rate{{Class: "bulk", Min: 1 << 40, Max: 1 << 41}}, Shares: []qos.Share{{Peer: "a", Min: 1 << 40, Max: 1}, {Peer: "b"}}}
		tree := qos.Plan{Classes: classes(), Lines: []qos.Line{l}}.Trees(qos.Moment{})[0]
		nodes := map[uint16]qos.Node{}
		for _, n := range tree.Nodes {
			p, ok := nodes[n.Parent]
			if n.Parent != 0 && !ok || ok && n.Ceil > p.Ceil || n.Rate == 0 || n.Rate > n.Ceil || nodes[n.ID].ID != 0 {
				t.Errorf("at %d bit/s: %+v under %+v", rate, n, p)
			}
			nodes[n.ID] = n
		}
	}
}

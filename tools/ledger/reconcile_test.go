package ledger_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"komainu/tools/ledger"
)

func TestReconcile(t *testing.T) {
	const (
		A, D, R, T = ledger.Acknowledged, ledger.InDoubt, ledger.Refused, ledger.Attempted
	)
	for _, c := range []struct {
		name                      string
		fates                     []ledger.Fate // of 1, 2, ...
		printed, present, orphans []int64
		want                      ledger.Tally
	}{
		{"nothing", nil, nil, nil, nil, ledger.Tally{OrphanPrecision: 1, OrphanRecall: 1}},
		{"all is well", []ledger.Fate{A, A, R}, []int64{7, 8}, []int64{1, 2}, nil,
			ledger.Tally{Attempted: 3, Acknowledged: 2, Refused: 1, Present: 2, OrphanPrecision: 1, OrphanRecall: 1}},
		{"doubt resolves three ways", []ledger.Fate{D, D, D, T}, nil, []int64{1}, []int64{2},
			ledger.Tally{Attempted: 4, InDoubt: 4, Present: 1, Orphaned: 1, Absent: 2, OrphanPrecision: 1, OrphanRecall: 1}},
		{"an orphan of two is not listed", []ledger.Fate{A, A, A}, nil, []int64{1}, []int64{2},
			ledger.Tally{Attempted: 3, Acknowledged: 3, Present: 1, Orphaned: 1, Lost: []int64{3}, OrphanPrecision: 1, OrphanRecall: 0.5}},
		{"a listed row is there after all", []ledger.Fate{A, A}, nil, []int64{1}, []int64{1, 2},
			ledger.Tally{Attempted: 2, Acknowledged: 2, Present: 1, Orphaned: 1, OrphanPrecision: 0.5, OrphanRecall: 1}},
		{"a refused row lives, a stranger too", []ledger.Fate{R, R, A}, nil, []int64{1, 3, 99}, []int64{2},
			ledger.Tally{Attempted: 3, Acknowledged: 1, Refused: 2, Present: 1, Undead: []int64{1, 2}, Unknown: []int64{99}, OrphanPrecision: 0, OrphanRecall: 1}},
		{"twice", []ledger.Fate{A, A}, []int64{5, 6, 5}, []int64{1, 1, 2}, nil,
			ledger.Tally{Attempted: 2, Acknowledged: 2, Present: 2, OrphanPrecision: 1, OrphanRecall: 1,
				DuplicateNumbers: []int64{1}, DuplicateCertificates: []int64{5}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l ledger.Ledger
			for _, f := range c.fates {
				l.Conclude(l.Attempt(), f)
			}
			for _, n := range c.printed {
				l.Print(n)
			}
			got := ledger.Reconcile(l.Fates(), l.Printed(), c.present, c.orphans)
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestNumbersOf(t *testing.T) {
	got := ledger.NumbersOf([]string{
		"BEGIN 773",
		"table public.ledger: INSERT: n[bigint]:123 clerk[text]:'c1' at[timestamp with time zone]:'2011-04-01 00:00:00+00' body[text]:'x'",
		"table public.certificate: INSERT: number[bigint]:9 resident[bigint]:1",
		"table public.ledger: UPDATE: n[bigint]:5",
		"table public.ledger: INSERT: n[bigint]:4611686018427387904 clerk[text]:'n[bigint]:7'",
		"table public.ledger: INSERT: n[bigint]:none",
		"COMMIT 773",
	})
	if d := cmp.Diff([]int64{123, 4611686018427387904}, got); d != "" {
		t.Error(d)
	}
}

func TestGapsAndFirsts(t *testing.T) {
	zero := time.Unix(0, 0)
	at := func(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }
	var ops []ledger.Op
	for _, ms := range []int{0, 10, 20, 120, 130, 400} {
		ops = append(ops, ledger.Op{Kind: ledger.Search, Start: at(ms - 2), End: at(ms), OK: true})
	}
	ops = append(ops, ledger.Op{Kind: ledger.Search, Start: at(50), End: at(60)}) // failed
	for _, c := range []struct{ from, to, wantFrom, wantTo int }{
		{15, 125, 20, 120},   // inside
		{30, 40, 20, 120},    // the window lies within the gap
		{0, 25, 20, 120},     // the gap begins in the window
		{0, 1000, 400, 1000}, // nothing after: bounded by the window
		{-50, 5, -50, 0},     // nothing before
		{-500, -400, -500, 0},
	} {
		g := ledger.LongestGap(ops, at(c.from), at(c.to), ledger.GoodRead)
		if !g.From.Equal(at(c.wantFrom)) || !g.To.Equal(at(c.wantTo)) {
			t.Errorf("%d to %d: gap from %v to %v, want %d to %d", c.from, c.to, g.From.Sub(zero), g.To.Sub(zero), c.wantFrom, c.wantTo)
		}
	}
	if g := ledger.LongestGap(nil, at(0), at(9), ledger.GoodRead); g.Length() != 9*time.Millisecond {
		t.Errorf("nothing at all: %v", g.Length())
	}
	op, ok := ledger.First(ops, at(21), ledger.GoodRead)
	if !ok || !op.End.Equal(at(120)) {
		t.Errorf("first after 21 ms: %v %v", op.End, ok)
	}
	if _, ok := ledger.First(ops, at(500), ledger.GoodRead); ok {
		t.Error("found one after the last")
	}
	if q := ledger.Quantile(ops, 0.5, ledger.GoodRead); q != 2*time.Millisecond {
		t.Errorf("median %v", q)
	}
}

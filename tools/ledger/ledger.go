// Package ledger makes a resident ledger to work on, lets clerks work on it,
// and keeps what the database acknowledged to them, so that after a switch and
// a return every single write can be accounted for. It knows nothing of agents
// or modes. Start reading at Ledger and Reconcile; data are made by Generate,
// work is done by Clerk.
package ledger

import (
	"maps"
	"slices"
	"sync"
)

// Fate is what a clerk knows of one write.
type Fate uint8

// The fates, from the clerk's chair.
const (
	Attempted    Fate = iota // no answer yet; counts as in doubt in the end
	Acknowledged             // the server confirmed the commit
	InDoubt                  // the commit was sent, and its answer never came
	Refused                  // definitely not committed
)

func (f Fate) String() string {
	return [...]string{"attempted", "acknowledged", "in doubt", "refused"}[f]
}

// Ledger gives every write a number of its own and keeps its fate. The zero
// value is ready, for any number of clerks at once.
type Ledger struct {
	mu      sync.Mutex
	fates   []Fate // of number i+1
	printed []int64
}

// Attempt gives the number for a new write, from 1 without gaps.
func (l *Ledger) Attempt() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fates = append(l.fates, Attempted)
	return int64(len(l.fates))
}

// Conclude says how the write n ended.
func (l *Ledger) Conclude(n int64, f Fate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fates[n-1] = f
}

// Print notes a certificate number that was handed out on paper, that is after
// its commit was acknowledged.
func (l *Ledger) Print(number int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.printed = append(l.printed, number)
}

// Fates is a copy of what is known of every number.
func (l *Ledger) Fates() map[int64]Fate {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[int64]Fate, len(l.fates))
	for i, f := range l.fates {
		out[int64(i+1)] = f
	}
	return out
}

// Printed is a copy of all certificate numbers handed out.
func (l *Ledger) Printed() []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.printed)
}

// Tally is the account at the end: every acknowledged write is present,
// orphaned or lost, every one in doubt is present, orphaned or absent.
type Tally struct {
	Attempted    int
	Acknowledged int
	InDoubt      int
	Refused      int

	Present  int // acknowledged or in doubt, and in the database
	Orphaned int // acknowledged or in doubt, not in the database, but listed
	Absent   int // in doubt, neither in the database nor listed: it never happened

	Lost    []int64 // acknowledged, neither in the database nor listed
	Undead  []int64 // refused, and yet in the database or listed
	Unknown []int64 // in the database or listed, and never attempted

	// Precision: which share of the listed numbers is a write that is indeed
	// missing. Recall: which share of the missing acknowledged writes is
	// listed. Both 1 when there is nothing to divide by.
	OrphanPrecision, OrphanRecall float64

	DuplicateNumbers      []int64 // more than once in the database or in the list
	DuplicateCertificates []int64 // printed more than once
}

// Reconcile compares what the clerks know with the numbers found in the
// database and in the list of orphans. Its lists are sorted.
func Reconcile(fates map[int64]Fate, printed, present, orphans []int64) Tally {
	there, twice := set(present)
	listed, twiceListed := set(orphans)
	t := Tally{Attempted: len(fates), OrphanPrecision: 1, OrphanRecall: 1}
	t.DuplicateNumbers = sorted(union(twice, twiceListed))
	_, again := set(printed)
	t.DuplicateCertificates = sorted(again)

	missing, missingListed := 0, 0
	for n, f := range fates {
		found := there[n] || listed[n]
		switch f {
		case Refused:
			t.Refused++
			if found {
				t.Undead = append(t.Undead, n)
			}
			continue
		case Acknowledged:
			t.Acknowledged++
			if !there[n] {
				missing++
				if listed[n] {
					missingListed++
				}
			}
			if !found {
				t.Lost = append(t.Lost, n)
			}
		case Attempted, InDoubt:
			t.InDoubt++
			if !found {
				t.Absent++
			}
		}
		switch {
		case there[n]:
			t.Present++
		case listed[n]:
			t.Orphaned++
		}
	}
	unknown := map[int64]bool{}
	for n := range union(there, listed) {
		if _, ok := fates[n]; !ok {
			unknown[n] = true
		}
	}
	t.Unknown = sorted(unknown)
	slices.Sort(t.Lost)
	slices.Sort(t.Undead)
	if len(listed) > 0 {
		t.OrphanPrecision = float64(t.Orphaned) / float64(len(listed))
	}
	if missing > 0 {
		t.OrphanRecall = float64(missingListed) / float64(missing)
	}
	return t
}

// set is the numbers as a set, and those that come more than once.
func set(ns []int64) (all, again map[int64]bool) {
	all, again = map[int64]bool{}, map[int64]bool{}
	for _, n := range ns {
		if all[n] {
			again[n] = true
		}
		all[n] = true
	}
	return all, again
}

func union(a, b map[int64]bool) map[int64]bool {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// sorted is nil for an empty set.
func sorted(s map[int64]bool) []int64 { return slices.Sorted(maps.Keys(s)) }

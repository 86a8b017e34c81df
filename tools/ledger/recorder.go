package ledger

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Kind is what a clerk did.
type Kind uint8

// The kinds of operations. Connect is the opening of a connection.
const (
	Connect Kind = iota
	Search
	Household
	Certificate
	MoveIn
	Entry
)

func (k Kind) String() string {
	return [...]string{"connect", "search", "household", "certificate", "move-in", "entry"}[k]
}

// Reads says whether the kind only reads; Writes, whether it writes.
func (k Kind) Reads() bool { return k == Search || k == Household }

// Writes says whether the kind writes.
func (k Kind) Writes() bool { return k >= Certificate }

// Op is one operation as the clerk saw it.
type Op struct {
	Clerk      string
	Kind       Kind
	Start, End time.Time
	OK         bool
	SQLState   string // the server's own refusal; empty: none, so the connection failed
	Err        string
	Server     string // the address that answered, as the server knows it; empty: unknown
	Recovery   bool   // the server that answered was a standby
	N          int64  // number in the ledger; 0: a read
}

// Recorder keeps operations. The zero value is ready, for any number of clerks
// at once.
type Recorder struct {
	mu    sync.Mutex
	ops   []Op
	waits map[chan Op]func(Op) bool
}

// Add keeps one operation.
func (r *Recorder) Add(op Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, op)
	for c, keep := range r.waits {
		if keep(op) {
			c <- op // has room for this one
			delete(r.waits, c)
		}
	}
}

// Ops is a copy of all operations, in the order in which they ended.
func (r *Recorder) Ops() []Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ops)
}

// Wait returns the first operation that keep likes and that ends from now on.
func (r *Recorder) Wait(ctx context.Context, keep func(Op) bool) (Op, error) {
	c := make(chan Op, 1)
	r.mu.Lock()
	if r.waits == nil {
		r.waits = map[chan Op]func(Op) bool{}
	}
	r.waits[c] = keep
	r.mu.Unlock()
	select {
	case op := <-c:
		return op, nil
	case <-ctx.Done():
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.waits, c)
		return Op{}, fmt.Errorf("wait for an operation of the clerks: %w", ctx.Err())
	}
}

// First is the first to end of the operations that keep likes and that started
// at or after t; false if there is none.
func First(ops []Op, t time.Time, keep func(Op) bool) (Op, bool) {
	var best Op
	found := false
	for _, op := range ops {
		if !op.Start.Before(t) && keep(op) && (!found || op.End.Before(best.End)) {
			best, found = op, true
		}
	}
	return best, found
}

// Gap is a time without the end of any operation that one was looking for.
type Gap struct{ From, To time.Time }

// Length of the gap.
func (g Gap) Length() time.Duration { return g.To.Sub(g.From) }

// LongestGap is the longest time between the ends of two such operations that
// touches the time from a to b. The last one before a and the first one after b
// bound it; where there is none, a or b does.
func LongestGap(ops []Op, a, b time.Time, keep func(Op) bool) Gap {
	var ends []time.Time
	for _, op := range ops {
		if keep(op) {
			ends = append(ends, op.End)
		}
	}
	slices.SortFunc(ends, time.Time.Compare)
	// The stretch of ends that matters, with one more on either side.
	i, _ := slices.BinarySearchFunc(ends, a, time.Time.Compare)
	j, _ := slices.BinarySearchFunc(ends, b, time.Time.Compare)
	var marks []time.Time
	if i == 0 {
		marks = append(marks, a)
	}
	marks = append(marks, ends[max(0, i-1):min(len(ends), j+1)]...)
	if j == len(ends) {
		marks = append(marks, b)
	}
	var longest Gap
	for k := 1; k < len(marks); k++ {
		if g := (Gap{marks[k-1], marks[k]}); g.Length() > longest.Length() {
			longest = g
		}
	}
	return longest
}

// Quantile is the time within which the share q (0 to 1) of those operations
// was done; 0 if there are none.
func Quantile(ops []Op, q float64, keep func(Op) bool) time.Duration {
	var all []time.Duration
	for _, op := range ops {
		if keep(op) {
			all = append(all, op.End.Sub(op.Start))
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(len(all)-1, int(q*float64(len(all))))]
}

// GoodRead and GoodWrite are what most questions are about.
func GoodRead(op Op) bool { return op.OK && op.Kind.Reads() }

// GoodWrite is a write that was acknowledged.
func GoodWrite(op Op) bool { return op.OK && op.Kind.Writes() }

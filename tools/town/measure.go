package town

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"komainu/tools/ledger"
)

// All measures look at what the clerks and the journals recorded so far: a
// caller first waits until what is measured has happened (see Scenario, or
// Recorder.Wait and Events.Watch). Times are of the wall clock that every host
// of the town shares.

// settled is how long after a hand-over an attempt to connect still belongs to
// it: parked clients are let through only then.
const settled = time.Second

// CutToRead is the time from a cut to the end of the first read that the town
// hall's own server answered through the stable address.
func (w *World) CutToRead(cut time.Time) (time.Duration, error) {
	op, ok := ledger.First(w.Recorder.Ops(), cut, func(op ledger.Op) bool { return ledger.GoodRead(op) && Local(op) })
	if !ok {
		return 0, errors.New("cut to read: no clerk read locally")
	}
	return op.End.Sub(cut), nil
}

// VerdictAt is when the town-hall agent found the data centre unusable, before
// the first move to local reads from since on.
func (w *World) VerdictAt(since time.Time) (time.Time, error) {
	move, ok := w.Events.First("hall", "phase-local-read", since)
	if !ok {
		return time.Time{}, errors.New("verdict: the group did not move to local reads")
	}
	at := move.At() // without a verdict of its own, as after an order
	for _, e := range w.Events.All() {
		if e.Host == "hall" && e.Subject == move.Subject && len(move.Args) > 0 && e.Code == move.Args[0] && !e.At().Before(since) && e.At().Before(at) {
			at = e.At()
		}
	}
	return at, nil
}

// VerdictToRead is the time from the verdict to the end of the first local
// read that a clerk began after it or was waiting for.
func (w *World) VerdictToRead(since time.Time) (time.Duration, error) {
	at, err := w.VerdictAt(since)
	if err != nil {
		return 0, err
	}
	op, ok := ledger.First(w.Recorder.Ops(), since, func(op ledger.Op) bool { return ledger.GoodRead(op) && Local(op) && op.End.After(at) })
	if !ok {
		return 0, errors.New("verdict to read: no clerk read locally")
	}
	return op.End.Sub(at), nil
}

// OrderToWrite is the time from a write order to the end of the first write
// that the town hall's server acknowledged.
func (w *World) OrderToWrite(order time.Time) (time.Duration, error) {
	op, ok := ledger.First(w.Recorder.Ops(), order, func(op ledger.Op) bool { return ledger.GoodWrite(op) && Local(op) })
	if !ok {
		return 0, errors.New("order to write: no clerk wrote locally")
	}
	return op.End.Sub(order), nil
}

// DualWriteWindow is how long both sides could have acknowledged writes, as
// the town-hall agent measured it; false: it says nothing of such a time.
func (w *World) DualWriteWindow(since time.Time) (time.Duration, bool) {
	e, ok := w.Events.First("hall", "dual-write-window", since)
	if !ok || len(e.Args) == 0 {
		return 0, false
	}
	d, err := time.ParseDuration(e.Args[0])
	return d, err == nil
}

// Handover is a planned move back to the data centre, as the clerks felt it.
type Handover struct {
	Begin, End            time.Time     // parking (or leaving local reads) to the data centre
	PauseRead, PauseWrite time.Duration // longest time without one, less Drain
	Drain                 time.Duration // what the open transactions really took
	FailedConnects        int
	SessionsEnded         int // idle ones, with 57P01
	TransactionsAborted   int
}

// Handover measures the first complete hand-over from since on.
func (w *World) Handover(since time.Time) (Handover, error) {
	h := Handover{}
	var drain, drained time.Time
	for _, e := range w.Events.All() {
		if e.Host != "hall" || e.At().Before(since) || !h.End.IsZero() {
			continue
		}
		switch e.Code {
		case "phase-parking", "phase-leaving-read": // again after a hand-over that was given up
			h.Begin, drain, drained = e.At(), e.At(), time.Time{}
		case "phase-draining":
			drain = e.At()
		case "server-drain":
			drained = e.At()
			if len(e.Args) == 2 {
				ended, err1 := strconv.Atoi(e.Args[0])
				aborted, err2 := strconv.Atoi(e.Args[1])
				if err := errors.Join(err1, err2); err != nil {
					return h, fmt.Errorf("hand-over: what the drain did: %w", err)
				}
				h.SessionsEnded, h.TransactionsAborted = ended, aborted
			}
		case "phase-at-dc":
			if !h.Begin.IsZero() {
				h.End = e.At()
			}
		}
	}
	if h.End.IsZero() {
		return h, errors.New("hand-over: the group did not reach the data centre")
	}
	if !drained.IsZero() {
		h.Drain = drained.Sub(drain)
	}
	ops := w.Recorder.Ops()
	var err1, err2 error
	h.PauseRead, err1 = h.pause(ops, "read", ledger.GoodRead)
	h.PauseWrite, err2 = h.pause(ops, "wrote", ledger.GoodWrite)
	for _, op := range ops {
		if counter(op) && op.Kind == ledger.Connect && !op.OK && op.End.After(h.Begin) && op.Start.Before(h.End.Add(settled)) {
			h.FailedConnects++
		}
	}
	return h, errors.Join(err1, err2)
}

func (h Handover) pause(ops []ledger.Op, did string, good func(ledger.Op) bool) (time.Duration, error) {
	keep := func(op ledger.Op) bool { return counter(op) && good(op) }
	if _, ok := ledger.First(ops, h.End, keep); !ok {
		return 0, fmt.Errorf("hand-over: no clerk %s after it", did)
	}
	return max(0, ledger.LongestGap(ops, h.Begin, h.End, keep).Length()-h.Drain), nil
}

// counter says whether the operation came through the stable address, from
// anybody but the data centre's own clerks.
func counter(op ledger.Op) bool { return !strings.HasPrefix(op.Clerk, dcClerk) }

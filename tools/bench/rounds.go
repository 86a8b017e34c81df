package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"komainu/appliance/control"
	"komainu/failover/machine"
	"komainu/tools/lab"
	"komainu/tools/ledger"
	"komainu/tools/town"
)

// Bounds of a round; one that takes longer is an error, not a figure.
const (
	readyBound = 90 * time.Second
	moveBound  = 30 * time.Second
	lookEvery  = 20 * time.Millisecond
)

// rounds is a town that is hurt again and again. The hold-down is long: every
// round ends with an order, so that damping plays no part.
type rounds struct {
	*bench
	*town.World
	again int // returns after which the group left the DC once more, by itself
}

func (b *bench) town(ctx context.Context, name string, s town.Settings) (*rounds, error) {
	s.HoldDown = time.Hour
	w, err := town.Build(ctx, town.Options{Name: "bench-" + name, Program: b.program, Settings: s, Seed: 1})
	if err != nil {
		return nil, err
	}
	r := &rounds{bench: b, World: w}
	if err := r.ready(ctx); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return r, nil
}

// until waits for a condition that nobody announces.
func until(ctx context.Context, bound time.Duration, what string, holds func() error) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		err := holds()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", what, ctx.Err(), err)
		}
	}
}

// hall waits until the town-hall agent's status satisfies holds.
func (r *rounds) hall(ctx context.Context, what string, holds func(control.Status) bool) error {
	return until(ctx, readyBound, what, func() error {
		st, err := r.Status(ctx, r.Hall)
		if err != nil {
			return err
		}
		if !holds(st) {
			g, d := st.Groups[0], st.Databases[0]
			return fmt.Errorf("mode %s (%s: %s), verdict %s, standby %s ready %v %v, DC %+v", g.Mode, g.Step, g.Reason, st.Verdict.Reason, d.Role, d.Ready, d.ReadyReasons, d.Remote)
		}
		return nil
	})
}

// ready waits until an outage may begin: clients at the DC, a standby that
// has it all.
func (r *rounds) ready(ctx context.Context) error {
	return r.hall(ctx, "the town to be ready", atRest)
}

func atRest(st control.Status) bool {
	d := st.Databases[0]
	return st.Groups[0].Mode == "dc" && st.Verdict.Usable && d.Ready && d.Remote.Open && d.Replay != "0/0" && d.LagBytes < 1<<20 && st.Paths[0].State == "up" && st.Paths[1].State == "up"
}

func (r *rounds) cut() time.Time {
	at := time.Now()
	for _, l := range r.Lines("both") {
		l.Cut(lab.HallToDC)
		l.Cut(lab.DCToHall)
	}
	return at
}

func (r *rounds) heal() {
	for _, l := range r.Lines("both") {
		l.Heal(lab.HallToDC)
		l.Heal(lab.DCToHall)
	}
}

// order gives an order and waits for its end. A verdict may change between a
// look and the order, so an order back to the DC is repeated.
func (r *rounds) order(ctx context.Context, kind machine.OrderKind, count int32) error {
	ctx, cancel := context.WithTimeout(ctx, readyBound)
	defer cancel()
	for {
		reply, err := r.Order(ctx, kind, town.Group, "bench", count)
		if err != nil || reply.OK {
			return err
		}
		if reply.Code != "refused-dc-unusable" || rest(ctx, lookEvery) != nil {
			return fmt.Errorf("order %s refused: %s %v", kind, reply.Code, reply.Args)
		}
	}
}

// back returns to the DC by order as soon as that is accepted, giving up what
// orphans there are.
func (r *rounds) back(ctx context.Context) error {
	r.heal()
	// The DC must have heard of our term, if it grew, and be fenced or open.
	err := r.hall(ctx, "the DC to answer", func(st control.Status) bool {
		d := st.Databases[0].Remote
		return st.Verdict.Usable || st.Groups[0].Owner == "town-hall" && d.AgeS >= 0 && d.AgeS < 1 && !d.Open && d.Term >= st.Groups[0].Term
	})
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- r.order(ctx, machine.SwitchDC, 0) }() // awaited below
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return err
			}
			return r.stay(ctx)
		case <-tick.C:
		}
		st, err := r.Status(ctx, r.Hall)
		if err != nil {
			continue // the order's end decides
		}
		for _, x := range st.Groups[0].Blocks {
			if strings.Contains(x.Code, "orphan") {
				_, _ = r.Order(ctx, machine.AcceptOrphans, town.Group, "bench", int32(st.Databases[0].Orphans)) // asked again while it waits
			}
		}
	}
}

// stay waits until the town is ready after a return. A group that leaves the DC
// once more is counted, and ordered back.
func (r *rounds) stay(ctx context.Context) error {
	left := false
	err := r.hall(ctx, "the group to stay at the DC", func(st control.Status) bool {
		left = st.Groups[0].Mode == "local-read" && st.Verdict.Usable
		return left || atRest(st)
	})
	if err != nil || !left {
		return err
	}
	r.again++
	if err := r.order(ctx, machine.SwitchDC, 0); err != nil {
		return err
	}
	return r.ready(ctx)
}

// crew is who works at the counter in every measurement of an outage, here and
// at the peers: a clerk who waits for an answer, and a writer.
func crew(clients []*lab.Host) []ledger.Clerk {
	const patience = 3 * time.Second
	return []ledger.Clerk{
		{Name: "patient", Conn: town.StableDSN, Dial: clients[0].Dial, Mix: ledger.Reader(), ConnectTimeout: patience, Timeout: patience},
		{Name: "writer", Conn: town.StableDSN, Dial: clients[1].Dial, Mix: ledger.Writer(), ConnectTimeout: patience, Timeout: patience},
	}
}

// felt is what an outage was like.
type felt struct {
	first   time.Time // read of anybody
	patient time.Time // read of the clerk who waits
}

// feel waits for the first local reads after a cut; rec is where the clerks
// write theirs down.
func feel(ctx context.Context, rec *ledger.Recorder, from *lab.Host) (felt, error) {
	ctx, cancel := context.WithTimeout(ctx, moveBound)
	defer cancel()
	type answer struct {
		at  time.Time
		err error
	}
	knocked := make(chan answer, 1)
	go func() { // awaited below
		at, err := knock(ctx, from)
		knocked <- answer{at, err}
	}()
	op, err := rec.Wait(ctx, by("patient", localRead))
	k := <-knocked
	f := felt{k.at, op.End}
	if f.patient.Before(f.first) {
		f.first = f.patient
	}
	return f, errors.Join(err, k.err)
}

// settle lets the clerks get into their stride.
func settle(ctx context.Context) error {
	select {
	case <-time.After(700 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// seen waits for an operation of the clerks; the clerks must not be able to do
// it before the wait begins, or must repeat it.
func (r *rounds) seen(ctx context.Context, keep func(ledger.Op) bool) error {
	ctx, cancel := context.WithTimeout(ctx, moveBound)
	defer cancel()
	_, err := r.Recorder.Wait(ctx, keep)
	return err
}

func localRead(op ledger.Op) bool  { return ledger.GoodRead(op) && town.Local(op) }
func localWrite(op ledger.Op) bool { return ledger.GoodWrite(op) && town.Local(op) }
func dcRead(op ledger.Op) bool     { return ledger.GoodRead(op) && town.AtDC(op) }
func dcWrite(op ledger.Op) bool    { return ledger.GoodWrite(op) && town.AtDC(op) }
func by(name string, keep func(ledger.Op) bool) func(ledger.Op) bool {
	return func(op ledger.Op) bool { return op.Clerk == name && keep(op) }
}

// repeat runs a round n times.
func (b *bench) repeat(ctx context.Context, round func(i int) error) error {
	for i := range b.runs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := round(i); err != nil {
			return fmt.Errorf("round %d: %w", i+1, err)
		}
	}
	return nil
}

// journal prints what the agents wrote down since then.
func (r *rounds) journal(since time.Time) {
	if !r.trace {
		return
	}
	for _, e := range r.Events.All() {
		if at := e.At().Sub(since); at >= 0 {
			fmt.Fprintf(os.Stderr, "  %9.1f ms  %-5s %-22s %-28s %v\n", ms(at), e.Host, e.Subject, e.Code, e.Args)
		}
	}
	for _, op := range r.Recorder.Ops() {
		if at := op.End.Sub(since); at >= 0 && (!op.OK || op.Kind == ledger.Connect) {
			fmt.Fprintf(os.Stderr, "  %9.1f ms  %-5s %-22s %-28s %v %s\n", ms(at), "", op.Clerk, op.Kind, op.End.Sub(op.Start), op.Err)
		}
	}
}

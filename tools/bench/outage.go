package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"komainu/failover/machine"
	"komainu/tools/town"
)

// outage plays the whole story in every round: cut, local reads, the operator's
// order, local writes, healing, hand-over; then the peer's planned switch.
func (b *bench) outage(ctx context.Context) (err error) {
	cutToRead := b.figure(Figure{Name: "cut_to_read_default", What: "line cut to first read, default profile", Unit: "ms", Goal: "median <= 700", holds: medianAtMost(700)})
	cutToRead.note("Patroni at its sharpest: 2,040 ms (measured earlier on the same four hosts, not in this run)")
	patient := b.figure(Figure{Name: "cut_to_patient_read_default", What: "line cut to first read of a clerk who waits", Unit: "ms"})
	verdict := b.figure(Figure{Name: "verdict_to_read", What: "verdict to first read through the stable address", Unit: "ms", Goal: "median <= 30", holds: medianAtMost(30)})
	toWrite := b.figure(Figure{Name: "order_to_write", What: "write order to first write", Unit: "ms", Goal: "median <= 150", holds: medianAtMost(150)})
	toWrite.note("hand-made: 100-140 ms (measured earlier, not in this run)")
	fenced := b.figure(Figure{Name: "higher_term_to_fence", What: "higher term heard to DC fenced", Unit: "ms", Goal: "max <= 200", holds: maxAtMost(200)})
	read := b.figure(Figure{Name: "return_pause_read", What: "planned return: longest time without a read, less the drain", Unit: "ms", Goal: "median <= 1.3 x hand-made", holds: againstPeer(1.3)})
	write := b.figure(Figure{Name: "return_pause_write", What: "planned return: longest time without a write, less the drain", Unit: "ms", Goal: "median <= 1.3 x hand-made", holds: againstPeer(1.3)})
	write.note("the hand-made switch: pg_ctl stop -m fast, wait until the other has replayed, nft to the other, conntrack -D, pg_ctl promote; run without ssh, so a little better than life")
	connects := b.figure(Figure{Name: "return_failed_connects", What: "planned return: connections that failed", Unit: "connects", Goal: "0", holds: maxAtMost(0)})
	ended := b.figure(Figure{Name: "return_sessions_ended", What: "planned return: idle sessions ended (57P01)", Unit: "sessions"})
	aborted := b.figure(Figure{Name: "return_transactions_aborted", What: "planned return: transactions aborted", Unit: "transactions"})

	again := b.figure(Figure{Name: "return_left_again", What: "planned return: moves away from the DC right after it", Unit: "moves", Goal: "0", holds: maxAtMost(0)})

	r, err := b.town(ctx, "outage", town.Settings{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	p, err := b.plain(ctx, "planned")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	return b.repeat(ctx, func(i int) error {
		r.StartCrew("outage", crew(r.Clients))
		defer r.StopClerks("outage")
		if err := settle(ctx); err != nil {
			return err
		}
		cut := r.cut()
		f, err := feel(ctx, r.Recorder, r.Clients[2])
		if err != nil {
			return err
		}
		found, err := r.VerdictAt(cut)
		if err != nil {
			return err
		}
		cutToRead.Ours.add(ms(f.first.Sub(cut)))
		verdict.Ours.add(ms(f.first.Sub(found)))
		patient.Ours.add(ms(f.patient.Sub(cut)))

		r.StopClerks("outage")
		r.journal(cut)
		r.StartClerks("") // who wait through a hand-over
		defer r.StopClerks("")
		if err := settle(ctx); err != nil {
			return err
		}
		ordered := time.Now()
		wrote := make(chan error, 1)
		go func() { wrote <- r.seen(ctx, localWrite) }() // awaited below
		err = r.order(ctx, machine.Write, 0)
		if err := errors.Join(err, <-wrote); err != nil {
			return err
		}
		d, err := r.OrderToWrite(ordered)
		if err != nil {
			return err
		}
		toWrite.Ours.add(ms(d))
		if err := settle(ctx); err != nil {
			return err
		}

		r.journal(ordered)

		healed := time.Now()
		before := r.again
		err = r.back(ctx)
		r.journal(healed)
		if err != nil {
			return fmt.Errorf("return: %w", err)
		}
		again.Ours.add(float64(r.again - before))
		if err := errors.Join(r.seen(ctx, dcRead), r.seen(ctx, dcWrite)); err != nil {
			return err
		}
		if e, ok := r.Events.First("db", "fenced", healed); ok && len(e.Args) > 0 {
			if d, err := time.ParseDuration(e.Args[0]); err == nil {
				fenced.Ours.add(ms(d))
			}
		}
		h, err := r.Handover(healed)
		if err != nil {
			return err
		}
		read.Ours.add(ms(h.PauseRead))
		write.Ours.add(ms(h.PauseWrite))
		connects.Ours.add(float64(h.FailedConnects))
		ended.Ours.add(float64(h.SessionsEnded))
		aborted.Ours.add(float64(h.TransactionsAborted))
		r.StopClerks("")

		hand, err := p.planned(ctx)
		if err != nil {
			return fmt.Errorf("hand-made switch: %w", err)
		}
		const peer = "hand-made"
		read.peer(peer).add(ms(hand.read))
		write.peer(peer).add(ms(hand.write))
		connects.peer(peer).add(float64(hand.failed))
		b.progress("%d: cut to read %.0f ms, verdict to read %.0f, order to write %.0f, pause %.0f/%.0f, hand-made %.0f/%.0f", i+1,
			last(cutToRead), last(verdict), last(toWrite), last(read), last(write), ms(hand.read), ms(hand.write))
		return nil
	})
}

// againstPeer holds if our median is at most x times the first peer's.
func againstPeer(x float64) func(*Figure) bool {
	return func(f *Figure) bool { return len(f.Peers) > 0 && f.Ours.Median <= x*f.Peers[0].Median }
}

func last(f *Figure) float64 { return f.Ours.Values[len(f.Ours.Values)-1] }

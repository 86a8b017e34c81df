package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"komainu/tools/town"
)

// fast cuts the line of a town with the fast profile and of keepalived's, turn
// and turn about.
func (b *bench) fast(ctx context.Context) (err error) {
	const peer = "keepalived 0.1 s"
	first := b.figure(Figure{Name: "cut_to_read_fast", What: "line cut to first read, fast profile", Unit: "ms", Goal: "median <= 300 and below keepalived", holds: func(f *Figure) bool {
		return medianAtMost(300)(f) && len(f.Peers) > 0 && f.Ours.Median < f.Peers[0].Median
	}})
	patient := b.figure(Figure{Name: "cut_to_patient_read_fast", What: "line cut to first read of a clerk who waits, fast profile", Unit: "ms", Goal: "below keepalived", holds: func(f *Figure) bool {
		return len(f.Peers) > 0 && f.Ours.Median < f.Peers[0].Median
	}})
	verdict := b.figure(Figure{Name: "verdict_to_read_fast", What: "verdict to first read, fast profile", Unit: "ms", Goal: "median <= 30", holds: medianAtMost(30)})
	first.note("keepalived 2.2.7: VRRP 3 by unicast over the line, advert_int 0.1, priorities 254 and 253, a notify script with one nft -f and conntrack -D to the streaming standby; reads only")

	r, err := b.town(ctx, "fast", town.Settings{Profile: "fast"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	p, err := b.plain(ctx, "keepalived")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if err := p.keepalived(ctx); err != nil {
		return err
	}
	return b.repeat(ctx, func(i int) error {
		d, waits, v, err := r.excursion(ctx)
		if err != nil {
			return err
		}
		first.Ours.add(ms(d))
		patient.Ours.add(ms(waits))
		verdict.Ours.add(ms(v))
		d, waits, err = p.outage(ctx)
		if err != nil {
			return fmt.Errorf("keepalived: %w", err)
		}
		first.peer(peer).add(ms(d))
		patient.peer(peer).add(ms(waits))
		b.progress("%d: cut to read %.0f ms, keepalived %.0f; waiting clerk %.0f, keepalived %.0f", i+1, last(first), ms(d), last(patient), ms(waits))
		return nil
	})
}

// excursion is one cut with local reads, and the return.
func (r *rounds) excursion(ctx context.Context) (first, patient, verdict time.Duration, err error) {
	r.StartCrew("outage", crew(r.Clients))
	defer r.StopClerks("outage")
	if err := settle(ctx); err != nil {
		return 0, 0, 0, err
	}
	cut := r.cut()
	f, err := feel(ctx, r.Recorder, r.Clients[2])
	if err != nil {
		return 0, 0, 0, err
	}
	found, err := r.VerdictAt(cut)
	if err != nil {
		return 0, 0, 0, err
	}
	r.StopClerks("outage")
	r.journal(cut)
	return f.first.Sub(cut), f.patient.Sub(cut), f.first.Sub(found), r.back(ctx)
}

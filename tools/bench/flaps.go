package main

import (
	"context"
	"errors"
	"time"

	"komainu/tools/lab"
	"komainu/tools/town"
)

// disturbance is something that a line does and that is no outage, or nearly none.
type disturbance struct {
	name, what string
	goal       bool // the default profile promises not to switch
	loss       float64
	length     time.Duration
	every      time.Duration // from one beginning to the next
}

var disturbances = []disturbance{
	{"false_switches_bursts", "false switches: bursts of 30 % loss for 300 ms on both lines", true, 0.3, 300 * time.Millisecond, time.Second},
	{"false_switches_gap_400", "false switches: gaps of 400 ms on both lines", true, 1, 400 * time.Millisecond, 2 * time.Second},
	{"switches_gap_900", "switches: gaps of 900 ms on both lines", false, 1, 900 * time.Millisecond, 3 * time.Second},
}

// falseSwitches disturbs both lines at once, while the clerks work; each kind
// gets its share of the time.
func (b *bench) falseSwitches(ctx context.Context) (err error) {
	r, err := b.town(ctx, "flaps", town.Settings{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	r.StartClerks("")
	defer r.StopClerks("")
	for _, d := range disturbances {
		f := b.figure(Figure{Name: d.name, What: d.what, Unit: "% of them"})
		if d.goal {
			f.Goal, f.holds = "0", maxAtMost(0)
		}
		if err := r.disturb(ctx, f, d); err != nil {
			return err
		}
	}
	return nil
}

// disturb counts the share of disturbances that made the group move, by blocks
// of a tenth of the time.
func (r *rounds) disturb(ctx context.Context, f *Figure, d disturbance) error {
	share := r.flaps / time.Duration(len(disturbances))
	begin, count, moved := time.Now(), 0, 0
	for block := 1; block <= 10; block++ {
		n, m := 0, 0
		for time.Since(begin) < share*time.Duration(block)/10 {
			at := time.Now()
			r.each(func(l *lab.Line, w lab.Direction) { l.Set(w, lab.Params{Loss: d.loss}) })
			err := rest(ctx, d.length)
			r.each(func(l *lab.Line, w lab.Direction) { l.Set(w, lab.Params{}) })
			if err := errors.Join(err, rest(ctx, d.every-d.length)); err != nil {
				return err
			}
			n++
			if _, ok := r.Events.First("hall", "phase-local-read", at); ok {
				m++
				if err := r.back(ctx); err != nil {
					return err
				}
			}
		}
		if n > 0 {
			f.Ours.add(100 * float64(m) / float64(n))
		}
		count, moved = count+n, moved+m
	}
	f.note("%d of %d in %.0f s; each value is a tenth of them", moved, count, time.Since(begin).Seconds())
	r.progress("%s: %d of %d", d.name, moved, count)
	return nil
}

// each calls f for both directions of both lines.
func (r *rounds) each(f func(*lab.Line, lab.Direction)) {
	for _, l := range r.Lines("both") {
		f(l, lab.HallToDC)
		f(l, lab.DCToHall)
	}
}

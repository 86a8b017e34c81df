package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"komainu/tools/lab"
	"komainu/tools/town"
)

// rowBytes is the size of the trial's rows, the columns beside the body included.
const rowBytes = 600

// rows: the trial's ladder. Figures are the trial's for sending and applying.
func rows(ctx context.Context, r *run) error {
	for _, x := range []struct {
		id          string
		n, commit   int
		send, apply time.Duration // the trial's; 0: none
	}{
		{"AT-32", 1, 1, 0, time.Second},
		{"AT-33", 10, 1, 4 * time.Second, 18 * time.Second},
		{"AT-34", 100, 1, 0, 0},
		{"AT-35", 1000, 1, 4 * time.Second, 6 * time.Second},
		{"AT-36", 5000, 100, 7 * time.Second, 10 * time.Second},
		{"AT-37", 10000, 100, 13 * time.Second, 17 * time.Second},
		{"AT-38", 50000, 100, 0, 0},
		{"AT-39", 100000, 100, 0, 0},
	} {
		begin := time.Now()
		if err := r.insert(ctx, x.id, x.n, x.commit, func(int) {}); err != nil {
			return err
		}
		sent := time.Since(begin)
		got, err := r.arrived(ctx, x.id)
		if err != nil {
			return err
		}
		applied := time.Since(begin)
		r.row(x.id, fmt.Sprintf("%d rows of %d B at the DC, a commit every %d, counted at the standby", x.n, rowBytes, x.commit),
			fmt.Sprintf("%d/%d; sent in %s, counted after %s", got, x.n, short(sent), short(applied)),
			got == x.n && (x.send == 0 || sent <= x.send) && (x.apply == 0 || applied <= x.apply))
	}
	return nil
}

// insert sends n rows from the DC's application host, one batch per commit,
// and tells how many are in after each.
func (r *run) insert(ctx context.Context, name string, n, commit int, in func(done int)) error {
	c, err := connect(ctx, r.App, town.DirectDSN)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	body := strings.Repeat("行", (rowBytes-20)/3)
	for done := 0; done < n; done += commit {
		b := &pgx.Batch{} // one transaction: it ends with the batch
		for i := range min(commit, n-done) {
			b.Queue("insert into accept values ($1, $2, $3)", name, done+i, body)
		}
		if err := c.SendBatch(ctx, b).Close(); err != nil {
			return fmt.Errorf("rows %d and following of %d: %w", done, n, err)
		}
		in(min(done+commit, n))
	}
	return nil
}

// arrived waits until the standby has replayed all that the DC has flushed,
// then counts.
func (r *run) arrived(ctx context.Context, name string) (n int, err error) {
	a, err := pgx.Connect(ctx, r.ServerDSN(r.DB))
	if err != nil {
		return 0, err
	}
	defer a.Close(ctx)
	b, err := pgx.Connect(ctx, r.ServerDSN(r.Hall))
	if err != nil {
		return 0, err
	}
	defer b.Close(ctx)
	var lsn string
	if err := a.QueryRow(ctx, "select pg_current_wal_flush_lsn()::text").Scan(&lsn); err != nil {
		return 0, err
	}
	err = until(ctx, func() error {
		var behind int64
		err := b.QueryRow(ctx, "select ($1::text)::pg_lsn - pg_last_wal_replay_lsn()", lsn).Scan(&behind)
		if err == nil && behind > 0 {
			err = fmt.Errorf("the standby is %d B behind", behind)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	err = b.QueryRow(ctx, "select count(*) from accept where run = $1", name).Scan(&n)
	return n, err
}

// cutInside: both lines cut in the middle of a run of 10,000 rows.
func cutInside(ctx context.Context, r *run) error {
	const n, at = 10000, 3000
	err := r.insert(ctx, "AT-40", n, 100, func(done int) {
		if done == at {
			r.lines((*lab.Line).Cut)
		}
	})
	if err != nil {
		return err
	}
	if _, _, err := r.status(ctx, mode("local-read")); err != nil {
		return err
	}
	begin := time.Now()
	r.lines((*lab.Line).Heal)
	got, err := r.arrived(ctx, "AT-40")
	if err != nil {
		return err
	}
	took := time.Since(begin)
	r.row("AT-40", fmt.Sprintf("both lines cut after %d of %d rows, healed after the rest was written", at, n),
		fmt.Sprintf("%d of %d missing, %s after healing", n-got, n, short(took)), got == n)
	r.row("AT-62", fmt.Sprintf("both lines cut, %d rows written at the DC meanwhile, reads at the town hall; lines healed", n-at),
		fmt.Sprintf("unaided in step again %s after healing", short(took)), got == n && took <= time.Second)
	return nil
}

// lines does the same to every direction of both lines.
func (r *run) lines(do func(l *lab.Line, d lab.Direction)) {
	for _, l := range []*lab.Line{r.Main, r.Alt} {
		do(l, lab.HallToDC)
		do(l, lab.DCToHall)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

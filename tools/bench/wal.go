package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"komainu/tools/lab"
	"komainu/tools/ledger"
)

// walWrites of one run.
const walWrites = 400

// clerksWrites is the rate to which a day of outage is scaled: a transaction
// every ten seconds at each of ten counters, for eight hours.
const clerksWrites = 10 * 6 * 60 * 8

// wal compares the log that a clerk's day makes with what the orphan list needs
// (wal_level=logical and a slot that stands still) and without (replica).
func (b *bench) wal(ctx context.Context) (err error) {
	const peer = "wal_level=replica"
	size := b.figure(Figure{Name: "wal_bytes_per_write", What: "log per write with what the orphan list needs", Unit: "bytes"})
	over := b.figure(Figure{Name: "wal_overhead", What: "overhead in log of what the orphan list needs", Unit: "%"})
	day := b.figure(Figure{Name: "slot_growth_per_day", What: "growth of the orphan slot per day of outage", Unit: "MB"})
	over.note("a clerk's mix of certificates, moves and entries of 600 bytes, %d transactions a run, the same in both", walWrites)
	day.note("at %d writes a day: ten counters, one every ten seconds, for eight hours", clerksWrites)
	l, err := lab.New(ctx, lab.Options{Name: "bench-wal"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	var servers [2]*server
	for i, level := range []string{"logical", "replica"} {
		h, err := l.NewHost(level, lab.Wiring{})
		if err != nil {
			return err
		}
		servers[i] = &server{host: h, addr: "127.0.0.1", port: "5432", data: filepath.Join(h.StateDir(), "data"), led: &ledger.Ledger{}}
		if err := lab.WritePKI(filepath.Join(l.Dir, "pki")); err != nil {
			return err
		}
		if err := servers[i].make(ctx, "wal_level="+level, "wal_log_hints=on"); err != nil {
			return err
		}
	}
	err = servers[0].ask(ctx, func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, "select pg_create_logical_replication_slot('orphans', 'test_decoding')")
		return err
	})
	if err != nil {
		return err
	}
	var kept float64
	err = b.repeat(ctx, func(i int) error {
		var per [2]float64
		for k, s := range servers {
			if per[k], err = s.walOfWrites(ctx, uint64(i)); err != nil {
				return err
			}
		}
		size.Ours.add(per[0])
		size.peer(peer).add(per[1])
		over.Ours.add(100 * (per[0]/per[1] - 1))
		day.Ours.add(per[0] * clerksWrites / 1e6)
		return nil
	})
	if err != nil {
		return err
	}
	err = servers[0].ask(ctx, func(c *pgx.Conn) error {
		return c.QueryRow(ctx, "select pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::float8 from pg_replication_slots").Scan(&kept)
	})
	day.note("the slot of this run holds %.1f MB after %d writes", kept/1e6, b.runs*walWrites)
	return err
}

// walOfWrites is the log per write, in bytes, of one clerk's work.
func (s *server) walOfWrites(ctx context.Context, seed uint64) (float64, error) {
	position := func() (at float64, err error) {
		return at, s.ask(ctx, func(c *pgx.Conn) error {
			return c.QueryRow(ctx, "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8").Scan(&at)
		})
	}
	// A checkpoint first, so that every run pays for the same full pages.
	if err := s.ask(ctx, func(c *pgx.Conn) error { _, err := c.Exec(ctx, "checkpoint"); return err }); err != nil {
		return 0, err
	}
	before, err := position()
	if err != nil {
		return 0, err
	}
	n, err := s.writes(ctx, seed)
	if err != nil {
		return 0, err
	}
	after, err := position()
	return (after - before) / float64(n), err
}

// writes lets a clerk write walWrites times, or a few more.
func (s *server) writes(ctx context.Context, seed uint64) (int, error) {
	wctx, cancel := context.WithTimeout(ctx, moveBound)
	defer cancel()
	rec, led := &ledger.Recorder{}, s.led
	k := ledger.Clerk{Name: "clerk", Dial: s.host.Dial, Mix: ledger.Mix{Certificate: 3, MoveIn: 1, Entry: 1}, Pause: time.Microsecond, Size: ledger.Small(), Seed: seed,
		Conn: "host=127.0.0.1 port=5432 user=clerk password=counter dbname=postgres sslmode=disable"}
	done := make(chan error, 1)
	go func() { done <- k.Run(wctx, rec, led) }() // ended below
	n := 0
	err := until(wctx, moveBound, "the clerk's writes", func() error {
		n = 0
		for _, op := range rec.Ops() {
			if ledger.GoodWrite(op) {
				n++
			}
		}
		if n < walWrites {
			return fmt.Errorf("%d so far", n)
		}
		return nil
	})
	cancel()
	if err := errors.Join(err, <-done); err != nil {
		return 0, err
	}
	n = 0
	for _, op := range rec.Ops() {
		if ledger.GoodWrite(op) {
			n++
		}
	}
	return n, nil
}

package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"komainu/failover/standby"
)

// Commit is one transaction as logical decoding shows it. Changes of the
// catalog alone (DDL, grants) and of sequences are not decoded.
type Commit struct {
	Database  string
	XID       uint32
	LSN       standby.LSN // end of the commit record
	Time      time.Time   // of the commit, by the server's wall clock
	Rows      []string    // test_decoding's text, at most as many as asked for, each at most maxRow bytes
	RowsTotal int
}

// Orphan is a commit that the other side never got.
type Orphan struct {
	Commit
	InDoubt bool // so close to the end that its client may never have got the answer
}

const (
	// maxRow bounds the text of one row in bytes.
	maxRow = 2000
	// inDoubt is how long before the end of service a commit's answer may have
	// been cut off on its way.
	inDoubt = 200 * time.Millisecond
)

// ListOrphans opens a kept cluster in isolation (no TCP, a socket directory of
// its own, no standby to wait for), lists every commit that ended after
// switchPoint, at most maxRows rows of each, and stops it again. A commit later
// than closedAt-200ms is in doubt; a zero closedAt makes none so. It answers
// ErrNoOrphanSlot when a database has no usable slot, for then the list would
// be incomplete.
func (c *Cluster) ListOrphans(ctx context.Context, kept string, switchPoint standby.LSN, closedAt time.Time, maxRows int) (list []Orphan, err error) {
	what := "list orphans of database " + c.cfg.Name + " in " + kept
	p := place{unit: c.Unit() + "-kept", data: filepath.Join(kept, "data"), socket: filepath.Join(kept, "run")}
	if _, err := os.Stat(filepath.Join(p.data, signalFile)); err == nil {
		return nil, fmt.Errorf("%s: %w, it holds no commits of its own", what, ErrStandbySignal)
	}
	p.settings = c.settings(nil)
	for k, v := range map[string]string{
		"listen_addresses": "", "unix_socket_directories": p.socket,
		"synchronous_standby_names": "", "autovacuum": "off", "archive_mode": "off",
		"max_slot_wal_keep_size": "-1", // the checkpoint after recovery must not drop what we came for
	} {
		p.settings[k] = v
	}
	if err := c.writeConf(c.settings(nil)); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if err := c.l.Start(ctx, c.server(p)); err != nil {
		return nil, fmt.Errorf("%s: start: %w", what, err)
	}
	defer func() {
		sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		err = errors.Join(err, c.stop(sctx, p.unit, Fast))
	}()
	list, err = c.readOrphans(ctx, p, switchPoint, closedAt, maxRows)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return list, nil
}

func (c *Cluster) readOrphans(ctx context.Context, p place, switchPoint standby.LSN, closedAt time.Time, maxRows int) ([]Orphan, error) {
	s := newSession(p.socket, c.cfg.Port, "postgres")
	defer s.close()
	// Recovery of the kept cluster tells nobody when it ends.
	err := until(ctx, 10*tick, func() (bool, error) {
		err := s.exec(ctx, "select 1")
		if err == nil {
			return true, nil
		}
		if st, serr := c.l.Status(ctx, p.unit); serr != nil || !st.Running {
			return false, fmt.Errorf("%w, its log tells why: %w", ErrNotRunning, errors.Join(serr, err))
		}
		return false, nil
	})
	if err != nil {
		return nil, err
	}
	var uncovered []string
	err = s.row(ctx, `select array(select datname::text from pg_database d where datallowconn and not datistemplate and not exists (
		select from pg_replication_slots s where s.slot_name = $1 || '_' || d.oid and s.wal_status <> 'lost' and s.confirmed_flush_lsn <= $2::text::pg_lsn))`,
		[]any{OrphanSlot, switchPoint.String()}, &uncovered)
	if err != nil {
		return nil, err
	}
	if len(uncovered) > 0 {
		return nil, fmt.Errorf("databases %s: %w", strings.Join(uncovered, ", "), ErrNoOrphanSlot)
	}
	slots, err := c.slots(ctx, s, OrphanSlot)
	if err != nil {
		return nil, err
	}
	var out []Orphan
	for _, slot := range slots {
		d := newSession(p.socket, c.cfg.Port, slot.database)
		commits, err := peek(ctx, d, slot, 0, maxRows, switchPoint)
		d.close()
		if err != nil {
			return nil, err
		}
		for _, k := range commits {
			out = append(out, Orphan{k, !closedAt.IsZero() && k.Time.After(closedAt.Add(-inDoubt))})
		}
	}
	return out, nil
}

// ReadJournal gives the local changes since CreateJournalSlot, oldest first in
// each database, without consuming them: about maxChanges rows in whole
// transactions (0: all), at most maxRows texts of each. AdvanceJournalSlot
// consumes.
func (c *Cluster) ReadJournal(ctx context.Context, maxChanges, maxRows int) ([]Commit, error) {
	slots, err := c.slots(ctx, c.ord, JournalSlot)
	if err != nil {
		return nil, err
	}
	var out []Commit
	for _, slot := range slots {
		if slot.lost {
			return nil, fmt.Errorf("journal of %s in cluster %s: its WAL was removed", slot.database, c.cfg.Name)
		}
		commits, err := peek(ctx, c.inDatabase(slot.database), slot, maxChanges, maxRows, 0)
		if err != nil {
			return nil, err
		}
		out = append(out, commits...)
	}
	return out, nil
}

// peek decodes a slot without consuming it; only commits that end after `after`.
func peek(ctx context.Context, s *session, slot logicalSlot, maxChanges, maxRows int, after standby.LSN) ([]Commit, error) {
	var limit *int
	if maxChanges > 0 {
		limit = &maxChanges
	}
	var out []Commit
	err := s.do(ctx, func(conn *pgx.Conn) error {
		out = nil
		rows, err := conn.Query(ctx, `select lsn::text, data from pg_logical_slot_peek_changes($1::name, null, $2::int,
			'include-xids', 'on', 'include-timestamp', 'on', 'skip-empty-xacts', 'on')`, slot.name, limit)
		if err != nil {
			return err
		}
		var lsn, data string
		open := Commit{Database: slot.database}
		_, err = pgx.ForEachRow(rows, []any{&lsn, &data}, func() error {
			done, err := open.add(lsn, data, maxRows)
			if done {
				if open.LSN > after {
					out = append(out, open)
				}
				open = Commit{Database: slot.database}
			}
			return err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("decode slot %s of %s: %w", slot.name, slot.database, err)
	}
	return out, nil
}

// add takes one line of test_decoding: "BEGIN 735", "table public.t: INSERT:
// ...", "COMMIT 735 (at 2026-11-22 04:00:00.123456+00)"; done after COMMIT.
func (k *Commit) add(lsn, data string, maxRows int) (done bool, err error) {
	switch {
	case strings.HasPrefix(data, "BEGIN "):
		xid, err := strconv.ParseUint(data[len("BEGIN "):], 10, 32)
		k.XID = uint32(xid)
		return false, err
	case strings.HasPrefix(data, "COMMIT "):
		if k.LSN, err = standby.ParseLSN(lsn); err != nil {
			return false, err
		}
		_, at, _ := strings.Cut(data, "(at ")
		k.Time, err = time.Parse("2006-01-02 15:04:05-07", strings.TrimSuffix(at, ")"))
		return true, err
	case strings.HasPrefix(data, "message:"): // no row
		return false, nil
	}
	k.RowsTotal++
	if len(k.Rows) < maxRows {
		k.Rows = append(k.Rows, strings.ToValidUTF8(data[:min(len(data), maxRow)], ""))
	}
	return false, nil
}

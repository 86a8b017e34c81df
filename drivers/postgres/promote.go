package postgres

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/jackc/pgx/v5"

	"komainu/failover/standby"
)

// Promote ends recovery and returns when a transaction has committed; nil at
// once on a primary. A standby that does not open for reads is promoted too,
// by the signal file.
func (c *Cluster) Promote(ctx context.Context) error {
	if m, err := c.Marked(); m != nil || err != nil {
		return fmt.Errorf("promote database %s: %w", c.cfg.Name, ErrNotStartable)
	}
	err := c.promote(ctx)
	if err != nil {
		return fmt.Errorf("promote database %s: %w", c.cfg.Name, err)
	}
	return nil
}

func (c *Cluster) promote(ctx context.Context) error {
	err := c.ord.exec(ctx, "select pg_promote(wait => false) where pg_is_in_recovery()")
	if err != nil {
		if role, _ := why(ctx, err); role != standby.Starting {
			return err
		}
		if err := c.promoteClosed(ctx); err != nil {
			return err
		}
	}
	// PostgreSQL tells nobody when recovery has ended.
	var recovering bool
	err = until(ctx, tick, func() (bool, error) {
		err := c.ord.row(ctx, "select pg_is_in_recovery()", nil, &recovering)
		if err != nil {
			if role, _ := why(ctx, err); role != standby.Starting {
				return false, err
			}
			st, serr := c.l.Status(ctx, c.Unit())
			if serr == nil && !st.Running {
				return false, fmt.Errorf("%w: %w", ErrNotRunning, err)
			}
			return false, nil
		}
		return !recovering, nil
	})
	if err != nil {
		return err
	}
	// A write of our own proves that commits are not waiting for anybody.
	return c.ord.exec(ctx, "select pg_logical_emit_message(true, 'komainu', 'promoted')")
}

// promoteClosed does what pg_ctl promote does, for a server that lets nobody in.
func (c *Cluster) promoteClosed(ctx context.Context) error {
	st, err := c.l.Status(ctx, c.Unit())
	if err != nil {
		return fmt.Errorf("status of %s: %w", c.Unit(), err)
	}
	if !st.Running {
		return ErrNotRunning
	}
	if !c.exists(signalFile) {
		return nil // a primary in crash recovery
	}
	// A signal, not a state: it need not outlast a crash, so it is not synced.
	if err := os.WriteFile(filepath.Join(c.Data(), "promote"), nil, 0o600); err != nil {
		return err
	}
	if err := c.l.Signal(ctx, c.Unit(), syscall.SIGUSR1); err != nil {
		return fmt.Errorf("signal to %s: %w", c.Unit(), err)
	}
	return nil
}

// databases lists the databases of the cluster that clients can use.
func (c *Cluster) databases(ctx context.Context) (map[string]uint32, error) {
	out := map[string]uint32{}
	err := c.ord.do(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "select datname::text, oid::bigint from pg_database where datallowconn and not datistemplate")
		if err != nil {
			return err
		}
		var name string
		var oid int64
		_, err = pgx.ForEachRow(rows, []any{&name, &oid}, func() error { out[name] = uint32(oid); return nil })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("databases of cluster %s: %w", c.cfg.Name, err)
	}
	return out, nil
}

// AdvanceSequences moves every sequence of every database on by gap steps, at
// most to its end, and says how many: after a promotion that may have lost
// something no number is given out twice. It is not idempotent, only safe to
// repeat.
func (c *Cluster) AdvanceSequences(ctx context.Context, gap int64) (int, error) {
	dbs, err := c.databases(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	for db := range dbs {
		var here int
		err := c.inDatabase(db).row(ctx, `
			select count(setval(format('%I.%I', schemaname, sequencename)::regclass,
			  case when increment_by > 0
			    then least(coalesce(last_value, start_value)::numeric + increment_by::numeric * $1::bigint, max_value)
			    else greatest(coalesce(last_value, start_value)::numeric + increment_by::numeric * $1::bigint, min_value) end::bigint))
			from pg_sequences`, []any{gap}, &here)
		if err != nil {
			return n, fmt.Errorf("advance the sequences of %s in cluster %s: %w", db, c.cfg.Name, err)
		}
		n += here
	}
	return n, nil
}

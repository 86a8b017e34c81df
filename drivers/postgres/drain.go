package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// DrainResult counts the sessions that Drain ended.
type DrainResult struct {
	Idle    int // outside a transaction: nothing lost
	Aborted int // in a transaction or statement when the deadline came
}

// drainTick is how often Drain looks for sessions that became idle or are new.
const drainTick = 10 * time.Millisecond

// Drain ends all clients' sessions with 57P01 (admin shutdown): idle ones at
// once, those in a transaction when they finish it or at the deadline. Sessions
// that arrive meanwhile are ended too; replication, probes and our own are left
// alone. It returns when none is left.
func (c *Cluster) Drain(ctx context.Context, deadline time.Time) (DrainResult, error) {
	type backend struct {
		pid   int32
		start time.Time
	}
	ended := map[backend]bool{} // true: was in a transaction
	err := until(ctx, drainTick, func() (bool, error) {
		late := !time.Now().Before(deadline)
		left := 0
		err := c.ord.do(ctx, func(conn *pgx.Conn) error {
			// State and signal in one statement, so that a session has hardly
			// time to begin a transaction in between.
			rows, err := conn.Query(ctx, `select pid, coalesce(backend_start, 'epoch'), state is not null and state <> 'idle' as busy,
				case when $2 or state is null or state = 'idle' then pg_terminate_backend(pid) else false end
				from pg_stat_activity where `+clients, c.cfg.ReplicationUser, late)
			if err != nil {
				return err
			}
			var b backend
			var busy, signalled bool
			left = 0
			_, err = pgx.ForEachRow(rows, []any{&b.pid, &b.start, &busy, &signalled}, func() error {
				left++
				if _, known := ended[b]; signalled && !known {
					ended[b] = busy
				}
				return nil
			})
			return err
		})
		return left == 0, err
	})
	var r DrainResult
	for _, busy := range ended {
		if busy {
			r.Aborted++
		} else {
			r.Idle++
		}
	}
	if err != nil {
		return r, fmt.Errorf("drain database %s: %w", c.cfg.Name, err)
	}
	return r, nil
}

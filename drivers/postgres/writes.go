package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// readOnly is what clients' transactions begin with between a promotion and
// ReleaseWrites. Our own sessions override it.
const readOnly = "default_transaction_read_only"

// HoldWrites lets an open standby's clients go on reading through a promotion
// without writing yet: what has to be there before the first write (sequences
// moved on, the journal's slot) takes a moment after it. This is order among
// friends, not a fence: a client may still say "begin read write".
func (c *Cluster) HoldWrites(ctx context.Context) error {
	return c.setReadOnly(ctx, "alter system set "+readOnly+" = on")
}

// ReleaseWrites ends HoldWrites, and what a copy may have brought along of it.
// It returns when new commands write. Nothing is done when nothing is held.
func (c *Cluster) ReleaseWrites(ctx context.Context) error {
	var held bool
	err := c.ord.row(ctx, "select exists (select from pg_file_settings where name = '"+readOnly+"' and sourcefile ~ 'auto')", nil, &held)
	if err != nil {
		return fmt.Errorf("look at held writes of database %s: %w", c.cfg.Name, err)
	}
	if !held {
		return nil
	}
	return c.setReadOnly(ctx, "alter system reset "+readOnly)
}

// setReadOnly changes the setting and waits until the server has handed it to
// its sessions.
func (c *Cluster) setReadOnly(ctx context.Context, sql string) error {
	err := c.ord.do(ctx, func(conn *pgx.Conn) error {
		var before, loaded time.Time
		if err := conn.QueryRow(ctx, "select pg_conf_load_time()").Scan(&before); err != nil {
			return err
		}
		for _, q := range []string{sql, "select pg_reload_conf()"} {
			if _, err := conn.Exec(ctx, q); err != nil {
				return err
			}
		}
		return until(ctx, tick, func() (bool, error) {
			err := conn.QueryRow(ctx, "select pg_conf_load_time()").Scan(&loaded)
			return loaded.After(before), err
		})
	})
	if err != nil {
		return fmt.Errorf("%s on database %s: %w", sql, c.cfg.Name, err)
	}
	return nil
}

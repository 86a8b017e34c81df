package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// EnsureRoles makes the roles for replication and probes on a running primary
// and sets their passwords; an empty password leaves the present one. The
// replication role may read statistics, checkpoint, and call the four
// functions that pg_rewind needs (PostgreSQL documentation, pg_rewind).
func (c *Cluster) EnsureRoles(ctx context.Context, replicationPassword, probePassword string) error {
	err := c.ord.do(ctx, func(conn *pgx.Conn) error {
		repl := pgx.Identifier{c.cfg.ReplicationUser}.Sanitize()
		var stmts []string
		for _, r := range []struct{ name, option, password string }{
			{c.cfg.ReplicationUser, "replication", replicationPassword},
			{ProbeRole, "", probePassword},
		} {
			var there bool
			if err := conn.QueryRow(ctx, "select exists (select from pg_roles where rolname = $1)", r.name).Scan(&there); err != nil {
				return err
			}
			id := pgx.Identifier{r.name}.Sanitize()
			if !there {
				stmts = append(stmts, "create role "+id+" login "+r.option)
			}
			if r.password != "" {
				quoted, err := conn.PgConn().EscapeString(r.password)
				if err != nil {
					return err
				}
				stmts = append(stmts, "alter role "+id+" "+r.option+" password '"+quoted+"'")
			}
		}
		stmts = append(stmts,
			"grant pg_read_all_stats, pg_checkpoint to "+repl,
			"grant execute on function pg_catalog.pg_ls_dir(text, boolean, boolean), pg_catalog.pg_stat_file(text, boolean), "+
				"pg_catalog.pg_read_binary_file(text), pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean) to "+repl)
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			// Whatever the server logs of statements, passwords are not for it.
			if _, err := tx.Exec(ctx, "set local log_statement = 'none'; set local log_min_duration_statement = -1; set local log_min_error_statement = 'panic'; set local synchronous_commit = 'local'"); err != nil {
				return err
			}
			for _, s := range stmts {
				if _, err := tx.Exec(ctx, s); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("roles of database %s: %w", c.cfg.Name, err)
	}
	return nil
}

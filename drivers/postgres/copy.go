package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

// spare is the free space in bytes that a copy leaves to the host.
const spare = 256 << 20

// Copy takes a base copy of up through the replication protocol and leaves a
// directory that may start as its standby. What was in the data directory is
// gone with the first byte. The mark stands from before the first change until
// all is on disk; after a failure it stays, and the next Copy starts again
// from the beginning (ErrCopyBroken; pg_basebackup cannot continue).
// The upstream's slot is made if it is missing or lost.
func (c *Cluster) Copy(ctx context.Context, up Upstream, progress func(percent int, text string)) error {
	if err := c.mustBeStopped(ctx, "copy"); err != nil {
		return err
	}
	if err := c.CanCopy(ctx, up); err != nil {
		return err
	}
	if err := c.mark(ReasonCopying); err != nil {
		return err
	}
	if err := c.emptyData(); err != nil {
		return err
	}
	args := []string{"-D", c.Data(), "-d", c.conninfo(up, ""), "-X", "stream", "--checkpoint=fast", "--progress", "--no-password"}
	if up.Slot != "" {
		args = append(args, "-S", up.Slot)
	}
	if _, err := c.tool(ctx, progress, "pg_basebackup", args...); err != nil {
		return errors.Join(ErrCopyBroken, err)
	}
	return c.unmark()
}

// CanCopy says whether Copy would begin: the upstream answers, is of this
// tenant, and fits into the free space. What is here may still run and serve.
func (c *Cluster) CanCopy(ctx context.Context, up Upstream) error {
	if err := c.prepareCopy(ctx, up); err != nil {
		return fmt.Errorf("copy database %s from %s:%d: %w", c.cfg.Name, up.Host, up.Port, err)
	}
	return nil
}

func (c *Cluster) prepareCopy(ctx context.Context, up Upstream) error {
	conn, err := c.upstream(ctx, up)
	if err != nil {
		return err
	}
	defer closeNow(conn)
	var size int64
	var tablespaces bool
	err = conn.QueryRow(ctx, `select (select sum(pg_database_size(oid)) from pg_database)::bigint,
		exists (select from pg_tablespace where spcname not in ('pg_default', 'pg_global'))`).Scan(&size, &tablespaces)
	if err != nil {
		return fmt.Errorf("size of the upstream: %w", err)
	}
	if tablespaces {
		return ErrTablespaces
	}
	if err := c.upstreamTenant(ctx, conn); err != nil {
		return err
	}
	held, err := treeSize(c.Data()) // the old directory makes room
	if err != nil {
		return err
	}
	if need, have := uint64(size)+spare, c.free()+held; have < need {
		return fmt.Errorf("%w in %s: need %d MB, have %d MB", ErrNoSpace, c.cfg.Base, need>>20, have>>20)
	}
	if up.Slot == "" {
		return nil
	}
	return c.ensureUpstreamSlot(ctx, conn, up.Slot)
}

// upstreamTenant reads the note in the upstream's data directory before
// anything is fetched or deleted: a wrong address must not bring another
// tenant's data here. An upstream without a note is taken on the operator's word.
func (c *Cluster) upstreamTenant(ctx context.Context, conn *pgx.Conn) error {
	var there bool
	var note []byte
	err := conn.QueryRow(ctx, "select (pg_stat_file($1, true)).size is not null", innerFile).Scan(&there)
	if err == nil && there {
		err = conn.QueryRow(ctx, "select pg_read_binary_file($1)", innerFile).Scan(&note)
	}
	if err != nil {
		return fmt.Errorf("tenant of the upstream: %w", err)
	}
	if t := strings.TrimSpace(string(note)); there && t != c.cfg.Tenant {
		return fmt.Errorf("it holds %q, want %q: %w", t, c.cfg.Tenant, ErrTenant)
	}
	return nil
}

// treeSize is what a directory holds on disk in bytes, 0 if it is absent.
func treeSize(dir string) (uint64, error) {
	var n uint64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		n += uint64(st.Blocks) * 512
		return nil
	})
	return n, err
}

// Rewind takes a former primary back to where up left its timeline and leaves
// a directory that may start as up's standby. It checkpoints up first, for
// pg_rewind right after a promotion would find "same timeline" and do nothing.
// ErrNotDiverged: it is a standby on up's timeline already, start it. When pg_rewind
// fails, the mark stays and ErrRewindImpossible asks for a Copy; so does a
// directory that an earlier rewind or copy left marked.
func (c *Cluster) Rewind(ctx context.Context, up Upstream, progress func(percent int, text string)) error {
	what := fmt.Sprintf("rewind database %s to %s:%d", c.cfg.Name, up.Host, up.Port)
	if err := c.mustBeStopped(ctx, "rewind"); err != nil {
		return err
	}
	if m, err := c.Marked(); m != nil {
		return fmt.Errorf("%s: an earlier attempt (%s) broke off: %w", what, m.Why, errors.Join(ErrRewindImpossible, err))
	}
	if err := c.prepareRewind(ctx, up); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := c.writeConf(c.settings(nil)); err != nil { // for its single-user recovery
		return err
	}
	if err := c.mark(ReasonRewinding); err != nil {
		return err
	}
	_, err := c.tool(ctx, progress, "pg_rewind", "--target-pgdata="+c.Data(), "--source-server="+c.conninfo(up, "postgres"),
		"--config-file="+c.path("conf", "postgresql.conf"), "--progress")
	if err != nil {
		return fmt.Errorf("%s: %w", what, errors.Join(ErrRewindImpossible, err))
	}
	return c.unmark()
}

func (c *Cluster) prepareRewind(ctx context.Context, up Upstream) error {
	if _, _, err := c.Verify(ctx); err != nil {
		return err
	}
	ctl, err := c.control(c.Data())
	if err != nil {
		return err
	}
	conn, err := c.upstream(ctx, up)
	if err != nil {
		return err
	}
	defer closeNow(conn)
	if _, err := conn.Exec(ctx, "checkpoint"); err != nil {
		return fmt.Errorf("checkpoint there: %w", err)
	}
	var tli int64
	var system int64
	err = conn.QueryRow(ctx, "select timeline_id, system_identifier from pg_control_checkpoint(), pg_control_system()").Scan(&tli, &system)
	switch {
	case err != nil:
		return fmt.Errorf("timeline there: %w", err)
	case uint64(system) != ctl.system:
		return fmt.Errorf("system %d there, %d here: %w", uint64(system), ctl.system, ErrTenant)
	case uint32(tli) == ctl.timeline && c.exists(signalFile):
		return fmt.Errorf("timeline %d: %w", tli, ErrNotDiverged)
	case uint32(tli) == ctl.timeline:
		// Both were promoted out of one parent and gave their branches the same
		// number: pg_rewind would see nothing to do.
		return fmt.Errorf("timeline %d on both sides, and this one was a primary: %w", tli, ErrRewindImpossible)
	}
	return nil
}

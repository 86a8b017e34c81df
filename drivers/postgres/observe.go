package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"komainu/failover/standby"
)

// minFree is the free space in bytes below which a server that does not answer
// is taken to have a full disk: four WAL segments.
const minFree = 64 << 20

// statusTimeout bounds the supervisor's answer after a failed look.
const statusTimeout = time.Second

// clients are the sessions that count: all but ours, over the unix socket
// as superuser, replication's, probes'. $1 is the replication role.
const clients = `backend_type = 'client backend' and pid <> pg_backend_pid()
	and not (client_addr is null and usename = '` + superuser + `')
	and usename is distinct from $1 and usename is distinct from '` + ProbeRole + `'`

const lookSQL = `
with r as materialized (select pg_is_in_recovery() as rec),
     w as materialized (select status, received_tli from pg_stat_wal_receiver),
     k as materialized (select timeline_id, redo_lsn from pg_control_checkpoint())
select rec,
  case when rec
    then greatest((select received_tli from w), (select timeline_id from k), (select min_recovery_end_timeline from pg_control_recovery()))
    else ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::int end,
  (select system_identifier from pg_control_system()),
  (case when rec then greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) else pg_current_wal_flush_lsn() end)::text,
  (case when rec then coalesce(pg_last_wal_replay_lsn(), '0/0') else '0/0' end)::text,
  coalesce((select status = 'streaming' from w), false),
  case when rec then coalesce((extract(epoch from pg_last_xact_replay_timestamp()) * 1000000)::bigint, 0) else 0 end,
  case when rec then pg_get_wal_replay_pause_state() = 'paused' else false end,
  (select timeline_id from k), (select redo_lsn from k)::text,
  coalesce((select max(s.flush_lsn) from pg_stat_replication s join pg_replication_slots p on p.active_pid = s.pid
     where s.state = 'streaming' and p.slot_name = $2), '0/0')::text,
  exists (select from pg_replication_slots where slot_name = $2 and wal_status = 'lost'),
  coalesce((select max(case when rec then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end - restart_lsn)
     from pg_replication_slots where restart_lsn is not null), 0)::bigint,
  (select count(*) from pg_stat_activity where ` + clients + `)
from r`

// Observe takes one look at the cluster; At is left to the caller. A query
// that does not answer before ctx ends is the role Hung; the caller gives every
// look a deadline. The error tells why a role is Unusable, Starting, Hung or
// Unknown, for people; only Unknown means that the look itself failed.
func (c *Cluster) Observe(ctx context.Context) (standby.Observation, error) {
	o := standby.Observation{FreeBytes: c.free(), Signal: c.exists(signalFile)}
	if processState(c.Data()) == 'T' {
		o.Role, o.Reason = standby.Hung, ReasonPaused
		return o, fmt.Errorf("postmaster of database %s is paused", c.cfg.Name)
	}
	err := c.query(ctx, &o)
	if err == nil {
		if o.Role == standby.Standby && !o.Upstream && o.FreeBytes < minFree {
			o.Reason = ReasonDiskFull // it reads, and has no room for what comes
		}
		return o, nil
	}
	// The deadline of the look is spent; the supervisor's answer has its own.
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statusTimeout)
	defer cancel()
	st, serr := c.l.Status(sctx, c.Unit())
	if serr != nil {
		return o, fmt.Errorf("status of %s: %w", c.Unit(), errors.Join(serr, err))
	}
	if !st.Running {
		return o, c.stopped(sctx, &o)
	}
	o.Role, o.Reason = why(ctx, err)
	if o.FreeBytes < minFree {
		o.Reason = ReasonDiskFull
	}
	return o, fmt.Errorf("look at database %s: %w", c.cfg.Name, err)
}

func (c *Cluster) query(ctx context.Context, o *standby.Observation) error {
	var rec bool
	var tli, ctlTLI int64
	var system, usec, slotBytes int64
	var flush, replay, redo, down string
	err := c.look.row(ctx, lookSQL, []any{c.cfg.ReplicationUser, c.cfg.PeerSlot},
		&rec, &tli, &system, &flush, &replay, &o.Upstream, &usec, &o.ReplayPaused,
		&ctlTLI, &redo, &down, &o.SlotLost, &slotBytes, &o.Sessions)
	if err != nil {
		return err
	}
	o.Role = standby.Primary
	if rec {
		o.Role = standby.Standby
	}
	o.Timeline, o.System = uint32(tli), uint64(system)
	o.ReplayedAt, o.SlotBytes = usec*1000, uint64(max(slotBytes, 0))
	var redoLSN standby.LSN
	for _, p := range []struct {
		text string
		to   *standby.LSN
	}{{flush, &o.Flush}, {replay, &o.Replay}, {redo, &redoLSN}, {down, &o.Downstream}} {
		if *p.to, err = standby.ParseLSN(p.text); err != nil {
			return err
		}
	}
	o.RestartReady = true
	if rec {
		o.RestartReady = c.scan.ready(ctx, c, uint32(ctlTLI), redoLSN, o.Flush)
	}
	return nil
}

// stopped fills in what a cluster that does not run says of itself.
func (c *Cluster) stopped(ctx context.Context, o *standby.Observation) error {
	var err error
	o.Role, o.Reason, err = c.Verify(ctx)
	if o.Role != standby.Stopped {
		return err
	}
	ctl, err := c.control(c.Data())
	if err != nil {
		o.Role, o.Reason = standby.Unusable, ReasonDamaged
		return err
	}
	o.Timeline, o.System, o.Clean, o.Flush = ctl.timeline, ctl.system, ctl.clean(), ctl.end()
	return nil
}

// why names what keeps a running server from answering.
func why(ctx context.Context, err error) (standby.Role, string) {
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && pg.Code == "57P03" && strings.Contains(pg.Message, "shutting down"):
		return standby.Starting, ReasonShuttingDown
	case errors.As(err, &pg) && pg.Code == "57P03" && strings.Contains(pg.Message, "not yet accepting"):
		return standby.Starting, ReasonInconsistent
	case errors.As(err, &pg) && pg.Code == "57P03":
		return standby.Starting, ReasonStarting
	case errors.As(err, &pg) && pg.Code == "53300":
		return standby.Hung, ReasonTooMany
	case ctx.Err() != nil || pgconn.Timeout(err):
		return standby.Hung, ReasonNoAnswer
	}
	return standby.Starting, ReasonStarting
}

func (c *Cluster) free() uint64 {
	var st unix.Statfs_t
	if unix.Statfs(c.cfg.Base, &st) != nil {
		return 0
	}
	return st.Bavail * uint64(st.Bsize)
}

// processState is the kernel's letter for the process in postmaster.pid
// (proc(5): R S D T Z ...), 0 when it does not run or is another program.
func processState(data string) byte {
	b, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := bytes.Cut(b, []byte("\n"))
	pid, err := strconv.Atoi(strings.TrimSpace(string(first)))
	if err != nil {
		return 0
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	open, shut := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || shut+2 >= len(stat) || string(stat[open+1:shut]) != "postgres" {
		return 0
	}
	if stat[shut+2] == 'Z' {
		return 0
	}
	return stat[shut+2]
}

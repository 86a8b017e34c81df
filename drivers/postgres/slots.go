package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"komainu/failover/standby"
)

// EnsureSlots makes on a running primary the physical slot of the peer
// (Config.PeerSlot) and, in every database, the orphan slot. A peer slot that
// was invalidated stays as it is: a fresh copy replaces it.
func (c *Cluster) EnsureSlots(ctx context.Context) error {
	if c.cfg.PeerSlot != "" {
		if err := c.ord.exec(ctx, physicalSlot, c.cfg.PeerSlot); err != nil {
			return fmt.Errorf("slot %s on database %s: %w", c.cfg.PeerSlot, c.cfg.Name, err)
		}
	}
	return c.logicalSlots(ctx, OrphanSlot)
}

const physicalSlot = `select pg_create_physical_replication_slot($1::name, true)
	where not exists (select from pg_replication_slots where slot_name = $1::name)`

// logicalSlots makes the slot prefix_OID in every database that lacks it, or
// whose slot was invalidated.
func (c *Cluster) logicalSlots(ctx context.Context, prefix string) error {
	dbs, err := c.databases(ctx)
	if err != nil {
		return err
	}
	for db, oid := range dbs {
		slot := fmt.Sprintf("%s_%d", prefix, oid)
		s := c.inDatabase(db)
		err := s.exec(ctx, `select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1 and wal_status = 'lost'`, slot)
		if err == nil {
			err = s.exec(ctx, `select pg_create_logical_replication_slot($1::name, 'test_decoding')
				where not exists (select from pg_replication_slots where slot_name = $1::name)`, slot)
		}
		if err != nil {
			return fmt.Errorf("slot %s in %s of cluster %s: %w", slot, db, c.cfg.Name, err)
		}
	}
	return nil
}

// EnsureReturnSlot makes on a standby the physical slot that keeps the WAL
// which the other side needs for its return, from the last restartpoint on.
func (c *Cluster) EnsureReturnSlot(ctx context.Context) error {
	if err := c.ord.exec(ctx, physicalSlot, ReturnSlot); err != nil {
		return fmt.Errorf("slot %s on database %s: %w", ReturnSlot, c.cfg.Name, err)
	}
	return nil
}

// AdvanceReturnSlot lets go of WAL before the last restartpoint. On a primary it
// does nothing: after a promotion the slot stays until the cluster starts as a
// standby again, which drops all of them.
func (c *Cluster) AdvanceReturnSlot(ctx context.Context) error {
	err := c.ord.exec(ctx, `select pg_replication_slot_advance(slot_name, redo_lsn)
		from pg_replication_slots, pg_control_checkpoint()
		where slot_name = $1 and pg_is_in_recovery() and not active and redo_lsn > restart_lsn`, ReturnSlot)
	if err != nil {
		return fmt.Errorf("advance slot %s on database %s: %w", ReturnSlot, c.cfg.Name, err)
	}
	return nil
}

// AdvanceOrphanSlot lets go of what the other side has confirmed flushed up to
// `to`; commits after it stay listable.
func (c *Cluster) AdvanceOrphanSlot(ctx context.Context, to standby.LSN) error {
	return c.advanceLogical(ctx, OrphanSlot, to)
}

// AdvanceJournalSlot lets go of journaled changes up to `to`.
func (c *Cluster) AdvanceJournalSlot(ctx context.Context, to standby.LSN) error {
	return c.advanceLogical(ctx, JournalSlot, to)
}

func (c *Cluster) advanceLogical(ctx context.Context, prefix string, to standby.LSN) error {
	slots, err := c.slots(ctx, c.ord, prefix)
	if err != nil {
		return err
	}
	for _, s := range slots {
		err := c.inDatabase(s.database).exec(ctx, `select pg_replication_slot_advance(slot_name, least($2::text::pg_lsn, pg_current_wal_flush_lsn()))
			from pg_replication_slots where slot_name = $1 and not active and wal_status <> 'lost'
			and confirmed_flush_lsn < least($2::text::pg_lsn, pg_current_wal_flush_lsn())`, s.name, to.String())
		if err != nil {
			return fmt.Errorf("advance slot %s of cluster %s to %s: %w", s.name, c.cfg.Name, to, err)
		}
	}
	return nil
}

// CreateJournalSlot starts the journal of local changes (AT-19): call it right
// after Promote and before clients may write, for a slot records only what
// begins after it. It waits for transactions that are open.
func (c *Cluster) CreateJournalSlot(ctx context.Context) error {
	return c.logicalSlots(ctx, JournalSlot)
}

type logicalSlot struct {
	name, database string
	lost           bool
}

func (c *Cluster) slots(ctx context.Context, s *session, prefix string) ([]logicalSlot, error) {
	var out []logicalSlot
	err := s.do(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `select slot_name::text, database::text, coalesce(wal_status = 'lost', true) from pg_replication_slots
			where slot_type = 'logical' and starts_with(slot_name, $1) order by 1`, prefix+"_")
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (logicalSlot, error) {
			var l logicalSlot
			err := r.Scan(&l.name, &l.database, &l.lost)
			return l, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("slots of cluster %s: %w", c.cfg.Name, err)
	}
	return out, nil
}

// ensureUpstreamSlot makes our slot on the primary anew, since a copy starts
// there and an old slot may be lost. Nobody else uses it.
func (c *Cluster) ensureUpstreamSlot(ctx context.Context, conn *pgx.Conn, slot string) error {
	_, err := conn.Exec(ctx, `select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1 and wal_status = 'lost'`, slot)
	if err == nil {
		_, err = conn.Exec(ctx, physicalSlot, slot)
	}
	if err != nil {
		return fmt.Errorf("slot %s on the upstream of database %s: %w", slot, c.cfg.Name, err)
	}
	return nil
}

package postgres

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"komainu/failover/standby"
)

// TestLife takes one pair of clusters through what happens to it in service.
// The steps build on each other, since making clusters is what costs.
func TestLife(t *testing.T) {
	b := newBed(t)
	for _, step := range []struct {
		name string
		run  func(*bed)
	}{
		{"init and observe", initAndObserve},
		{"slot over its limit", lostSlot},
		{"base copy broken and made again", baseCopy},
		{"foreign tenant", foreignTenant},
		{"drain", drain},
		{"paused process", paused},
		{"restart readiness", restartReadiness},
		{"planned hand-over and back", handOver},
		{"promotion with inherited sync names", promotion},
		{"fork, orphans, rewind", forkAndRewind},
	} {
		start := time.Now()
		if !t.Run(step.name, func(st *testing.T) { b.t = st; step.run(b); b.t = t }) {
			return
		}
		t.Logf("%s: %v", step.name, time.Since(start).Round(time.Millisecond))
	}
}

func initAndObserve(b *bed) {
	t, dc := b.t, b.dc
	if o, err := dc.Observe(b.ctx); o.Role != standby.Absent || err != nil || o.FreeBytes == 0 {
		t.Fatalf("before init: %+v, %v", o, err)
	}
	wantErr(t, dc.StartPrimary(b.ctx), ErrAbsent)
	must(t, dc.Init(b.ctx))
	wantErr(t, dc.Init(b.ctx), ErrExists)
	if o, err := dc.Observe(b.ctx); o.Role != standby.Stopped || !o.Clean || err != nil {
		t.Fatalf("after init: %+v, %v", o, err)
	}
	must(t, dc.StartPrimary(b.ctx))
	must(t, dc.StartPrimary(b.ctx)) // idempotent
	o := b.await(dc, "primary", is(standby.Primary))
	if o.Timeline != 1 || o.System == 0 || o.Flush == 0 || o.Sessions != 0 || !o.RestartReady {
		t.Fatalf("primary: %+v", o)
	}
	must(t, dc.EnsureRoles(b.ctx, replPassword, "probe"))
	must(t, dc.EnsureRoles(b.ctx, replPassword, "")) // idempotent
	must(t, dc.EnsureSlots(b.ctx))
	must(t, dc.EnsureSlots(b.ctx))
	b.sql(dc, "create role clerk login password '"+clerkPassword+"'")
	b.sql(dc, "create table ledger (id int primary key, note text)")
	b.sql(dc, "grant all on ledger to clerk")
	b.sql(dc, "create sequence certificate; create sequence down increment -1 minvalue -100")
	// What a base copy inherits; the command line must outrank it on both sides.
	b.sql(dc, "alter system set synchronous_standby_names = 'nobody'")
}

// lostSlot lets the peer's slot exceed its limit; the copy that follows makes
// it anew.
func lostSlot(b *bed) {
	t, dc := b.t, b.dc
	restart := func(limit uint64) {
		must(t, dc.Stop(b.ctx, Fast))
		dc.cfg.MaxSlotWAL = limit
		must(t, dc.StartPrimary(b.ctx))
		b.await(dc, "primary", is(standby.Primary))
	}
	restart(1 << 20)
	for range 4 {
		b.sql(dc, "insert into ledger values (0, 'wal'); delete from ledger where id = 0")
		b.sql(dc, "select pg_switch_wal()")
	}
	must(t, dc.Checkpoint(b.ctx))
	if o, err := dc.Observe(b.ctx); !o.SlotLost {
		t.Errorf("slot over its limit: %+v, %v", o, err)
	}
	restart(1 << 30)
	must(t, dc.EnsureSlots(b.ctx)) // the orphan slot at once, the peer's by the copy
}

func baseCopy(b *bed) {
	t, hall := b.t, b.hall
	cfg := hall.cfg
	cfg.Tenant = "tsukimi-cho/resident"
	wantErr(t, New(cfg, hall.l).Copy(b.ctx, b.up(b.dc), nil), ErrTenant)
	if _, err := os.Stat(hall.Data()); err == nil {
		t.Error("another tenant's data was fetched")
	}
	ctx, cancel := context.WithCancel(b.ctx)
	err := hall.Copy(ctx, b.up(b.dc), func(int, string) { cancel() })
	wantErr(t, err, ErrCopyBroken)
	wantErr(t, err, context.Canceled)
	wantErr(t, hall.StartPrimary(b.ctx), ErrNotStartable)
	wantErr(t, hall.StartStandby(b.ctx, b.up(b.dc)), ErrNotStartable)
	if o, err := hall.Observe(b.ctx); o.Role != standby.Unusable || o.Reason != ReasonCopying {
		t.Fatalf("marked: %+v, %v", o, err)
	}

	last := -1
	must(t, hall.Copy(b.ctx, b.up(b.dc), func(p int, _ string) { last = p }))
	if last != 100 {
		t.Errorf("last progress %d", last)
	}
	wantErr(t, hall.StartPrimary(b.ctx), ErrStandbySignal)
	must(t, hall.StartStandby(b.ctx, b.up(b.dc)))
	o := b.await(hall, "streaming", streaming)
	if o.Timeline != 1 || !o.RestartReady || o.ReplayPaused {
		t.Errorf("standby: %+v", o)
	}
	b.sql(b.dc, "insert into ledger values (1, 'before')")
	b.caughtUp(b.dc, hall)
	o = b.await(hall, "time of replay", func(o standby.Observation) bool { return o.ReplayedAt != 0 })
	if age := time.Since(time.Unix(0, o.ReplayedAt)); age < 0 || age > time.Minute {
		t.Errorf("replayed %v ago", age)
	}
	b.await(b.dc, "confirmation", func(p standby.Observation) bool { return p.Downstream >= o.Replay && !p.SlotLost })
	if n := b.number(b.dc, "select count(*)::int from pg_stat_replication join pg_stat_ssl using (pid) where ssl"); n != 1 {
		t.Error("replication runs without TLS")
	}
	must(t, hall.EnsureReturnSlot(b.ctx))
	must(t, hall.AdvanceReturnSlot(b.ctx))
	must(t, b.dc.AdvanceOrphanSlot(b.ctx, o.Flush))
	wantErr(t, hall.Copy(b.ctx, b.up(b.dc), nil), ErrRunning)
}

func foreignTenant(b *bed) {
	cfg := b.hall.cfg
	cfg.Tenant = "tsukimi-cho/resident"
	other := New(cfg, b.hall.l)
	_, reason, err := other.Verify(b.ctx)
	wantErr(b.t, err, ErrTenant)
	if reason != ReasonTenant {
		b.t.Errorf("reason %q", reason)
	}
	wantErr(b.t, other.StartPrimary(b.ctx), ErrTenant)
	cfg.Bin = "/nonexistent"
	_, reason, err = New(cfg, b.hall.l).Verify(b.ctx)
	wantErr(b.t, err, ErrNoPostgres)
	if reason != ReasonNoPostgres {
		b.t.Errorf("reason %q", reason)
	}
	version := filepath.Join(b.hall.Data(), "PG_VERSION")
	must(b.t, os.WriteFile(version, []byte("14\n"), 0o600))
	_, _, err = b.hall.Verify(b.ctx)
	wantErr(b.t, err, ErrVersion)
	must(b.t, os.WriteFile(version, []byte("15\n"), 0o600))
}

func drain(b *bed) {
	t := b.t
	idle, finishing, stuck := b.clerk(b.dc), b.clerk(b.dc), b.clerk(b.dc)
	done, err := finishing.Begin(b.ctx)
	must(t, err)
	_, err = done.Exec(b.ctx, "insert into ledger values (2, 'drained')")
	must(t, err)
	_, err = stuck.Exec(b.ctx, "begin; insert into ledger values (3, 'aborted')")
	must(t, err)
	if o, _ := b.dc.Observe(b.ctx); o.Sessions != 3 {
		t.Errorf("%d sessions", o.Sessions)
	}
	type result struct {
		DrainResult
		err error
	}
	out := make(chan result, 1)
	go func() {
		r, err := b.dc.Drain(b.ctx, time.Now().Add(400*time.Millisecond))
		out <- result{r, err}
	}()
	must(t, until(b.ctx, tick, func() (bool, error) { // the idle one goes at once
		var n int
		err := b.dc.look.row(b.ctx, "select count(*) from pg_stat_activity where usename = 'clerk'", nil, &n)
		return n == 2, err
	}))
	must(t, done.Commit(b.ctx))
	r := <-out
	must(t, r.err)
	if want := (DrainResult{Idle: 2, Aborted: 1}); r.DrainResult != want {
		t.Errorf("drained %+v, want %+v", r.DrainResult, want)
	}
	_, err = idle.Exec(b.ctx, "select 1")
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "57P01" {
		t.Errorf("idle session got %v, want 57P01", err)
	}
	if n := b.number(b.dc, "select count(*) from ledger where id in (2, 3)"); n != 1 {
		t.Errorf("%d of the two rows", n)
	}
}

func paused(b *bed) {
	must(b.t, b.hall.l.Signal(b.ctx, b.hall.Unit(), syscall.SIGSTOP))
	b.await(b.hall, "hung", func(o standby.Observation) bool { return o.Role == standby.Hung && o.Reason == ReasonPaused })
	must(b.t, b.hall.l.Signal(b.ctx, b.hall.Unit(), syscall.SIGCONT))
	b.await(b.hall, "standby", is(standby.Standby))
}

func restartReadiness(b *bed) {
	t := b.t
	open := b.clerk(b.dc)
	_, err := open.Exec(b.ctx, "begin")
	must(t, err)
	_, err = open.Exec(b.ctx, strings.Repeat("savepoint s; insert into ledger select max(id) + 1, 'sub' from ledger;", 100))
	must(t, err)
	must(t, b.dc.Checkpoint(b.ctx))
	b.caughtUp(b.dc, b.hall)
	must(t, b.hall.Checkpoint(b.ctx)) // a restartpoint here
	b.await(b.hall, "not ready", func(o standby.Observation) bool { return !o.RestartReady })
	if ok, reason, err := b.hall.RestartReady(b.ctx); ok || reason != ReasonInconsistent || err != nil {
		t.Errorf("ready %v, %q, %v", ok, reason, err)
	}
	// The answer is true to life: restarted without its primary it stays closed.
	must(t, b.hall.Stop(b.ctx, Fast))
	gone := b.up(b.dc)
	gone.Port = freePort(t)
	must(t, b.hall.StartStandby(b.ctx, gone))
	b.await(b.hall, "closed", func(o standby.Observation) bool { return o.Role == standby.Starting && o.Reason == ReasonInconsistent })
	must(t, b.hall.Stop(b.ctx, Fast))

	must(t, b.hall.StartStandby(b.ctx, b.up(b.dc)))
	_, err = open.Exec(b.ctx, "rollback")
	must(t, err)
	must(t, open.Close(b.ctx))
	must(t, b.dc.Checkpoint(b.ctx))
	b.await(b.hall, "ready", func(o standby.Observation) bool { return streaming(o) && o.RestartReady })
}

// handOver moves the primary to the hall and back; nobody needs a rewind.
func handOver(b *bed) {
	b.planned(b.dc, b.hall)
	b.planned(b.hall, b.dc)
}

func (b *bed) planned(from, to *Cluster) {
	t := b.t
	t.Helper()
	must(t, to.EnsureReturnSlot(b.ctx))
	must(t, from.Checkpoint(b.ctx))
	must(t, from.Stop(b.ctx, Fast))
	o := b.await(from, "stopped", is(standby.Stopped))
	if !o.Clean || o.Flush == 0 {
		t.Fatalf("stopped: %+v", o)
	}
	b.await(to, "shutdown checkpoint "+o.Flush.String(), func(s standby.Observation) bool { return s.Replay >= o.Flush })
	if s, _ := to.Observe(b.ctx); s.Replay != o.Flush {
		t.Errorf("replayed to %v, the shutdown checkpoint ends at %v", s.Replay, o.Flush)
	}
	reader := b.clerk(to)
	start := time.Now()
	must(t, to.HoldWrites(b.ctx))
	must(t, to.Promote(b.ctx))
	t.Logf("promoted in %v", time.Since(start).Round(time.Millisecond))
	must(t, to.Promote(b.ctx)) // idempotent
	_, err := reader.Exec(b.ctx, "select count(*) from ledger; insert into ledger values (-1, 'too early')")
	if pg := new(pgconn.PgError); !errors.As(err, &pg) || pg.Code != "25006" {
		t.Errorf("a write before ReleaseWrites: %v, want 25006", err)
	}
	must(t, to.EnsureSlots(b.ctx))
	must(t, to.ReleaseWrites(b.ctx))
	must(t, to.ReleaseWrites(b.ctx)) // nothing is held any more
	_, err = reader.Exec(b.ctx, "begin; insert into ledger values (-1, 'in time'); rollback")
	must(t, err)
	must(t, from.StartStandby(b.ctx, b.up(to)))
	b.await(from, "streaming", streaming)
	b.caughtUp(to, from)
	if n := b.number(from, "select count(*) from pg_replication_slots where slot_type = 'logical' or slot_name = 'komainu_peer'"); n != 0 {
		t.Errorf("%d slots of a primary on a standby", n)
	}
	if f, p := b.await(from, "streaming", streaming), b.await(to, "primary", is(standby.Primary)); f.Timeline != p.Timeline {
		t.Errorf("timelines %d and %d", f.Timeline, p.Timeline)
	}
}

func promotion(b *bed) {
	t := b.t
	b.await(b.dc, "primary", is(standby.Primary))
	inherited, err := os.ReadFile(filepath.Join(b.hall.Data(), "postgresql.auto.conf"))
	must(t, err)
	if !strings.Contains(string(inherited), "nobody") {
		t.Fatalf("the copy did not inherit synchronous_standby_names: %s", inherited)
	}
	must(t, b.dc.Checkpoint(b.ctx))
	b.caughtUp(b.dc, b.hall)
	must(t, b.hall.EnsureReturnSlot(b.ctx))
	o := b.await(b.hall, "standby", is(standby.Standby))
	must(t, b.dc.AdvanceOrphanSlot(b.ctx, o.Flush))
	b.sql(b.dc, "select nextval('certificate')")
	b.caughtUp(b.dc, b.hall)
	// The line is cut: the standby loses its primary, which goes on writing. It
	// was restarted, so it does not even open for reads, and is promoted all the same.
	open := b.clerk(b.dc)
	_, err = open.Exec(b.ctx, "begin;"+strings.Repeat("savepoint s; insert into ledger select max(id) + 1, 'sub' from ledger;", 100))
	must(t, err)
	must(t, b.dc.Checkpoint(b.ctx))
	b.caughtUp(b.dc, b.hall)
	must(t, b.hall.Checkpoint(b.ctx))
	must(t, b.hall.Stop(b.ctx, Fast))
	gone := b.up(b.dc)
	gone.Port = freePort(t)
	must(t, b.hall.StartStandby(b.ctx, gone))
	b.await(b.hall, "closed", func(o standby.Observation) bool { return o.Reason == ReasonInconsistent })
	start := time.Now()
	must(t, b.hall.Promote(b.ctx))
	t.Logf("promoted in %v", time.Since(start).Round(time.Millisecond))
	must(t, b.hall.CreateJournalSlot(b.ctx))
	n, err := b.hall.AdvanceSequences(b.ctx, 1000)
	must(t, err)
	if n != 2 {
		t.Errorf("%d sequences advanced, want 2", n)
	}
	if v := b.number(b.hall, "select nextval('certificate')"); v < 1001 {
		t.Errorf("next certificate %d", v)
	}
	if v := b.number(b.hall, "select last_value from down"); v != -100 {
		t.Errorf("a sequence at %d, want its end", v)
	}
	b.sql(b.hall, "insert into ledger values (100, 'local')")
	journal, err := b.hall.ReadJournal(b.ctx, 0, 10)
	must(t, err)
	if len(journal) != 1 || journal[0].Rows[0] != "table public.ledger: INSERT: id[integer]:100 note[text]:'local'" {
		t.Errorf("journal %+v", journal)
	}
	must(t, b.hall.AdvanceJournalSlot(b.ctx, journal[0].LSN))
	if rest, err := b.hall.ReadJournal(b.ctx, 0, 10); len(rest) != 0 || err != nil {
		t.Errorf("journal after advance %+v, %v", rest, err)
	}
}

func forkAndRewind(b *bed) {
	t, dc := b.t, b.dc
	b.sql(dc, "insert into ledger values (200, 'orphan')")
	b.sql(dc, "begin; update ledger set note = 'changed' where id = 1; delete from ledger where id = 2; insert into ledger values (201, 'x'), (202, 'y'); commit")
	b.sql(dc, "begin; insert into ledger values (203, 'never'); rollback")
	closed := time.Now().Add(time.Hour)
	must(t, dc.Stop(b.ctx, Immediate)) // the fence
	if o, _ := dc.Observe(b.ctx); o.Role != standby.Stopped || o.Clean || o.Flush != 0 {
		t.Errorf("after the fence: %+v", o)
	}
	_, at, err := b.hall.SwitchPoint(b.ctx)
	must(t, err)
	kept, err := dc.Keep(b.ctx, "term-7", func(int, string) {})
	must(t, err)
	again, err := dc.Keep(b.ctx, "term-7", nil)
	must(t, err)
	if again != kept {
		t.Errorf("kept %s, then %s", kept, again)
	}
	list, err := dc.ListOrphans(b.ctx, kept, at, closed, 3)
	must(t, err)
	type row struct {
		Total   int
		Rows    []string
		InDoubt bool
	}
	var got []row
	for _, o := range list {
		if o.XID == 0 || o.LSN <= at || time.Since(o.Time).Abs() > time.Minute {
			t.Errorf("orphan %+v", o)
		}
		got = append(got, row{o.RowsTotal, o.Rows, o.InDoubt})
	}
	want := []row{
		{1, []string{"table public.ledger: INSERT: id[integer]:200 note[text]:'orphan'"}, false},
		{4, []string{
			"table public.ledger: UPDATE: id[integer]:1 note[text]:'changed'",
			"table public.ledger: DELETE: id[integer]:2",
			"table public.ledger: INSERT: id[integer]:201 note[text]:'x'"}, false},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("orphans (-want +got):\n%s", d)
	}
	doubt, err := dc.ListOrphans(b.ctx, kept, at, list[1].Time, 0)
	must(t, err)
	if !doubt[1].InDoubt {
		t.Errorf("a commit at the moment of closing is not in doubt: %+v", doubt[1])
	}
	_, err = dc.ListOrphans(b.ctx, kept, 1, closed, 0) // before the slot began
	wantErr(t, err, ErrNoOrphanSlot)

	// Killed in the middle: the mark holds whatever pg_rewind left.
	spare, err := dc.Keep(b.ctx, "spare", nil)
	must(t, err)
	ctx, cancel := context.WithCancel(b.ctx)
	err = dc.Rewind(ctx, b.up(b.hall), func(int, string) { cancel() })
	wantErr(t, err, ErrRewindImpossible)
	wantErr(t, err, context.Canceled)
	wantErr(t, dc.StartPrimary(b.ctx), ErrNotStartable)
	wantErr(t, dc.StartStandby(b.ctx, b.up(b.hall)), ErrNotStartable)
	wantErr(t, dc.Promote(b.ctx), ErrNotStartable)
	if o, _ := dc.Observe(b.ctx); o.Role != standby.Unusable || o.Reason != ReasonRewinding {
		t.Errorf("marked: %+v", o)
	}
	wantErr(t, dc.Rewind(b.ctx, b.up(b.hall), nil), ErrRewindImpossible)
	// Back to the moment before, to see the whole rewind too.
	must(t, os.RemoveAll(dc.Data()))
	must(t, os.Rename(filepath.Join(spare, "data"), dc.Data()))
	must(t, os.Remove(dc.path(markFile)))

	start := time.Now()
	must(t, dc.Rewind(b.ctx, b.up(b.hall), func(int, string) {}))
	t.Logf("rewound in %v", time.Since(start).Round(time.Millisecond))
	wantErr(t, dc.StartPrimary(b.ctx), ErrStandbySignal)
	must(t, b.hall.EnsureSlots(b.ctx))
	must(t, dc.StartStandby(b.ctx, b.up(b.hall)))
	b.caughtUp(b.hall, dc)
	if n := b.number(dc, "select count(*) from ledger where id in (1, 2, 100, 200, 201)"); n != 3 {
		t.Errorf("%d rows after the rewind, want 1, 2 and 100", n)
	}
	wantErr(t, b.hall.StartStandby(b.ctx, b.up(dc)), ErrRunning)
	must(t, dc.Stop(b.ctx, Fast))
	wantErr(t, dc.Rewind(b.ctx, b.up(b.hall), nil), ErrNotDiverged)
}

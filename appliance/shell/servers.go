package shell

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"komainu/appliance/agent"
	"komainu/drivers/clock"
	"komainu/drivers/files"
	"komainu/drivers/postgres"
	"komainu/drivers/units"
	"komainu/failover/standby"
)

// Looks. A server that doesn't answer within lookBound is hung; that is
// longer than any garbage collection of the machine, shorter than a clerk's
// patience.
const (
	lookBound   = time.Second
	followEvery = 20 * time.Millisecond // a DC server that follows the town hall: a hand-over waits for its position
	startBound  = 3 * time.Second       // how long a start is followed before it is left to the looks
	returnEvery = 10 * time.Second
	journalEach = 2 * time.Second
	maxListed   = 20 // texts kept of each listed transaction when the configuration says nothing
)

// launcher makes the supervisor's client a postgres.Launcher.
type launcher struct{ units.Client }

func (l launcher) Start(ctx context.Context, u units.Unit) error {
	_, err := l.Client.Start(ctx, u)
	return err
}

func (l launcher) Signal(ctx context.Context, name string, sig syscall.Signal) error {
	return l.Client.Signal(ctx, name, sig)
}

func (l launcher) Wait(ctx context.Context, name string) error {
	_, err := l.Client.Wait(ctx, name)
	return err
}

func (l launcher) Status(ctx context.Context, name string) (units.Status, error) {
	st, err := l.Client.Status(ctx, name)
	if errors.Is(err, units.ErrUnknown) {
		return units.Status{Name: name}, nil
	}
	return st, err
}

// server is one cluster; mu keeps looks and operations apart.
type server struct {
	Database
	cluster *postgres.Cluster
	l       launcher
	mu      sync.Mutex
	fork    standby.LSN
	forkOf  uint32    // timeline for which fork holds
	moved   time.Time // when the slots were last moved up
	written time.Time // when local changes were last written down
}

func newServer(d Database, l launcher) *server {
	if d.MaxRows == 0 {
		d.MaxRows = maxListed
	}
	return &server{Database: d, cluster: postgres.New(d.Config, l), l: l}
}

// observe takes one look. The caller holds mu.
func (v *server) observe(ctx context.Context) standby.Observation {
	lctx, cancel := context.WithTimeout(ctx, lookBound)
	defer cancel()
	o, _ := v.cluster.Observe(lctx) // the reason stands in the observation
	o.At = clock.Now()
	if o.Role == standby.Primary && o.Timeline > 1 && o.Timeline != v.forkOf {
		if _, lsn, err := v.cluster.SwitchPoint(lctx); err == nil {
			v.fork, v.forkOf = lsn, o.Timeline
		}
	}
	if o.Role == standby.Primary && o.Timeline == v.forkOf {
		o.Fork = v.fork
	}
	return o
}

// look watches one server: regularly, and at once when its process ends.
func (s *Shell) look(ctx context.Context, v *server) error {
	every := time.NewTicker(s.cfg.Spec.LookEvery)
	defer every.Stop()
	exits := make(chan struct{}, 1)
	var watcher sync.WaitGroup
	defer watcher.Wait()
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watcher.Go(func() {
		for wctx.Err() == nil {
			_ = v.l.Watch(wctx, func(st units.Status) { // ends with the supervisor: asked again below
				if st.Name == v.cluster.Unit() && !st.Running {
					select {
					case exits <- struct{}{}:
					default:
					}
				}
			})
			select {
			case <-wctx.Done():
			case <-time.After(s.cfg.Spec.LookEvery):
			}
		}
	})
	var follows, quick bool
	for {
		if v.mu.TryLock() { // else an operation is under way and looks for itself
			o := v.observe(ctx)
			v.upkeep(ctx, o)
			follows = !v.Hosted && o.Role == standby.Standby
			s.event(ctx, agent.Looked{Database: v.Name, Observation: o})
			v.mu.Unlock()
		}
		if follows != quick {
			quick = follows
			if quick {
				every.Reset(followEvery)
			} else {
				every.Reset(s.cfg.Spec.LookEvery)
			}
		}
		select {
		case <-every.C:
		case <-exits:
		case <-ctx.Done():
			return nil
		}
	}
}

// upkeep moves slots up and writes local changes down, so that neither piles up.
func (v *server) upkeep(ctx context.Context, o standby.Observation) {
	if !v.Hosted {
		return
	}
	now := time.Now()
	serves := o.Role == standby.Standby || o.Role == standby.Primary
	if serves && now.Sub(v.moved) > returnEvery {
		v.moved = now
		if v.cluster.EnsureReturnSlot(ctx) == nil {
			_ = v.cluster.AdvanceReturnSlot(ctx) // tried again in a moment; the WAL kept is shown
		}
	}
	if o.Role == standby.Primary && now.Sub(v.written) > journalEach {
		v.written = now
		_ = v.writeChanges(ctx, o.Timeline)
	}
}

// writeChanges appends what was changed here since the promotion to the
// record of the outage (AT-19), then lets the log go.
func (v *server) writeChanges(ctx context.Context, timeline uint32) error {
	changes, err := v.cluster.ReadJournal(ctx, 10_000, v.MaxRows)
	if err != nil || len(changes) == 0 {
		return err
	}
	path := filepath.Join(v.Archive, fmt.Sprintf("changes-%d.ndjson", timeline))
	if err := os.MkdirAll(v.Archive, 0o700); err != nil {
		return err
	}
	if err := files.Append(path, changes...); err != nil {
		return err
	}
	return v.cluster.AdvanceJournalSlot(ctx, changes[len(changes)-1].LSN)
}

// serve runs an operation on a server and looks at it afterwards.
func (s *Shell) serve(ctx context.Context, a agent.Action, w agent.Server) agent.Done {
	v := s.servers[w.Database]
	if v == nil {
		return failed("internal", fmt.Errorf("no database %q here", w.Database))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch w.Op {
	case agent.Promote, agent.StartPrimary, agent.Rewind, agent.Copy:
		if err := s.authorised(w.Database, a.Term); err != nil {
			return failed("stale-term", err)
		}
	}
	val := agent.Observed{}
	progress := func(percent int, _ string) {
		s.event(ctx, agent.Progress{ID: a.ID, Percent: uint8(min(max(percent, 0), 100))})
	}
	code, err := v.operate(ctx, w, &val, progress)
	// The look has its own time: a late operation needs it most.
	val.Observation = v.observe(context.WithoutCancel(ctx))
	d := result(ctx, err, code)
	d.Value = val
	return d
}

// operate does one operation; the code is for its failure.
func (v *server) operate(ctx context.Context, w agent.Server, val *agent.Observed, progress func(int, string)) (string, error) {
	c := v.cluster
	up := v.upstream(w.Upstream)
	switch w.Op {
	case agent.StartStandby:
		v.moved = time.Time{} // the start drops slots: the next look makes the one for a return anew
		if err := c.StartStandby(ctx, up); err != nil {
			return "start-failed", err
		}
		return "start-failed", v.follow(ctx)
	case agent.StartPrimary:
		if err := c.StartPrimary(ctx); err != nil {
			return "start-failed", err
		}
		return "start-failed", v.follow(ctx)
	case agent.StopFast:
		return "stop-failed", c.Stop(ctx, postgres.Fast)
	case agent.StopImmediate:
		return "stop-failed", c.Stop(ctx, postgres.Immediate)
	case agent.Promote:
		return "promote-failed", v.promote(ctx)
	case agent.Copy:
		err := c.CanCopy(ctx, up) // before it is stopped: an old copy still serves reads
		if err == nil {
			if err := c.Stop(ctx, postgres.Fast); err != nil {
				return "stop-failed", err
			}
			err = c.Copy(ctx, up, progress)
		}
		if errors.Is(err, postgres.ErrNoSpace) {
			return "disk-full", err
		}
		return "copy-failed", err
	case agent.Keep:
		path, err := c.Keep(ctx, "term-"+w.Text, progress)
		val.Text = path
		return "keep-failed", err
	case agent.List:
		return "list-failed", v.list(ctx, w, val)
	case agent.Rewind:
		err := c.Rewind(ctx, up, progress)
		switch {
		case errors.Is(err, postgres.ErrNotDiverged):
			return "", nil // it only has to follow
		case errors.Is(err, postgres.ErrRewindImpossible):
			return "rewind-impossible", err
		}
		return "rewind-failed", err
	case agent.Checkpoint:
		return "checkpoint-failed", c.Checkpoint(ctx)
	case agent.Drain:
		return "drain-failed", v.drain(ctx, w.Grace, val)
	case agent.OpenWrites:
		if w.Gap > 0 {
			if _, err := c.AdvanceSequences(ctx, w.Gap); err != nil {
				return "open-writes-failed", err
			}
		}
		if err := c.CreateJournalSlot(ctx); err != nil {
			return "open-writes-failed", err
		}
		return "open-writes-failed", c.ReleaseWrites(ctx)
	case agent.Slots:
		return "slots-failed", v.slots(ctx)
	}
	return "internal", fmt.Errorf("no operation %v", w.Op)
}

func (v *server) upstream(hostPort string) postgres.Upstream {
	ap, err := netip.ParseAddrPort(hostPort)
	if err != nil {
		return postgres.Upstream{}
	}
	return postgres.Upstream{Host: ap.Addr().String(), Port: ap.Port(), Slot: v.Slot}
}

// follow waits a moment for a started server to answer, so that what comes
// next needn't wait for a look.
func (v *server) follow(ctx context.Context) error {
	deadline := time.Now().Add(startBound)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		o := v.observe(ctx)
		if o.Role != standby.Starting || o.Reason == standby.ReasonNotConsistent {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// promote keeps the town hall's clients reading, and only that, until
// OpenWrites. A server that nobody can read from yet has no such clients.
func (v *server) promote(ctx context.Context) error {
	if v.Hosted {
		if o := v.observe(ctx); o.Role == standby.Standby {
			if err := v.cluster.HoldWrites(ctx); err != nil {
				return err
			}
		}
	}
	return v.cluster.Promote(ctx)
}

func (v *server) drain(ctx context.Context, grace time.Duration, val *agent.Observed) error {
	r, err := v.cluster.Drain(ctx, time.Now().Add(grace))
	val.Ended, val.Aborted = r.Idle, r.Aborted
	if err != nil {
		return err
	}
	if o := v.observe(ctx); v.Hosted && o.Role == standby.Primary {
		return v.writeChanges(ctx, o.Timeline)
	}
	return nil
}

// slots makes the slots that a serving primary needs, and moves the orphan
// list's up to what the town hall has confirmed.
func (v *server) slots(ctx context.Context) error {
	if err := v.cluster.EnsureSlots(ctx); err != nil {
		return err
	}
	if err := v.cluster.ReleaseWrites(ctx); err != nil { // a copy may have brought it along
		return err
	}
	if o := v.observe(ctx); o.Downstream > 0 {
		return v.cluster.AdvanceOrphanSlot(ctx, o.Downstream)
	}
	return nil
}

// list writes the orphans down and counts them.
func (v *server) list(ctx context.Context, w agent.Server, val *agent.Observed) error {
	var closed time.Time
	if w.ClosedAt > 0 {
		closed = time.Unix(0, w.ClosedAt)
	}
	list, err := v.cluster.ListOrphans(ctx, w.Text, w.Fork, closed, v.MaxRows)
	if err != nil && !errors.Is(err, postgres.ErrStandbySignal) { // a standby has no commits of its own
		return err
	}
	if err := os.MkdirAll(v.Archive, 0o700); err != nil {
		return err
	}
	path := filepath.Join(v.Archive, "orphans-"+filepath.Base(w.Text)+".ndjson")
	var lines bytes.Buffer
	for _, o := range list {
		if err := json.NewEncoder(&lines).Encode(o); err != nil {
			return err
		}
	}
	if err := files.Replace(path, lines.Bytes(), 0o600); err != nil {
		return err
	}
	val.Count = int32(len(list))
	val.Text = path
	return nil
}

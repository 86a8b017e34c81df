package postgres

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"komainu/drivers/files"
	"komainu/failover/standby"
)

// StopMode is how a server is stopped.
type StopMode uint8

// The modes of Stop.
const (
	Fast      StopMode = iota // shutdown checkpoint, standbys get everything
	Immediate                 // a fence: no checkpoint, the next start recovers
)

// segmentSize makes the files of the write-ahead log 4 MB instead of 16: a return
// sends each that there is over the line, however little it holds, and there are
// three at least (PostgreSQL documentation, initdb and pg_rewind).
const segmentSize = "--wal-segsize=4"

// Init makes a new, empty cluster with data checksums and the C.UTF-8 locale.
// It refuses a data directory that exists, but for one that an earlier Init
// left unfinished.
func (c *Cluster) Init(ctx context.Context) error {
	m, err := c.Marked()
	if err != nil {
		return fmt.Errorf("make database %s: %w", c.cfg.Name, err)
	}
	unfinished := m != nil && m.Why == ReasonCreating
	if _, err := os.Lstat(c.Data()); err == nil && !unfinished {
		return fmt.Errorf("make database %s: %s: %w", c.cfg.Name, c.Data(), ErrExists)
	}
	if err := c.mark(ReasonCreating); err != nil {
		return err
	}
	if err := c.emptyData(); err != nil {
		return err
	}
	if _, err := c.tool(ctx, nil, "initdb", "-D", c.Data(), "-U", superuser, "-E", "UTF8", "--locale=C.UTF-8",
		"--data-checksums", "--auth-local=peer", "--auth-host=scram-sha-256", "--no-instructions", segmentSize); err != nil {
		return err
	}
	if err := c.writeTenant(); err != nil {
		return err
	}
	if err := os.Remove(c.path(markFile)); err != nil {
		return fmt.Errorf("clear the mark of %s: %w", c.Data(), err)
	}
	return files.SyncFolder(c.cfg.Base)
}

// emptyData leaves an empty data directory of the daemon's user.
func (c *Cluster) emptyData() error {
	o, err := c.owner()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(c.Data()); err != nil {
		return fmt.Errorf("clear %s: %w", c.Data(), err)
	}
	if err := o.dir(c.Data(), 0o700); err != nil {
		return fmt.Errorf("make %s: %w", c.Data(), err)
	}
	return nil
}

// StartPrimary starts the server writable and returns once the process runs.
// It refuses a marked directory and one with standby.signal.
func (c *Cluster) StartPrimary(ctx context.Context) error {
	return c.start(ctx, nil)
}

// StartStandby writes standby.signal, drops the slots that only a primary needs
// (the peer's, orphans, journal), starts the server in recovery following up,
// and returns once the process runs. It refuses a marked directory.
func (c *Cluster) StartStandby(ctx context.Context, up Upstream) error {
	return c.start(ctx, &up)
}

func (c *Cluster) start(ctx context.Context, up *Upstream) error {
	role, _, err := c.Verify(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("start database %s: %w", c.cfg.Name, err)
	case role == standby.Absent:
		return fmt.Errorf("start database %s in %s: %w", c.cfg.Name, c.Data(), ErrAbsent)
	}
	st, err := c.l.Status(ctx, c.Unit())
	if err != nil {
		return fmt.Errorf("status of %s: %w", c.Unit(), err)
	}
	signal := c.exists(signalFile) || c.exists("recovery.signal")
	switch {
	case up == nil && signal:
		return fmt.Errorf("start database %s as primary: %w (standby.signal in %s)", c.cfg.Name, ErrStandbySignal, c.Data())
	case st.Running && up != nil && !signal:
		return fmt.Errorf("start database %s as standby: %w as a primary", c.cfg.Name, ErrRunning)
	case st.Running:
		return nil
	}
	s := c.settings(up)
	if up != nil {
		ctl, err := c.control(c.Data())
		if err != nil {
			return err
		}
		raiseToControl(s, ctl)
		if err := c.writeSignal(); err != nil {
			return err
		}
		if err := c.dropPrimarySlots(); err != nil {
			return err
		}
	}
	if err := c.writeConf(s); err != nil {
		return fmt.Errorf("configuration of database %s: %w", c.cfg.Name, err)
	}
	if err := c.l.Start(ctx, c.server(place{c.Unit(), c.Data(), c.cfg.SocketDir, s})); err != nil {
		return fmt.Errorf("start %s: %w", c.Unit(), err)
	}
	return nil
}

// dropPrimarySlots removes the slots of a primary from a stopped server that
// becomes a standby. Nobody advances them there: they would hold WAL up to the
// limit, and after the next promotion a stale orphan slot would decode with
// catalog rows that vacuum has removed. A slot is a directory.
func (c *Cluster) dropPrimarySlots() error {
	dir := filepath.Join(c.Data(), "pg_replslot")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("slots of database %s: %w", c.cfg.Name, err)
	}
	for _, e := range entries {
		n := e.Name()
		if n != c.cfg.PeerSlot && !strings.HasPrefix(n, OrphanSlot+"_") && !strings.HasPrefix(n, JournalSlot+"_") {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, n)); err != nil {
			return fmt.Errorf("drop slot %s of database %s: %w", n, c.cfg.Name, err)
		}
	}
	return files.SyncFolder(dir)
}

// Stop stops the server and waits until it is gone or ctx ends; it never falls
// from one mode to the other by itself. Stopping what does not run is fine.
func (c *Cluster) Stop(ctx context.Context, mode StopMode) error {
	return c.stop(ctx, c.Unit(), mode)
}

func (c *Cluster) stop(ctx context.Context, unit string, mode StopMode) error {
	st, err := c.l.Status(ctx, unit)
	if err != nil {
		return fmt.Errorf("status of %s: %w", unit, err)
	}
	if !st.Running {
		return nil
	}
	sigs := []syscall.Signal{syscall.SIGINT}
	if mode == Immediate {
		sigs = []syscall.Signal{syscall.SIGQUIT, syscall.SIGCONT} // a paused process dies only when it goes on
	}
	for _, sig := range sigs {
		if err := c.l.Signal(ctx, unit, sig); err != nil {
			if st, serr := c.l.Status(ctx, unit); serr == nil && !st.Running {
				return nil
			}
			return fmt.Errorf("signal %v to %s: %w", sig, unit, err)
		}
	}
	if err := c.l.Wait(ctx, unit); err != nil {
		return fmt.Errorf("wait for the end of %s: %w", unit, err)
	}
	return nil
}

// mustBeStopped refuses work on the files of a running server.
func (c *Cluster) mustBeStopped(ctx context.Context, what string) error {
	st, err := c.l.Status(ctx, c.Unit())
	if err != nil {
		return fmt.Errorf("%s: status of %s: %w", what, c.Unit(), err)
	}
	if st.Running || processState(c.Data()) != 0 {
		return fmt.Errorf("%s of database %s: %w: stop it first", what, c.cfg.Name, ErrRunning)
	}
	return nil
}

// Checkpoint writes a checkpoint now; pg_rewind needs one on the promoted side.
func (c *Cluster) Checkpoint(ctx context.Context) error {
	if err := c.ord.exec(ctx, "checkpoint"); err != nil {
		return fmt.Errorf("checkpoint of database %s: %w", c.cfg.Name, err)
	}
	return nil
}

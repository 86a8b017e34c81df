package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"komainu/drivers/files"
)

// A data directory that is being copied or rewound is marked not startable by
// a file beside it. Between pg_rewind and standby.signal the directory would
// start as a second primary on the same timeline; the mark is on disk before
// the first byte changes and goes only when standby.signal is on disk.

// Mark says why a data directory must not start.
type Mark struct {
	Why   string    `json:"why"` // reason code: ReasonCreating, ReasonCopying or ReasonRewinding
	Since time.Time `json:"since"`
}

const (
	markFile   = "NOT_STARTABLE"  // in Base
	tenantFile = "TENANT"         // in Base: tenant and system identifier
	innerFile  = "komainu.tenant" // in the data directory; base copies carry it along
	signalFile = "standby.signal"
)

type tenant struct {
	Tenant string `json:"tenant"`
	System uint64 `json:"system"`
}

// Marked gives the mark, or nil when there is none. An unreadable mark counts
// as a mark.
func (c *Cluster) Marked() (*Mark, error) {
	b, err := os.ReadFile(c.path(markFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	m := Mark{Why: ReasonMarked}
	if err == nil {
		_ = json.Unmarshal(b, &m) // a torn mark is still a mark
	}
	if m.Why == "" {
		m.Why = ReasonMarked
	}
	return &m, err
}

func (c *Cluster) mark(why string) error {
	b, err := json.Marshal(Mark{Why: why, Since: time.Now()})
	if err != nil {
		return err
	}
	if err := files.Replace(c.path(markFile), b, 0o644); err != nil {
		return fmt.Errorf("mark %s not startable: %w", c.Data(), err)
	}
	return nil
}

// unmark makes the directory a standby that may start: markers and
// standby.signal first, each on disk, then the mark goes.
func (c *Cluster) unmark() error {
	if err := c.writeTenant(); err != nil {
		return err
	}
	if err := c.writeSignal(); err != nil {
		return err
	}
	if err := os.Remove(c.path(markFile)); err != nil {
		return fmt.Errorf("clear the mark of %s: %w", c.Data(), err)
	}
	return files.SyncFolder(c.cfg.Base)
}

func (c *Cluster) writeSignal() error {
	if err := replaceOwned(filepath.Join(c.Data(), signalFile), nil, c.owner); err != nil {
		return fmt.Errorf("make %s a standby: %w", c.Data(), err)
	}
	return nil
}

// writeTenant notes whose data this is, inside the directory and beside it.
func (c *Cluster) writeTenant() error {
	ctl, err := c.control(c.Data())
	if err != nil {
		return err
	}
	b, err := json.Marshal(tenant{c.cfg.Tenant, ctl.system})
	if err != nil {
		return err
	}
	if err := replaceOwned(filepath.Join(c.Data(), innerFile), []byte(c.cfg.Tenant+"\n"), c.owner); err != nil {
		return fmt.Errorf("note the tenant in %s: %w", c.Data(), err)
	}
	return files.Replace(c.path(tenantFile), b, 0o644)
}

func (c *Cluster) exists(name string) bool {
	_, err := os.Lstat(filepath.Join(c.Data(), name))
	return err == nil
}

func replaceOwned(path string, data []byte, who func() (owner, error)) error {
	o, err := who()
	if err != nil {
		return err
	}
	if err := files.Replace(path, data, 0o600); err != nil {
		return err
	}
	return os.Chown(path, o.uid, o.gid)
}

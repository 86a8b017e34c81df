package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"komainu/failover/standby"
)

// Reason codes of observations and marks; appliance/say has the sentences.
const (
	ReasonMarked       = "postgres-not-startable"
	ReasonCreating     = "postgres-creating"
	ReasonCopying      = standby.ReasonCopying
	ReasonRewinding    = "postgres-rewinding"
	ReasonTenant       = "postgres-foreign-tenant"
	ReasonVersion      = "postgres-wrong-version"
	ReasonNoPostgres   = "postgres-missing"
	ReasonOwner        = "postgres-wrong-owner"
	ReasonDamaged      = "postgres-control-unreadable"
	ReasonStarting     = "postgres-starting"
	ReasonInconsistent = standby.ReasonNotConsistent // hot standby does not open: it waits for its primary
	ReasonShuttingDown = "postgres-shutting-down"
	ReasonTooMany      = "postgres-too-many-clients"
	ReasonPaused       = "postgres-process-paused" // SIGSTOP
	ReasonNoAnswer     = "postgres-no-answer"
	ReasonDiskFull     = "postgres-disk-full"
)

// control is what pg_controldata says of a data directory.
type control struct {
	fields     map[string]string
	state      string
	system     uint64
	timeline   uint32
	checkpoint standby.LSN // start of the last checkpoint record
	redo       standby.LSN
	minRecover standby.LSN
	segment    standby.LSN // size of a WAL segment in bytes
}

func (c *Cluster) control(data string) (control, error) {
	cmd := exec.Command(filepath.Join(c.cfg.Bin, "pg_controldata"), "-D", data)
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC"}
	out, err := cmd.Output()
	if err != nil {
		return control{}, fmt.Errorf("read the control file of %s: %w", data, err)
	}
	ctl := control{fields: map[string]string{}}
	for line := range strings.Lines(string(out)) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			ctl.fields[k] = strings.TrimSpace(v)
		}
	}
	ctl.state = ctl.fields["Database cluster state"]
	tli, err1 := strconv.ParseUint(ctl.fields["Latest checkpoint's TimeLineID"], 10, 32)
	sys, err2 := strconv.ParseUint(ctl.fields["Database system identifier"], 10, 64)
	seg, err6 := strconv.ParseUint(ctl.fields["Bytes per WAL segment"], 10, 32)
	ctl.timeline, ctl.system, ctl.segment = uint32(tli), sys, standby.LSN(seg)
	var err3, err4, err5 error
	ctl.checkpoint, err3 = standby.ParseLSN(ctl.fields["Latest checkpoint location"])
	ctl.redo, err4 = standby.ParseLSN(ctl.fields["Latest checkpoint's REDO location"])
	ctl.minRecover, err5 = standby.ParseLSN(ctl.fields["Minimum recovery ending location"])
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return control{}, fmt.Errorf("control file of %s: %w", data, err)
	}
	return ctl, nil
}

func (c control) clean() bool {
	return c.state == "shut down" || c.state == "shut down in recovery"
}

// end is the flush position of a stopped cluster: where the shutdown
// checkpoint's record ends, or how far a cleanly stopped standby must have
// replayed; 0 after a crash.
func (c control) end() standby.LSN {
	switch c.state {
	case "shut down":
		return recordEnd(c.checkpoint, c.segment)
	case "shut down in recovery":
		return max(c.minRecover, recordEnd(c.checkpoint, c.segment))
	}
	return 0
}

// recordEnd gives the end of a checkpoint record that starts at lsn, as replay
// reports it. Layout of PostgreSQL 15 with 8 KiB pages:
// record header 24, block header 2, CheckPoint 88; a page has 24 bytes of
// header, the first of a segment 40.
func recordEnd(lsn, segment standby.LSN) standby.LSN {
	const size, page = 24 + 2 + 88, 8192
	align := func(n standby.LSN) standby.LSN { return (n + 7) &^ 7 }
	room := page - lsn%page
	if size <= room {
		return lsn + align(size)
	}
	next, head := lsn+room, standby.LSN(24)
	if next%segment == 0 {
		head = 40
	}
	return next + head + align(size-room)
}

// Verify looks at the data directory without starting anything. The role is
// Absent, Unusable (with a reason code and an error to decide by) or Stopped,
// which here only means startable.
func (c *Cluster) Verify(context.Context) (standby.Role, string, error) {
	if _, err := os.Stat(filepath.Join(c.cfg.Bin, "postgres")); err != nil {
		return standby.Unusable, ReasonNoPostgres, fmt.Errorf("%w in %s: install postgresql-15: %w", ErrNoPostgres, c.cfg.Bin, err)
	}
	if m, err := c.Marked(); m != nil {
		return standby.Unusable, m.Why, errors.Join(fmt.Errorf("%s since %s (%s): %w", c.Data(), m.Since.Format("2006-01-02 15:04:05"), m.Why, ErrNotStartable), err)
	}
	b, err := os.ReadFile(filepath.Join(c.Data(), "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return standby.Absent, "", nil
	} else if err != nil {
		return standby.Unusable, ReasonOwner, fmt.Errorf("%w: %w", ErrOwner, err)
	}
	if v := strings.TrimSpace(string(b)); v != "15" {
		return standby.Unusable, ReasonVersion, fmt.Errorf("%s has version %s, not 15: %w", c.Data(), v, ErrVersion)
	}
	o, err := c.owner()
	if err != nil {
		return standby.Unusable, ReasonOwner, err
	}
	st, err := os.Stat(c.Data())
	if err != nil {
		return standby.Unusable, ReasonOwner, fmt.Errorf("%w: %w", ErrOwner, err)
	}
	if int(st.Sys().(*syscall.Stat_t).Uid) != o.uid || st.Mode().Perm()&0o027 != 0 {
		return standby.Unusable, ReasonOwner, fmt.Errorf("%s: %w: want owner %s and mode 0700 or 0750", c.Data(), ErrOwner, c.cfg.User)
	}
	ctl, err := c.control(c.Data())
	if err != nil {
		return standby.Unusable, ReasonDamaged, err
	}
	if err := c.sameTenant(ctl.system); err != nil {
		return standby.Unusable, ReasonTenant, err
	}
	return standby.Stopped, "", nil
}

// sameTenant compares both notes with the configuration; a directory without
// notes is foreign.
func (c *Cluster) sameTenant(system uint64) error {
	var t tenant
	b, err := os.ReadFile(c.path(tenantFile))
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: no note of its tenant: %w", c.Data(), ErrTenant, err)
	}
	in, err := os.ReadFile(filepath.Join(c.Data(), innerFile))
	if err != nil {
		return fmt.Errorf("%s: %w: no note of its tenant: %w", c.Data(), ErrTenant, err)
	}
	inner := strings.TrimSpace(string(in))
	if t.Tenant != c.cfg.Tenant || inner != c.cfg.Tenant || t.System != system {
		return fmt.Errorf("%s holds %q (system %d), want %q (system %d): %w", c.Data(), inner, system, c.cfg.Tenant, t.System, ErrTenant)
	}
	return nil
}

package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"komainu/failover/standby"
)

// SwitchPoint tells where this cluster's present timeline began: its parent and
// the position of the fork, from the history file here. Commits that another
// side of the parent timeline ended later are orphans. ErrNotDiverged on the
// first timeline.
func (c *Cluster) SwitchPoint(ctx context.Context) (uint32, standby.LSN, error) {
	o, err := c.Observe(ctx)
	if o.Timeline == 0 {
		return 0, 0, fmt.Errorf("timeline of database %s: %w", c.cfg.Name, errors.Join(ErrNotRunning, err))
	}
	forks, err := c.history(c.Data(), o.Timeline)
	if err != nil || len(forks) == 0 {
		return 0, 0, fmt.Errorf("history of timeline %d of database %s: %w", o.Timeline, c.cfg.Name, errors.Join(ErrNotDiverged, err))
	}
	last := forks[len(forks)-1]
	return last.tli, last.lsn, nil
}

// fork is one line of a timeline history file: timeline tli ended at lsn.
type fork struct {
	tli uint32
	lsn standby.LSN
}

// history reads the history file of a timeline; none exists for the first.
func (c *Cluster) history(data string, tli uint32) ([]fork, error) {
	b, err := os.ReadFile(filepath.Join(data, "pg_wal", fmt.Sprintf("%08X.history", tli)))
	if err != nil {
		return nil, err
	}
	return parseHistory(string(b))
}

func parseHistory(text string) ([]fork, error) {
	var out []fork
	for l := range strings.Lines(text) {
		f := strings.Fields(l)
		if len(f) < 2 || strings.HasPrefix(f[0], "#") {
			continue
		}
		tli, err1 := strconv.ParseUint(f[0], 10, 32)
		lsn, err2 := standby.ParseLSN(f[1])
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("timeline history line %q: %w", l, err)
		}
		out = append(out, fork{uint32(tli), lsn})
	}
	return out, nil
}

package shell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"komainu/appliance/agent"
	"komainu/drivers/files"
	"komainu/failover/machine"
)

const recordVersion = 1

// ErrStale says that a newer term has been made durable since an action was
// decided.
var ErrStale = errors.New("decided under an older term")

func (s *Shell) groupFile(group string) string {
	return filepath.Join(s.cfg.State, "groups", strings.ReplaceAll(group, "/", "_")+".json")
}

func (s *Shell) databaseFile(name string) string {
	return filepath.Join(s.cfg.State, "databases", name+".json")
}

func (s *Shell) saveGroup(r machine.Record) error {
	return files.ReplaceJSON(s.groupFile(r.Group), recordVersion, r)
}

func (s *Shell) saveDatabase(r machine.DCRecord) error {
	return files.ReplaceJSON(s.databaseFile(r.Database), recordVersion, r)
}

// load reads every record; one that can't be read stops the start, since
// guessing a term could make a second primary.
func (s *Shell) load() (agent.Started, error) {
	s.boot = randomBoot()
	st := agent.Started{Boot: s.boot}
	for _, d := range []string{"groups", "databases", "returns"} {
		if err := os.MkdirAll(filepath.Join(s.cfg.State, d), 0o700); err != nil {
			return st, fmt.Errorf("state directory: %w", err)
		}
	}
	for _, g := range s.cfg.Spec.Groups {
		var r machine.Record
		switch err := files.ReadJSON(s.groupFile(g.Group), recordVersion, &r); {
		case err == nil:
			st.Groups = append(st.Groups, r)
		case !errors.Is(err, os.ErrNotExist):
			return st, err
		}
	}
	for _, d := range s.cfg.Spec.Databases {
		if s.cfg.Spec.Role != agent.DCDB {
			continue
		}
		var r machine.DCRecord
		switch err := files.ReadJSON(s.databaseFile(d.Name), recordVersion, &r); {
		case err == nil:
			st.Databases = append(st.Databases, r)
		case !errors.Is(err, os.ErrNotExist):
			return st, err
		}
	}
	return st, nil
}

// authorised reads the durable term again, just before an irreversible effect
// on a database, and refuses one that was decided under another.
func (s *Shell) authorised(database string, term uint64) error {
	var durable uint64
	switch s.cfg.Spec.Role {
	case agent.DCDB:
		var r machine.DCRecord
		if err := files.ReadJSON(s.databaseFile(database), recordVersion, &r); err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				return err
			}
			r = machine.FirstDCRecord("", database)
		}
		durable = r.Term
	case agent.TownHall:
		for _, d := range s.cfg.Spec.Databases {
			if d.Name != database {
				continue
			}
			var r machine.Record
			if err := files.ReadJSON(s.groupFile(d.Group), recordVersion, &r); err != nil {
				if !errors.Is(err, os.ErrNotExist) {
					return err
				}
				r = machine.FirstRecord(d.Group)
			}
			durable = r.Term
		}
	}
	if durable != term {
		return fmt.Errorf("term %d, durable is %d: %w", term, durable, ErrStale)
	}
	return nil
}

// journal writes notes to disk and to whoever watches.
type journal struct {
	path  string
	queue chan agent.Note
	mu    sync.Mutex
	watch map[chan agent.Note]bool
}

func newJournal(path string) *journal {
	return &journal{path: path, queue: make(chan agent.Note, 4096), watch: map[chan agent.Note]bool{}}
}

// write never blocks the loop: when the disk is that far behind, the line is
// lost for the disk but not for those who watch.
func (j *journal) write(n agent.Note) {
	j.mu.Lock()
	for c := range j.watch {
		select {
		case c <- n:
		default: // a watcher that doesn't read loses lines
		}
	}
	j.mu.Unlock()
	select {
	case j.queue <- n:
	default:
	}
}

// run appends what was written, in order, until ctx ends and the queue is empty.
func (j *journal) run(ctx context.Context) error {
	for {
		select {
		case n := <-j.queue:
			// A full disk must not end the agent; the notes go on to watchers.
			_ = files.Append(j.path, n)
		case <-ctx.Done():
			for {
				select {
				case n := <-j.queue:
					_ = files.Append(j.path, n)
				default:
					return nil
				}
			}
		}
	}
}

// subscribe gives every note from now on, until cancel.
func (j *journal) subscribe() (notes <-chan agent.Note, cancel func()) {
	c := make(chan agent.Note, 256)
	j.mu.Lock()
	j.watch[c] = true
	j.mu.Unlock()
	return c, func() {
		j.mu.Lock()
		delete(j.watch, c)
		j.mu.Unlock()
	}
}

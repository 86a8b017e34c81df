package shell

import (
	"fmt"
	"path/filepath"
	"strings"

	"komainu/appliance/agent"
	"komainu/drivers/files"
)

// returning collects what happens from a write order to the end of the return,
// one outage per group, so that an auditor finds it in one place: who ordered,
// what was fenced, kept, listed and accepted, when authority moved.
type returning struct{ lines map[string][]agent.Note }

// returnRecord is STATE/returns/GROUP-TERM.json.
type returnRecord struct {
	Group string       `json:"group"`
	Term  uint64       `json:"term"` // under which the DC opened again
	Began int64        `json:"began"`
	Ended int64        `json:"ended"` // wall, Unix ns
	Lines []agent.Note `json:"lines"`
}

// take adds a line; it gives the finished record when the group is back.
func (r *returning) take(n agent.Note) *returnRecord {
	if r.lines == nil {
		r.lines = map[string][]agent.Note{}
	}
	if n.Code == "phase-promoting" || n.Code == "phase-fencing" {
		if len(r.lines[n.Subject]) == 0 {
			r.lines[n.Subject] = []agent.Note{n}
			return nil
		}
	}
	for group, lines := range r.lines {
		if len(lines) > 0 && len(lines) < maxRecordLines {
			r.lines[group] = append(lines, n)
		}
	}
	lines := r.lines[n.Subject]
	if n.Code != "phase-at-dc" || len(lines) == 0 {
		return nil
	}
	delete(r.lines, n.Subject)
	return &returnRecord{Group: n.Subject, Term: n.Term, Began: lines[0].Wall, Ended: n.Wall, Lines: lines}
}

// maxRecordLines bounds a record of an outage that lasts for months; the
// journal has every line.
const maxRecordLines = 10_000

// keepRecord writes a finished record beside the loop.
func (s *Shell) keepRecord(r returnRecord) {
	path := filepath.Join(s.cfg.State, "returns", fmt.Sprintf("%s-%d.json", strings.ReplaceAll(r.Group, "/", "_"), r.Term))
	s.work.Go(func() {
		if err := files.ReplaceJSON(path, recordVersion, r); err != nil {
			s.journal.write(agent.Note{Wall: r.Ended, Subject: r.Group, Code: "record-not-kept", Args: []string{err.Error()}, Term: r.Term})
		}
	})
}

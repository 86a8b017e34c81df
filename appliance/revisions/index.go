package revisions

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"komainu/ntp/instant"
)

// most is how many revisions are kept.
const most = 100

// index is history.json: one file, so that each step is whole or not at all.
type index struct {
	Version   int     `json:"version"`
	Last      int     `json:"last"`    // highest number given
	Running   int     `json:"running"` // 0: no configuration
	Revisions []entry `json:"revisions,omitempty"`
	Move      *move   `json:"move,omitempty"` // on the way, or waiting for a confirmation
}

type entry struct {
	Number  int       `json:"number"`
	At      time.Time `json:"at"`
	By      string    `json:"by"`
	Comment string    `json:"comment,omitempty"`
	Digest  string    `json:"digest"`
	Outcome outcome   `json:"outcome,omitempty"` // empty: it was or is in use
}

// outcome is why a revision is not in use although nothing came after it.
type outcome string

const (
	failed   outcome = "failed"     // the box could not work with it
	broken   outcome = "broken-off" // the supervisor died while it was put into use
	tookBack outcome = "taken-back" // nobody confirmed it
)

// move is a change from one revision to another.
type move struct {
	From     int             `json:"from"`
	To       int             `json:"to"`
	Boot     string          `json:"boot"`
	Confirm  time.Duration   `json:"confirm_ns,omitempty"`
	Deadline instant.Instant `json:"deadline_ns,omitempty"` // set with Done
	Done     bool            `json:"done,omitempty"`        // it runs, and waits
}

// over says that a move found at a start must be taken back.
func (m *move) over(boot string, now instant.Instant) bool {
	return !m.Done || m.Boot != boot || now >= m.Deadline
}

func (m *move) outcome() outcome {
	if m.Done {
		return tookBack
	}
	return broken
}

func (x index) find(n int) *entry {
	i := slices.IndexFunc(x.Revisions, func(e entry) bool { return e.Number == n })
	if i < 0 {
		return nil
	}
	return &x.Revisions[i]
}

// with is x and one revision more; x itself stays as it is.
func (x index) with(e entry) index {
	x.Revisions = append(slices.Clone(x.Revisions), e)
	x.Last = e.Number
	return x
}

// marked is x with an outcome of revision n.
func (x index) marked(n int, why outcome) index {
	x.Revisions = slices.Clone(x.Revisions)
	if e := x.find(n); e != nil {
		e.Outcome = why
	}
	return x
}

// bounded drops the oldest; never what runs, a move needs, or ran before.
func (x index) bounded() (kept index, dropped []int) {
	keep := []int{x.Running, x.before()}
	if x.Move != nil {
		keep = append(keep, x.Move.From, x.Move.To)
	}
	over := len(x.Revisions) - most
	x.Revisions = slices.DeleteFunc(slices.Clone(x.Revisions), func(e entry) bool {
		if over <= 0 || slices.Contains(keep, e.Number) {
			return false
		}
		over--
		dropped = append(dropped, e.Number)
		return true
	})
	return x, dropped
}

// before is the revision that was in use before the one that runs; 0: none.
func (x index) before() int {
	for _, e := range slices.Backward(x.Revisions) {
		if e.Number < x.Running && e.Outcome == "" {
			return e.Number
		}
	}
	return 0
}

func (x index) encode() ([]byte, error) {
	x.Version = 1
	return json.MarshalIndent(x, "", " ")
}

func readIndex(path string) (x index, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return x, nil
	}
	if err != nil {
		return x, err
	}
	if err := json.Unmarshal(data, &x); err != nil {
		return x, fmt.Errorf("read the history of the configuration in %s: %w", path, err)
	}
	if x.Version != 1 {
		return x, fmt.Errorf("%s has version %d, this program reads 1: start the image that wrote it", path, x.Version)
	}
	return x, nil
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func trimToml(name string) string { return strings.TrimSuffix(name, ".toml") }

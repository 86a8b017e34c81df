package update

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"komainu/appliance/control"
	"komainu/drivers/files"
	"komainu/images/layout"
	"komainu/images/trial"
)

// State is STATE/image/state.json. The supervising process alone writes it.
type State struct {
	// Floor is the highest floor of all images that were accepted here; older
	// ones are never installed.
	Floor layout.Version `json:"floor,omitempty"`
	// NextFloor becomes Floor when the image on trial is accepted.
	NextFloor layout.Version            `json:"next_floor,omitempty"`
	Failed    map[layout.Version]Failed `json:"failed,omitempty"`
	// Baseline is what worked before the last installation, or before the ordered
	// restart that followed it.
	Baseline trial.Baseline `json:"baseline"`
}

// Failed says why a version was given up.
type Failed struct {
	Reason control.Reason `json:"reason"`
	At     time.Time      `json:"at"`
}

// stateVersion grows when an older image would misread the file.
const stateVersion = 1

func statePath(dir string) string { return filepath.Join(dir, "image", "state.json") }

// readState: a file that can't be read leaves the box without its records, which
// is told, and the box starts all the same.
func readState(dir string) (State, error) {
	s := State{Failed: map[layout.Version]Failed{}}
	err := files.ReadJSON(statePath(dir), stateVersion, &s)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if s.Failed == nil {
		s.Failed = map[layout.Version]Failed{}
	}
	return s, err
}

func (s State) write(dir string) error {
	path := statePath(dir)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("record of images: %w", err)
	}
	return files.ReplaceJSON(path, stateVersion, s)
}

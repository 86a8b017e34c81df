package files

import (
	"encoding/json"
	"fmt"
	"os"
)

// VersionError says that a state file was written in another format than the
// one that this program reads.
type VersionError struct {
	Path      string
	Got, Want int
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("read %s: its format is version %d, this program reads version %d: start the program that wrote it, or restore the file from a backup", e.Path, e.Got, e.Want)
}

type envelope struct {
	Version int             `json:"version"`
	Data    json.RawMessage `json:"data"`
}

// ReplaceJSON writes v as {"version": version, "data": v} in one step, mode
// 0600. version grows when older programs would misread the data; at least 1.
func ReplaceJSON(path string, version int, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	b, err := json.MarshalIndent(envelope{version, data}, "", "  ")
	if err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return Replace(path, append(b, '\n'), 0o600)
}

// ReadJSON reads into v what ReplaceJSON wrote. Errors: fs.ErrNotExist when
// there is no file, *VersionError when version differs, else an error that
// names the file; v is unchanged in the first two cases.
func ReadJSON(path string, version int, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return fmt.Errorf("read %s: not a state file of ours (restore it from a backup): %w", path, err)
	}
	if e.Version != version {
		return &VersionError{path, e.Version, version}
	}
	if err := json.Unmarshal(e.Data, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

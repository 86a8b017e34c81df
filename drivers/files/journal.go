package files

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Append adds each record as one JSON line to the journal at path and makes
// them durable together; the file is created with mode 0600. A last line without its end, left
// by a crash, was never reported as written and is removed first. One writer at
// a time: callers hold a Lock.
func Append[T any](path string, records ...T) (err error) {
	var lines []byte
	for _, r := range records {
		line, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("append to %s: %w", path, err)
		}
		lines = append(append(lines, line...), '\n')
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("append to journal: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = fmt.Errorf("append to %s: %w", path, err)
		}
	}()
	end, err := wholeLines(f)
	if err != nil {
		return err
	}
	if err := f.Truncate(end); err != nil {
		return err
	}
	if _, err := f.WriteAt(lines, end); err != nil {
		// A full disk leaves a part of the line: take it back, so that a reader
		// of the open journal doesn't meet it.
		return errors.Join(err, f.Truncate(end))
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if end == 0 {
		return SyncFolder(filepath.Dir(path))
	}
	return nil
}

// wholeLines is the offset after the last line end.
func wholeLines(f *os.File) (int64, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 4096)
	for end > 0 {
		n := min(end, int64(len(buf)))
		if _, err := f.ReadAt(buf[:n], end-n); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return end - n + int64(i) + 1, nil
		}
		end -= n
	}
	return 0, nil
}

// ReadJournal gives the records of the journal at path, oldest first; none
// when there is no file. A last line without its end is left out; any other
// line that doesn't decode is an error that names its number.
func ReadJournal[T any](path string) ([]T, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	var all []T
	for n := 1; ; n++ {
		line, rest, ended := bytes.Cut(b, []byte{'\n'})
		if !ended {
			return all, nil
		}
		var r T
		if err := json.Unmarshal(line, &r); err != nil {
			return all, fmt.Errorf("read journal %s, line %d: %w", path, n, err)
		}
		all, b = append(all, r), rest
	}
}

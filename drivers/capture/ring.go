package capture

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// RingFile is how long a file of a ring gets, in bytes.
const RingFile = 10_000_000

// Ring is the output that keeps the last packets, in files of RingFile bytes:
// BASE-0001.pcapng and on; the oldest are removed.
type Ring struct {
	dir, base string
	keep      int // files
	number    int
	file      *os.File
	names     []string // that are there, oldest first
}

// NewRing begins a ring of at most so many bytes, 2*RingFile and more, in a
// folder. Close must be called.
func NewRing(dir, base string, bytes int64) (*Ring, error) {
	if bytes < 2*RingFile {
		return nil, fmt.Errorf("a ring of %d bytes: %w, %d at least", bytes, ErrBounds, 2*RingFile)
	}
	r := &Ring{dir: dir, base: base, keep: int(bytes / RingFile)}
	return r, r.Next()
}

// Next opens another file, after the oldest is gone: both together never need
// more room than was asked for.
func (r *Ring) Next() error {
	if r.file != nil {
		if err := r.end(); err != nil {
			return err
		}
	}
	for len(r.names) >= r.keep {
		if err := os.Remove(r.names[0]); err != nil {
			return fmt.Errorf("make room in a ring of captures: %w", err)
		}
		r.names = r.names[1:]
	}
	r.number++
	name := filepath.Join(r.dir, fmt.Sprintf("%s-%04d.pcapng", r.base, r.number))
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("begin a file of captures: %w", err)
	}
	r.file, r.names = f, append(r.names, name)
	return nil
}

func (r *Ring) end() error {
	err := errors.Join(r.file.Sync(), r.file.Close())
	r.file = nil
	return err
}

// Write writes to the present file.
func (r *Ring) Write(b []byte) (int, error) { return r.file.Write(b) }

// Full is Output's.
func (r *Ring) Full(n int64) bool { return n > RingFile }

// Names are the files that are there, oldest first.
func (r *Ring) Names() []string { return r.names }

// Close ends the last file, written through to the disk.
func (r *Ring) Close() error {
	if r.file == nil {
		return nil
	}
	return r.end()
}

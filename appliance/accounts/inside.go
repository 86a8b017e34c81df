package accounts

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Present is one person who is logged in.
type Present struct {
	User     string    `json:"user"`
	Role     string    `json:"role"`
	Terminal string    `json:"terminal"` // "ttyS0", "ssh 10.1.2.3"
	Since    time.Time `json:"since"`
}

func insideDir(run string) string { return filepath.Join(run, "inside") }

// Enter tells the other processes that p is logged in, until leave is called or
// this process ends: a file of RUN/inside that this process has locked.
func Enter(run string, p Present) (leave func() error, err error) {
	if err := os.MkdirAll(insideDir(run), 0o700); err != nil {
		return nil, fmt.Errorf("tell who is logged in: %w", err)
	}
	path := filepath.Join(insideDir(run), rand.Text()+".json")
	hidden := filepath.Join(insideDir(run), "."+filepath.Base(path))
	f, err := os.OpenFile(hidden, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("tell who is logged in: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = json.NewEncoder(f).Encode(p)
	}
	if err == nil { // a reader meets only locked ones
		err = os.Rename(hidden, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tell who is logged in: %w", err), os.Remove(hidden), f.Close())
	}
	return func() error { return errors.Join(os.Remove(path), f.Close()) }, nil
}

// Inside gives who is logged in, longest first, and removes what processes left
// that have ended.
func Inside(run string) ([]Present, error) {
	names, err := os.ReadDir(insideDir(run))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("who is logged in: %w", err)
	}
	var all []Present
	var errs []error
	for _, n := range names {
		if strings.HasPrefix(n.Name(), ".") {
			continue
		}
		p, err := readPresent(filepath.Join(insideDir(run), n.Name()))
		switch {
		case err == nil && p != nil:
			all = append(all, *p)
		case err != nil && !errors.Is(err, fs.ErrNotExist): // else it left meanwhile
			errs = append(errs, err)
		}
	}
	slices.SortFunc(all, func(a, b Present) int { return a.Since.Compare(b.Since) })
	return all, errors.Join(errs...)
}

// readPresent gives nil for what nobody holds any more.
func readPresent(path string) (p *Present, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		return nil, os.Remove(path)
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	p = &Present{}
	if err := json.NewDecoder(f).Decode(p); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return p, nil
}

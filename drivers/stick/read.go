package stick

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
)

// ErrLarge is wrapped when a file is larger than it may be, ErrName when what is
// asked for is no name of a file.
var (
	ErrLarge = errors.New("too large")
	ErrName  = errors.New("no name of a file on the stick")
)

// Look is Use without a change to the stick: it is mounted read-only.
func Look(run string, look func(root string) error) error { return use(run, unix.MS_RDONLY, look) }

// Files are the names of the files that lie on the stick itself, not in its
// folders, with the ending, however it is written, sorted. Those whose names
// Name refuses are left out.
func Files(root, ending string) ([]string, error) {
	all, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("read the stick: %w", err)
	}
	var names []string
	for _, e := range all {
		if e.Type().IsRegular() && Name(e.Name()) == nil && strings.EqualFold(filepath.Ext(e.Name()), ending) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Name fails with ErrName for what would lead elsewhere than to a file on the
// stick itself, for hidden files, and for what FAT allows in no name: reserved
// characters, and control characters, which a stick made with bad intent may have.
func Name(name string) error {
	bad := func(r rune) bool { return unicode.IsControl(r) || strings.ContainsRune(`/\:*?"<>|`, r) }
	if name == "" || strings.HasPrefix(name, ".") || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("%q: %w", name, ErrName)
	}
	return nil
}

// Read reads one file of the stick, of most bytes at most; fs.ErrNotExist,
// ErrName and ErrLarge are wrapped.
func Read(root, name string, most int64) ([]byte, error) {
	if err := Name(name); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(root, name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read from the stick: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read from the stick: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file: %w", name, ErrName)
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("read %s from the stick: %w", name, err)
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s: %w: more than %d bytes", name, ErrLarge, most)
	}
	return b, nil
}

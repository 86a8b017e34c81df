// Package files keeps what must survive a power cut: whole files that are
// replaced at once, journals that only grow, locks that name their holder, and
// secrets. It never decides what to write. Start reading at Replace.
package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace puts data at path as one step: after a crash the file holds either
// the old content or the new, never a part (temporary file in the same folder,
// fsync, rename, fsync of the folder). mode is set exactly, whatever the umask.
// Owner and group are those of the process. When it returns nil, data is durable.
func Replace(path string, data []byte, mode os.FileMode) (err error) {
	dir, base := filepath.Split(path)
	f, err := os.CreateTemp(dir, "."+base+".*.tmp")
	if err != nil {
		return fmt.Errorf("replace %s: %w (is the folder there and writable?)", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("replace %s: %w", path, err), dropTemp(f.Name()))
		}
	}()
	if err := fill(f, data, mode); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncFolder(dir)
}

func fill(f *os.File, data []byte, mode os.FileMode) error {
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// dropTemp removes a temporary file that may have been renamed already.
func dropTemp(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// SyncFolder makes creations, renames and removals in dir durable; "" is the
// working folder.
func SyncFolder(dir string) error {
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

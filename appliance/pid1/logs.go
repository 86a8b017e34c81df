package pid1

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"komainu/drivers/files"
)

// logLimit is the size in bytes at which a unit's log moves to NAME.log.1. It
// may be passed by what a unit writes within 10 s.
const logLimit = 1 << 20

func (s *supervisor) logPath(name string) string {
	return filepath.Join(s.o.State, "log", name+".log")
}

// boundLog keeps the last limit bytes of path in path.1 and empties path, once
// it is larger. Its writer keeps the file open, so it is copied and cut, not
// renamed; lines written in between are lost.
func boundLog(path string, limit int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("bound log: %w", err)
	}
	st, err := f.Stat()
	if err == nil && st.Size() > limit {
		var b []byte
		if b, err = io.ReadAll(io.NewSectionReader(f, st.Size()-limit, limit)); err == nil {
			err = errors.Join(files.Replace(path+".1", b, 0o640), f.Truncate(0))
		}
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("bound log %s: %w", path, err)
	}
	return nil
}

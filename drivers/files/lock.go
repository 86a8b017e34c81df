package files

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// HeldError says that another living process holds a lock.
type HeldError struct {
	Path string
	PID  int // 0: the holder hasn't written it yet
}

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("lock %s: held by another process (stop it, or use another folder)", e.Path)
	}
	return fmt.Sprintf("lock %s: held by another process, pid %d (stop it, or use another folder)", e.Path, e.PID)
}

// Locked is a lock that this process holds. The kernel releases it when the
// process ends, however it ends.
type Locked struct{ f *os.File }

// Lock takes the lock file at path without waiting and writes the own pid into
// it; the file is created with mode 0600 and stays after the release, since
// removing it would let two processes hold "the" lock. Error: *HeldError when
// another process has it.
func Lock(path string) (*Locked, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errors.Join(&HeldError{path, holder(f)}, f.Close())
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return &Locked{f}, nil
}

func holder(f *os.File) int {
	b := make([]byte, 20)
	n, _ := f.ReadAt(b, 0) // a short file ends in io.EOF; what was read counts
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return 0
	}
	return pid
}

// Close releases the lock.
func (l *Locked) Close() error { return l.f.Close() }

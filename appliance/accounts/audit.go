package accounts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/files"
)

// auditMost bytes are kept in one file of the records, and auditFiles files.
const (
	auditMost  = 1 << 20
	auditFiles = 8
)

// Entry is one line of STATE/log/audit.ndjson: who did what from where. The
// fields are those of AT-144: time, operator's ID and name, terminal,
// operation's ID and name, flag.
type Entry struct {
	Time      time.Time `json:"time"`
	User      string    `json:"user"`      // account; "?" for what can't be one
	Name      string    `json:"name"`      // of the person; the account's, where nothing better is known
	Terminal  string    `json:"terminal"`  // "ttyS0", "ssh 10.1.2.3"
	Operation string    `json:"operation"` // "login", "logout", "password", or a command's words in full
	Words     string    `json:"words"`     // the command as it was typed; secrets are never typed in commands
	Result    string    `json:"result"`    // "ok", "failed", "refused", "wrong", "stopped", "unknown", "idle", "reset"
}

// Log keeps the records of who did what.
type Log struct {
	State string // folder
	most  int64  // auditMost, smaller in tests
}

func (l Log) path() string { return filepath.Join(l.State, "log", "audit.ndjson") }

// Note appends e, now, durably. Several processes take turns.
func (l Log) Note(e Entry) (err error) {
	path := l.path()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	unlock, err := locked(path + ".lock")
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	most := l.most
	if most == 0 {
		most = auditMost
	}
	if st, err := os.Stat(path); err == nil && st.Size() > most {
		if err := rotate(path); err != nil {
			return fmt.Errorf("audit: %w", err)
		}
	}
	if e.Name == "" {
		e.Name = e.User
	}
	e.Words = strings.ToValidUTF8(e.Words, "?")
	return files.Append(path, e)
}

// rotate makes PATH.1 of PATH, PATH.2 of PATH.1, and so on.
func rotate(path string) error {
	for n := auditFiles - 1; n > 0; n-- {
		old := path
		if n > 1 {
			old = fmt.Sprint(path, ".", n-1)
		}
		if err := os.Rename(old, fmt.Sprint(path, ".", n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Last gives the newest n entries, oldest first, and what could be read when
// there is an error.
func (l Log) Last(n int) ([]Entry, error) {
	all, err := files.ReadJournal[Entry](l.path())
	for i := 1; i < auditFiles && len(all) < n && err == nil; i++ {
		var older []Entry
		older, err = files.ReadJournal[Entry](fmt.Sprint(l.path(), ".", i))
		all = append(older, all...)
	}
	return all[max(0, len(all)-n):], err
}

// locked waits for the lock file at path.
func locked(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f.Close, nil
}

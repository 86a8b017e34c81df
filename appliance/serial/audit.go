package serial

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/files"
)

// auditMost bytes are kept, and as many of the file before.
const auditMost = 1 << 20

// entry is one line of STATE/log/audit.ndjson: who did what at which terminal.
type entry struct {
	Time   time.Time `json:"time"`
	User   string    `json:"user"`
	TTY    string    `json:"tty"`
	What   string    `json:"what"`             // "login", "logout", "password", "shell", "command"
	Result string    `json:"result"`           // "ok", "wrong", "refused", "idle", "reset"
	Detail string    `json:"detail,omitempty"` // the words of a refused command
}

// writeAudit appends e. The processes of several terminals take turns.
func writeAudit(state string, e entry) (err error) {
	dir := filepath.Join(state, "log")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	path := filepath.Join(dir, "audit.ndjson")
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("audit: lock %s: %w", lock.Name(), err)
	}
	if st, err := os.Stat(path); err == nil && st.Size() > auditMost {
		if err := os.Rename(path, path+".1"); err != nil {
			return fmt.Errorf("audit: %w", err)
		}
	}
	return files.Append(path, e)
}

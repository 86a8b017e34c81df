package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrSecret is wrapped by every refusal of Secrets.Resolve.
var ErrSecret = errors.New("secret refused")

// Secrets keeps secrets and resolves references of the form "secret:NAME";
// nothing else in the program reads the folder.
type Secrets struct {
	Dir string // STATE/secrets
}

// Path is the file that ref names, for daemons and libraries that want a path;
// it is not looked at.
func (s Secrets) Path(ref string) (string, error) {
	name, ok := strings.CutPrefix(ref, "secret:")
	if !ok || name == "" || name[0] == '.' || strings.ContainsAny(name, "/\x00") {
		return "", fmt.Errorf("%w: %q: write secret:NAME, where NAME is a file in %s", ErrSecret, ref, s.Dir)
	}
	return filepath.Join(s.Dir, name), nil
}

// Resolve gives the content of the secret that ref names, without a line end
// at its end. It refuses a file that others than its owner may touch (mode
// wider than 0600), a symbolic link, and a file of another owner than root or
// this process.
func (s Secrets) Resolve(ref string) ([]byte, error) {
	path, err := s.Path(ref)
	if err != nil {
		return nil, err
	}
	// O_NONBLOCK: a FIFO put there must not hang the start.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w (put it there with mode 0600)", ErrSecret, ref, err)
	}
	defer f.Close() // only read: nothing to lose
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrSecret, path, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, fmt.Errorf("%w: %s is no regular file", ErrSecret, path)
	case st.Mode&0o177 != 0:
		return nil, fmt.Errorf("%w: %s has mode %04o, others could read it: chmod 0600 %s", ErrSecret, path, st.Mode&0o7777, path)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return nil, fmt.Errorf("%w: %s belongs to user %d: chown it to root", ErrSecret, path, st.Uid)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrSecret, path, err)
	}
	return bytes.TrimRight(b, "\r\n"), nil
}

// secretMost bounds the content of a secret, in bytes.
const secretMost = 64 << 10

// Put keeps a secret, new or in place of an old one, durably and with mode
// 0600. data has 1 to 65536 bytes.
func (s Secrets) Put(name string, data []byte) error {
	path, err := s.Path("secret:" + name)
	if err != nil {
		return err
	}
	if len(data) == 0 || len(data) > secretMost {
		return fmt.Errorf("%w: %s has %d bytes: 1 to %d are kept", ErrSecret, name, len(data), secretMost)
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("%w: keep %s: %w", ErrSecret, name, err)
	}
	if err := Replace(path, data, 0o600); err != nil {
		return fmt.Errorf("%w: %w", ErrSecret, err)
	}
	return nil
}

// SecretInfo tells of a secret what may be shown.
type SecretInfo struct {
	Name    string    `json:"name"`
	Bytes   int64     `json:"bytes"`
	Changed time.Time `json:"changed"`
}

// List tells which secrets there are, by name.
func (s Secrets) List() ([]SecretInfo, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the secrets: %w", err)
	}
	var all []SecretInfo
	for _, e := range entries {
		if e.Name()[0] == '.' || !e.Type().IsRegular() {
			continue
		}
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) { // deleted meanwhile
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list the secrets: %w", err)
		}
		all = append(all, SecretInfo{e.Name(), st.Size(), st.ModTime()})
	}
	return all, nil
}

// Delete removes a secret; fs.ErrNotExist when there is none.
func (s Secrets) Delete(name string) error {
	path, err := s.Path("secret:" + name)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("delete the secret: %w", err)
	}
	return SyncFolder(s.Dir)
}

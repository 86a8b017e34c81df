package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrSecret is wrapped by every refusal of Secrets.Resolve.
var ErrSecret = errors.New("secret refused")

// Secrets resolves references of the form "secret:NAME"; nothing else in the
// program reads the folder.
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

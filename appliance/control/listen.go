package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"syscall"

	"komainu/drivers/files"
)

// listener removes its socket and releases its lock when it is closed.
type listener struct {
	*net.UnixListener
	lock *files.Locked
}

func (l *listener) Close() error { return errors.Join(l.UnixListener.Close(), l.lock.Close()) }

// Listen opens a socket at path with the given mode. A socket that a dead
// process left is removed; when somebody listens there, the error is an *Error
// with code "socket-held" and the holder's pid. Beside path stands path.lock.
func Listen(ctx context.Context, path string, mode os.FileMode) (net.Listener, error) {
	lock, err := files.Lock(path + ".lock")
	var held *files.HeldError
	if errors.As(err, &held) {
		return nil, &Error{Code: "socket-held", Where: path, Args: []string{strconv.Itoa(held.PID)}}
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	ln, err := listenLocked(ctx, path, mode)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &listener{ln, lock}, nil
}

func listenLocked(ctx context.Context, path string, mode os.FileMode) (*net.UnixListener, error) {
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), ln.Close())
	}
	return ln.(*net.UnixListener), nil
}

// removeStale asks who listens: the lock file may have been deleted under its
// holder, and the socket may belong to another program.
func removeStale(ctx context.Context, path string) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		cred, err := credentials(c.(*net.UnixConn))
		if err := errors.Join(err, c.Close()); err != nil {
			return err
		}
		return &Error{Code: "socket-held", Where: path, Args: []string{strconv.Itoa(int(cred.Pid))}}
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, syscall.ECONNREFUSED):
		if st, err := os.Lstat(path); err != nil || st.Mode()&fs.ModeSocket == 0 {
			return errors.Join(fmt.Errorf("listen on %s: something else than a socket is there: remove it", path), err)
		}
		return os.Remove(path)
	default:
		return fmt.Errorf("listen on %s: %w", path, err)
	}
}

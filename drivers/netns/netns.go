// Package netns makes named network namespaces and runs funcs inside them. The
// names are those of `ip netns`: one bind mount under /run/netns each, so both
// tools see each other's. It configures nothing inside a namespace but leaves
// the loopback down, as the kernel made it.
//
// The agent itself needs none of this: it is started inside its namespace.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is where the names live; it is the folder of iproute2.
const Dir = "/run/netns"

// ErrName is wrapped when a name is empty or can't be a file name.
var ErrName = errors.New("not a namespace name")

// path says where name is mounted.
func path(name string) (string, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsRune(name, '/') {
		return "", fmt.Errorf("network namespace %q: %w", name, ErrName)
	}
	return filepath.Join(Dir, name), nil
}

// New makes the namespace name, with nothing in it but a loopback that is down.
// A name that exists is an error (fs.ErrExist). Needs CAP_SYS_ADMIN.
func New(name string) error {
	p, err := path(name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return fmt.Errorf("make the folder of network namespaces: %w", err)
	}
	f, err := os.OpenFile(p, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return fmt.Errorf("make network namespace %s: %w", name, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("make network namespace %s: %w", name, err)
	}
	err = restoring(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", p, "none", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount on %s: %w", p, err)
		}
		return nil
	})
	if err != nil {
		return errors.Join(fmt.Errorf("make network namespace %s: %w", name, err), os.Remove(p))
	}
	return nil
}

// Delete takes the name away. The namespace itself goes when the last process
// and socket in it are gone; links that are paired with others then disappear
// on both sides. A name that doesn't exist is no error.
func Delete(name string) error {
	p, err := path(name)
	if err != nil {
		return err
	}
	// EINVAL: the file is there but nothing is mounted (a New that died half-way).
	err = unix.Unmount(p, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount network namespace %s: %w", name, err)
	}
	if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove network namespace %s: %w", name, err)
	}
	return nil
}

// Do runs f in the namespace name, on the caller's goroutine with its thread
// locked, and comes back. Sockets that f opens stay in the namespace for ever.
// Goroutines that f starts run outside it; commands that f starts run inside,
// and so do reads of /proc/sys/net and /proc/thread-self/net (but /proc/net is
// that of the process's first thread). Calls may be nested.
func Do(name string, f func() error) error {
	p, err := path(name)
	if err != nil {
		return err
	}
	return restoring(func() error {
		fd, err := unix.Open(p, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open network namespace %s: %w", name, err)
		}
		err = unix.Setns(fd, unix.CLONE_NEWNET)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("enter network namespace %s: %w", name, err)
		}
		return f()
	})
}

// restoring runs f on a locked thread and puts the thread back into the
// namespace that it was in, also when f leaves by panic or runtime.Goexit (as
// t.Fatal does). A thread that can't be put back stays locked, so that it ends
// with its goroutine instead of serving others from the wrong namespace.
func restoring(f func() error) (err error) {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open the present network namespace: %w", err)
	}
	defer func() {
		back := unix.Setns(home, unix.CLONE_NEWNET)
		unix.Close(home)
		if back != nil {
			err = errors.Join(err, fmt.Errorf("return to the former network namespace: %w", back))
			return
		}
		runtime.UnlockOSThread()
	}()
	return f()
}

// Package cgroup keeps daemons in control groups of their own (cgroup v2,
// kernel: Documentation/admin-guide/cgroup-v2.rst), so that one can't use up the
// machine and none of its processes outlives it. Start reading at Make.
package cgroup

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Root is where the image mounts cgroup2.
const Root = "/sys/fs/cgroup"

// Group is one control group without children of its own.
type Group struct{ dir string }

// Make makes root/parent/name, or finds it, with the controllers memory and
// pids in force.
func Make(root, parent, name string) (Group, error) {
	g := Group{filepath.Join(root, parent, name)}
	// From the top: a root that is no cgroup2 is refused before anything is made.
	for _, dir := range []string{root, filepath.Join(root, parent)} {
		if err := write(filepath.Join(dir, "cgroup.subtree_control"), "+memory +pids"); err != nil {
			return Group{}, fmt.Errorf("make control group %s: %w", g.dir, err)
		}
		if err := os.MkdirAll(filepath.Join(root, parent), 0o755); err != nil {
			return Group{}, fmt.Errorf("make control group: %w", err)
		}
	}
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		return Group{}, fmt.Errorf("make control group: %w", err)
	}
	return g, nil
}

// Find gives root/parent/name without making it; ok is false if it isn't there.
func Find(root, parent, name string) (g Group, ok bool) {
	g = Group{filepath.Join(root, parent, name)}
	_, err := os.Stat(g.dir)
	return g, err == nil
}

// Limit sets the most that all processes of the group may use together: memory
// in bytes, tasks in processes and threads; 0: no limit.
func (g Group) Limit(memory int64, tasks int) error {
	for name, n := range map[string]int64{"memory.max": memory, "pids.max": int64(tasks)} {
		value := "max"
		if n > 0 {
			value = strconv.FormatInt(n, 10)
		}
		if err := write(filepath.Join(g.dir, name), value); err != nil {
			return fmt.Errorf("limit control group: %w", err)
		}
	}
	return nil
}

// Open gives the folder for SysProcAttr.CgroupFD; the caller closes it.
func (g Group) Open() (*os.File, error) {
	f, err := os.OpenFile(g.dir, unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open control group: %w", err)
	}
	return f, nil
}

// Kill sends SIGKILL to every process in the group, at once even against one
// that forks for ever (cgroup.kill).
func (g Group) Kill() error {
	if err := write(filepath.Join(g.dir, "cgroup.kill"), "1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("kill control group: %w", err)
	}
	return nil
}

// Empty tells whether no process is left in the group.
func (g Group) Empty() (bool, error) {
	n, err := g.event("cgroup.events", "populated")
	return n == 0, err
}

// WaitEmpty returns when no process is left, or with ctx's error. The kernel
// tells a change by a priority event on the file.
func (g Group) WaitEmpty(ctx context.Context) error {
	f, err := os.Open(filepath.Join(g.dir, "cgroup.events"))
	if err != nil {
		return fmt.Errorf("watch control group: %w", err)
	}
	defer f.Close() // read side: nothing to lose
	buf := make([]byte, 256)
	for {
		n, err := f.ReadAt(buf, 0)
		if n == 0 && err != nil {
			return fmt.Errorf("watch control group: %w", err)
		}
		if field(buf[:n], "populated") == 0 {
			return nil
		}
		// Bounded, so that ctx is looked at: kernfs files aren't in the poller.
		fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}
		if _, err := unix.Poll(fds, 100); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("watch control group: %w", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// OOMs is how many processes of the group the kernel has killed because the
// group had reached its memory limit, since the group was made.
func (g Group) OOMs() (int, error) { return g.event("memory.events", "oom_kill") }

// Remove removes the empty group.
func (g Group) Remove() error {
	if err := unix.Rmdir(g.dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove control group %s: %w", g.dir, err)
	}
	return nil
}

func (g Group) event(file, name string) (int, error) {
	b, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		return 0, fmt.Errorf("read control group: %w", err)
	}
	return field(b, name), nil
}

// field is the number behind name in a flat keyed file; 0 if it isn't there.
func field(b []byte, name string) int {
	for in := bufio.NewScanner(bytes.NewReader(b)); in.Scan(); {
		if k, v, ok := strings.Cut(in.Text(), " "); ok && k == name {
			n, _ := strconv.Atoi(v) // the kernel's own number
			return n
		}
	}
	return 0
}

// write writes a control file, which must be there: no O_CREATE.
func write(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

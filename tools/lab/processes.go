package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/netns"
)

// Inside lists the processes whose network namespace is the one named ns, the
// caller's own process left out. Only main threads are looked at.
func Inside(ns string) ([]int, error) {
	want, err := os.Stat(filepath.Join(netns.Dir, ns))
	if err != nil {
		return nil, fmt.Errorf("look at network namespace %s: %w", ns, err)
	}
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if lives(pid, want) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// leaving lists the processes that are ending right now: the kernel has taken
// their namespaces away already (so nobody can say which those were) and they
// still stand in the table, not yet as zombies.
func leaving() ([]int, error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if state, err := state(pid); err == nil && state != "Z" && state != "X" {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// lives says whether pid is inside; a process that is gone or a zombie is not.
func lives(pid int, ns fs.FileInfo) bool {
	is, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid))
	return err == nil && os.SameFile(is, ns)
}

// killInside ends every process inside ns with SIGKILL and returns when none is
// left. PostgreSQL's backends have sessions of their own, hence the namespace
// and not the process group decides.
func killInside(ctx context.Context, ns string) error {
	want, err := os.Stat(filepath.Join(netns.Dir, ns))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at network namespace %s: %w", ns, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		pids, err := Inside(ns)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return left(ctx)
		}
		var dying []int
		for _, pid := range pids {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				continue // gone
			}
			// Checked again behind the handle: the number may have been given
			// to another process since the list was made.
			if lives(pid, want) && unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil {
				dying = append(dying, fd)
				continue
			}
			unix.Close(fd)
		}
		for _, fd := range dying {
			err = errors.Join(err, ended(ctx, fd))
			unix.Close(fd)
		}
		if err != nil {
			return fmt.Errorf("end the processes in %s: %w", ns, err)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("end the processes in %s (%v left): %w", ns, pids, ctx.Err())
		}
	}
}

// left waits for the processes that were ending when it was called.
func left(ctx context.Context) error {
	pids, err := leaving()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // gone
		}
		// Behind the handle, as above.
		if _, gone := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid)); errors.Is(gone, fs.ErrNotExist) {
			err = ended(ctx, fd)
		}
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("wait for process %d, which is ending: %w", pid, err)
		}
	}
	return nil
}

// ended waits until the process behind a pidfd has ended.
func ended(ctx context.Context, fd int) error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 200)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("wait for a process: %w", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// state is the state of a process in /proc/PID/stat: "R", "S", "Z".
func state(pid int) (string, error) {
	_, f, err := fields(pid)
	if err != nil {
		return "", err
	}
	return f[0], nil
}

// fields reads the name of a process and what stands behind it in
// /proc/PID/stat: state, parent, and at least 18 more.
func fields(pid int) (comm string, f []string, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", nil, err
	}
	// The name is in parentheses and may hold any character (proc(5)).
	s := string(b)
	open, shut := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if open < 0 || shut < open {
		return "", nil, fmt.Errorf("/proc/%d/stat: unknown form %q", pid, s)
	}
	if f = strings.Fields(s[shut+1:]); len(f) < 20 {
		return "", nil, fmt.Errorf("/proc/%d/stat: unknown form %q", pid, s)
	}
	return s[open+1 : shut], f, nil
}

// stat reads the name and the parent of a process from /proc/PID/stat.
func stat(pid int) (comm string, parent int, start uint64, err error) {
	comm, f, err := fields(pid)
	if err != nil {
		return "", 0, 0, err
	}
	parent, err1 := strconv.Atoi(f[1])
	start, err2 := strconv.ParseUint(f[19], 10, 64)
	return comm, parent, start, errors.Join(err1, err2)
}

// applet says whether pid runs as name: the program's name, or the first word
// after it (`komainu agent` is agent).
func applet(pid int, name string) bool {
	comm, _, _, err := stat(pid)
	if err != nil {
		return false
	}
	if comm == name {
		return true
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	args := strings.Split(string(b), "\x00")
	return len(args) > 1 && args[1] == name
}

// tree is pids and all their descendants among all.
func tree(pids, all []int) []int {
	in := map[int]bool{}
	for _, p := range pids {
		in[p] = true
	}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if _, parent, _, err := stat(p); err == nil && in[parent] && !in[p] {
				in[p], grown = true, true
			}
		}
	}
	var out []int
	for _, p := range all {
		if in[p] {
			out = append(out, p)
		}
	}
	return out
}

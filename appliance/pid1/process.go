package pid1

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"komainu/drivers/units"
)

// spawn forks and executes u in a session of its own: no terminal, no input,
// output to its log file, nothing inherited but the limits.
func (s *supervisor) spawn(u units.Unit) (pid int, err error) {
	attr := &syscall.SysProcAttr{Setsid: true}
	if err := become(attr, u.User); err != nil {
		return 0, err
	}
	if attr.AmbientCaps, err = capabilities(u.Caps); err != nil {
		return 0, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close() // the child has its own copy
	out, err := s.output(u.Name)
	if err != nil {
		return 0, err
	}
	defer unix.Close(out) // the child has its own copy
	if dir := s.enclose(u); dir != nil {
		defer dir.Close() // read side: nothing to lose
		attr.UseCgroupFD, attr.CgroupFD = true, int(dir.Fd())
	}
	err = withFileLimit(u.Files, func() (err error) {
		// Not os.StartProcess: its Process wants to be waited for, and the reaper
		// has taken the child by then.
		pid, err = syscall.ForkExec(u.Argv[0], u.Argv, &syscall.ProcAttr{
			Dir:   u.Dir,
			Env:   u.Env,
			Files: []uintptr{null.Fd(), uintptr(out), uintptr(out)},
			Sys:   attr,
		})
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", u.Argv[0], err)
	}
	return pid, nil
}

// become makes the child run as the named user with its groups; "" is root.
func become(attr *syscall.SysProcAttr, name string) error {
	if name == "" {
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	ids, err := u.GroupIds()
	if err != nil {
		return err
	}
	var n []uint32
	for _, id := range append([]string{u.Uid, u.Gid}, ids...) {
		v, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return fmt.Errorf("user %s: %w", name, err)
		}
		n = append(n, uint32(v))
	}
	attr.Credential = &syscall.Credential{Uid: n[0], Gid: n[1], Groups: n[2:]}
	return nil
}

// withFileLimit runs f with the soft RLIMIT_NOFILE n (0: as it is). The limit is the
// whole process's for that moment, since a child takes it from its parent and
// some programs read it once, at their start; the caller holds the lock. The
// hard limit is at most raised: going back down needs no capability.
func withFileLimit(n uint64, f func() error) error {
	if n == 0 {
		return f()
	}
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		return fmt.Errorf("read file limit: %w", err)
	}
	top := max(n, old.Max)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: top}); err != nil {
		return fmt.Errorf("set file limit %d: %w", n, err)
	}
	return errors.Join(f(), syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: old.Cur, Max: top}))
}

// collect reaps every ended child, enters the ends of units, and kills what
// units left behind: a process whose parent has gone becomes ours (subreaper).
func (s *supervisor) collect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if pid <= 0 {
			break
		}
		for _, u := range s.units {
			if u.adopted == nil && !u.draining && u.st.PID == pid {
				u.draining, u.st.Exit = true, exitText(ws)
				s.killGroup(u.Name)
			}
		}
	}
	if s.killStrays() {
		return // their ends bring us back here
	}
	for _, u := range s.units {
		if u.draining {
			s.ended(u, u.st.Exit)
		}
	}
}

func exitText(ws unix.WaitStatus) string {
	if ws.Signaled() {
		return "signal " + ws.Signal().String()
	}
	return "exit " + strconv.Itoa(ws.ExitStatus())
}

// killStrays kills our children that are no unit's main process, and tells
// whether there were any.
func (s *supervisor) killStrays() bool {
	mains := map[int]bool{}
	for _, u := range s.units {
		if u.st.Running && !u.draining {
			mains[u.st.PID] = true
		}
	}
	found := false
	for _, pid := range children() {
		if !mains[pid] {
			found = true
			// The child is at worst a zombie, so its pid can't be another's;
			// ESRCH is impossible, EPERM too for root.
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	return found
}

// children are the pids whose parent is this process, zombies included.
func children() []int {
	names, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil
	}
	var all []int
	for _, name := range names {
		f, ok := statFields(name)
		if ok && f[1] == strconv.Itoa(os.Getpid()) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
				all = append(all, pid)
			}
		}
	}
	return all
}

// statFields are the fields of a /proc/PID/stat from the third (state) on;
// the second, the command, may hold anything (proc_pid_stat(5)).
func statFields(name string) ([]string, bool) {
	b, err := os.ReadFile(name)
	i := strings.LastIndexByte(string(b), ')')
	if err != nil || i < 0 {
		return nil, false // gone meanwhile
	}
	f := strings.Fields(string(b[i+1:]))
	return f, len(f) > 20
}

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Daemon is a process that a host runs.
type Daemon struct {
	Name string
	Argv []string
	Env  []string // the whole environment; nil: PATH and LANG only
	User string   // empty: root
	Dir  string   // empty: the host's folder
	Log  string   // file for both outputs, appended to; empty: NAME.log in LogDir
}

// ErrDaemon is wrapped when a host has no such daemon.
var ErrDaemon = errors.New("no such daemon")

type running struct {
	spec Daemon
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has been waited for
	err  error         // of Wait; read after done
}

// Start runs a daemon in the host, in a session of its own. It returns when the
// process runs, not when it is ready. A daemon of that name that has ended is
// replaced, one that runs is an error.
func (h *Host) Start(ctx context.Context, d Daemon) error {
	fail := func(err error) error {
		return fmt.Errorf("lab %s: start %s on %s: %w", h.lab.ID, d.Name, h.Name, err)
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	if len(d.Argv) == 0 {
		return fail(errors.New("no command"))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.on {
		return fail(errors.New("the host has no power"))
	}
	if r := h.daemons[d.Name]; r != nil {
		select {
		case <-r.done:
		default:
			return fail(fmt.Errorf("runs already as process %d", r.cmd.Process.Pid))
		}
	}
	cmd, err := h.command(context.Background(), d) // outlives ctx
	if err != nil {
		return fail(err)
	}
	name := d.Log
	if name == "" {
		name = filepath.Join(h.LogDir(), d.Name+".log")
	}
	out, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fail(err)
	}
	defer out.Close() // the child has its own
	cmd.Stdout, cmd.Stderr = out, out
	if err := h.Do(cmd.Start); err != nil {
		return fail(err)
	}
	r := &running{spec: d, cmd: cmd, done: make(chan struct{})}
	h.daemons[d.Name] = r
	go func() { // owned by PowerOff and Close, which wait for done
		r.err = cmd.Wait()
		close(r.done)
	}()
	return nil
}

// Run runs a command in the host to its end and returns what it printed.
func (h *Host) Run(ctx context.Context, d Daemon) ([]byte, error) {
	cmd, err := h.command(ctx, d)
	var out []byte
	if err == nil {
		err = h.Do(func() (err error) {
			out, err = cmd.CombinedOutput()
			return err
		})
	}
	if err != nil {
		return out, fmt.Errorf("lab %s: run %v on %s: %w: %s", h.lab.ID, d.Argv, h.Name, err, out)
	}
	return out, nil
}

func (h *Host) command(ctx context.Context, d Daemon) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, d.Argv[0], d.Argv[1:]...)
	cmd.Dir = d.Dir
	if cmd.Dir == "" {
		cmd.Dir = h.Dir
	}
	cmd.Env = d.Env
	if cmd.Env == nil {
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C"}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if d.User != "" {
		cred, err := credential(d.User)
		if err != nil {
			return nil, err
		}
		cmd.SysProcAttr.Credential = cred
	}
	return cmd, nil
}

func credential(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("find user %s: %w", name, err)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("find the groups of user %s: %w", name, err)
	}
	c := &syscall.Credential{}
	for _, f := range []struct {
		s  string
		to func(uint32)
	}{{u.Uid, func(n uint32) { c.Uid = n }}, {u.Gid, func(n uint32) { c.Gid = n }}} {
		n, err := strconv.ParseUint(f.s, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		f.to(uint32(n))
	}
	for _, s := range ids {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		c.Groups = append(c.Groups, uint32(n))
	}
	return c, nil
}

// Processes lists the processes of a daemon: the one that Start made under that
// name, else those in the host that run as name (program, or first word after
// it) and whose parent doesn't: the postmaster, not its backends. Empty if none
// runs.
func (h *Host) Processes(name string) ([]int, error) {
	h.mu.Lock()
	r, on := h.daemons[name], h.on
	h.mu.Unlock()
	if !on {
		return nil, nil
	}
	if r != nil {
		select {
		case <-r.done:
			return nil, nil
		default:
			return []int{r.cmd.Process.Pid}, nil
		}
	}
	all, err := Inside(h.Namespace)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, pid := range all {
		if !applet(pid, name) {
			continue
		}
		if _, parent, _, err := stat(pid); err == nil && !applet(parent, name) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Kill sends a signal to a daemon's own process (see Processes). After SIGKILL
// it returns when the process has ended; its children may live on, as they do
// in life. SIGSTOP and SIGCONT go to the children as well, since a stopped
// postmaster with running backends still serves.
func (h *Host) Kill(name string, sig syscall.Signal) error {
	pids, err := h.Processes(name)
	if err == nil && len(pids) == 0 {
		err = ErrDaemon
	}
	if err != nil {
		return fmt.Errorf("lab %s: signal %s (%v) on %s: %w", h.lab.ID, name, sig, h.Name, err)
	}
	if sig == syscall.SIGSTOP || sig == syscall.SIGCONT {
		all, err := Inside(h.Namespace)
		if err != nil {
			return err
		}
		pids = tree(pids, all)
	}
	for _, pid := range pids {
		if err := signal(pid, sig); err != nil {
			return fmt.Errorf("lab %s: signal %s (%v) on %s: %w", h.lab.ID, name, sig, h.Name, err)
		}
	}
	if sig != syscall.SIGKILL {
		return nil
	}
	h.mu.Lock()
	r := h.daemons[name]
	h.mu.Unlock()
	if r != nil {
		<-r.done
	}
	return nil
}

// signal sends sig; for SIGKILL it waits for the end. A process that is gone
// already is no error.
func signal(pid int, sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
	if sig != syscall.SIGKILL {
		return nil
	}
	return ended(context.Background(), fd)
}

// Restart starts a daemon again as Start was last told, after SIGKILL if it
// still runs.
func (h *Host) Restart(ctx context.Context, name string) error {
	h.mu.Lock()
	r := h.daemons[name]
	h.mu.Unlock()
	if r == nil {
		return fmt.Errorf("lab %s: restart %s on %s: %w", h.lab.ID, name, h.Name, ErrDaemon)
	}
	if err := h.Kill(name, syscall.SIGKILL); err != nil && !errors.Is(err, ErrDaemon) {
		return err
	}
	return h.Start(ctx, r.spec)
}

// Wait waits for the end of a daemon and returns how it ended (nil: exit 0, else
// an *exec.ExitError).
func (h *Host) Wait(ctx context.Context, name string) error {
	h.mu.Lock()
	r := h.daemons[name]
	h.mu.Unlock()
	if r == nil {
		return fmt.Errorf("lab %s: wait for %s on %s: %w", h.lab.ID, name, h.Name, ErrDaemon)
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("lab %s: wait for %s on %s: %w", h.lab.ID, name, h.Name, ctx.Err())
	}
}

// reap waits for the daemons' last words; their processes are dead.
func (h *Host) reap() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.daemons {
		<-d.done
	}
}

package pid1

import (
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

	"komainu/drivers/files"
	"komainu/drivers/units"
)

// record is RUN/units/NAME.json: what the next supervisor must know if this
// one is killed.
type record struct {
	Unit   units.Unit `json:"unit"`
	PID    int        `json:"pid"`
	Ticks  string     `json:"ticks"` // start of the process since boot, field 22 of proc_pid_stat(5)
	Boot   string     `json:"boot"`  // boot id: pids of an earlier boot mean nothing
	Since  time.Time  `json:"since"`
	Starts int        `json:"starts"`
}

const recordVersion = 1

func (s *supervisor) recordPath(name string) string {
	return filepath.Join(s.o.Run, "units", name+".json")
}

// record writes a running unit down; the lock is held. A unit that runs
// without its record is better than one that doesn't run.
func (s *supervisor) record(u *unit) {
	r := record{Unit: u.Unit, PID: u.st.PID, Ticks: startTicks(u.st.PID), Boot: bootID(), Since: u.st.Since, Starts: u.st.Starts}
	if err := files.ReplaceJSON(s.recordPath(u.Name), recordVersion, r); err != nil {
		s.o.Log.Error("record unit: a next supervisor will not know it", "unit", u.Name, "error", err)
	}
}

func (s *supervisor) forget(u *unit) {
	if err := os.Remove(s.recordPath(u.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.o.Log.Error("forget unit", "unit", u.Name, "error", err)
	}
}

// adopt takes over the units that an earlier supervisor of the same folder left:
// running ones are watched from now on, Restart units that ended are started.
func (s *supervisor) adopt() {
	names, err := filepath.Glob(s.recordPath("*"))
	if err != nil {
		s.o.Log.Error("take over units", "error", err) // only a malformed pattern: Run holds one
	}
	for _, name := range names {
		var r record
		err := files.ReadJSON(name, recordVersion, &r)
		if err == nil {
			err = s.adoptOne(r)
		}
		if err != nil {
			s.o.Log.Error("take over unit: look for its process by hand", "record", name, "error", err)
		}
	}
}

func (s *supervisor) adoptOne(r record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := &unit{Unit: r.Unit, wanted: r.Unit.Restart, delay: firstDelay}
	u.st = units.Status{Name: r.Unit.Name, Since: r.Since, Starts: r.Starts, Exit: "unknown"}
	s.units[r.Unit.Name] = u
	s.order = append(s.order, r.Unit.Name)
	p, err := openPidfd(r.PID)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	// The pidfd is opened first and compared then: it can't come to mean another.
	if err == nil && r.Boot == bootID() && r.Ticks != "" && r.Ticks == startTicks(r.PID) {
		u.adopted, u.st.Running, u.st.PID, u.st.Exit = p, true, r.PID, ""
		s.o.Log.Info("unit taken over", "unit", u.Name, "pid", r.PID)
		u.st.Wanted = u.wanted
		if err := s.follow(u.Name); err != nil {
			s.o.Log.Error("read what the unit prints: it may come to a halt", "unit", u.Name, "error", err)
		}
		s.restarts.Go(func() { s.watchAdopted(u, p) })
		s.probe(u)
		return nil
	}
	if err == nil {
		if err := p.close(); err != nil {
			return err
		}
	}
	s.killGroup(u.Name)
	// It died unwatched; without a control group, what it left in its process group may still be there,
	// but a group that has outlived its leader can't be told from a new one.
	s.ended(u, "unknown")
	return nil
}

// watchAdopted waits for the end of a process that isn't our child.
func (s *supervisor) watchAdopted(u *unit, p *pidfd) {
	err := p.wait()
	s.clearGroup(u.Name)
	s.mu.Lock()
	defer s.mu.Unlock()
	u.adopted = nil
	if err := errors.Join(err, p.close()); err != nil {
		s.o.Log.Error("watch unit", "unit", u.Name, "error", err)
	}
	// Its children aren't reparented to us. The kernel keeps the number of a
	// process group, as a pid too, while it has members; ESRCH: it has none.
	if err := unix.Kill(-u.st.PID, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		s.o.Log.Error("kill what the unit left", "unit", u.Name, "error", err)
	}
	s.ended(u, "unknown")
}

// pidfd refers to one process, never to a later one of the same number
// (pidfd_open(2)).
type pidfd struct{ f *os.File }

func openPidfd(pid int) (*pidfd, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("pidfd of %d: %w", pid, err)
	}
	return &pidfd{os.NewFile(uintptr(fd), "pidfd")}, nil
}

// wait returns when the process has ended: the pidfd is readable then.
func (p *pidfd) wait() error {
	raw, err := p.f.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return err == nil && n == 1
	})
}

func (p *pidfd) signal(sig syscall.Signal) error {
	raw, err := p.f.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := raw.Control(func(fd uintptr) { serr = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return err
	}
	return serr
}

func (p *pidfd) close() error { return p.f.Close() }

// startTicks is empty when the process is gone.
func startTicks(pid int) string {
	f, ok := statFields("/proc/" + strconv.Itoa(pid) + "/stat")
	if !ok {
		return ""
	}
	return f[19]
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // equal on both sides; the ticks still tell
	}
	return strings.TrimSpace(string(b))
}

package pid1

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"komainu/drivers/cgroup"
	"komainu/drivers/units"
)

// groupParent is the control group above every unit's.
const groupParent = "komainu"

// enclose gives the folder of the unit's control group, limits set; nil: there
// are no groups here, or not now: a unit without limits is better than none.
func (s *supervisor) enclose(u units.Unit) *os.File {
	if !s.o.Image {
		return nil
	}
	g, err := cgroup.Make(cgroup.Root, groupParent, u.Name)
	if err == nil {
		err = g.Limit(u.Memory, u.Tasks)
	}
	var dir *os.File
	if err == nil {
		dir, err = g.Open()
	}
	if err != nil {
		s.o.Log.Error("unit runs without limits", "unit", u.Name, "error", err)
		return nil
	}
	return dir
}

// group is the unit's control group, where there is one.
func (s *supervisor) group(name string) (cgroup.Group, bool) {
	if !s.o.Image {
		return cgroup.Group{}, false
	}
	return cgroup.Find(cgroup.Root, groupParent, name)
}

// killGroup kills whatever is in the unit's group.
func (s *supervisor) killGroup(name string) {
	if g, ok := s.group(name); ok {
		if err := g.Kill(); err != nil {
			s.o.Log.Error("kill what the unit left", "unit", name, "error", err)
		}
	}
}

// clearGroup also waits until the group is empty.
func (s *supervisor) clearGroup(name string) {
	g, ok := s.group(name)
	if !ok {
		return
	}
	s.killGroup(name)
	ctx, done := context.WithTimeout(context.Background(), killPatience)
	defer done()
	if err := g.WaitEmpty(ctx); err != nil {
		s.o.Log.Error("wait for what the unit left", "unit", name, "error", err)
	}
}

// countOOMs enters what the kernel killed; the lock is held.
func (s *supervisor) countOOMs(u *unit) {
	g, ok := s.group(u.Name)
	if !ok {
		return
	}
	n, err := g.OOMs()
	if err == nil && n > u.st.OOMs {
		s.o.Log.Warn("processes killed at the unit's memory limit", "unit", u.Name, "total", n)
		u.st.OOMs = n
	}
}

func (s *supervisor) countAllOOMs() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.units {
		before := u.st.OOMs
		if s.countOOMs(u); u.st.OOMs != before {
			s.tell()
		}
	}
}

// probe enters when the unit's socket first accepts; the lock is held. A
// listening socket is no event to anybody, so it is tried, less and less often.
func (s *supervisor) probe(u *unit) {
	if u.Unit.Ready == "" {
		return
	}
	path, starts := u.Unit.Ready, u.st.Starts
	s.restarts.Go(func() {
		for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
			c, err := net.DialTimeout("unix", path, time.Second)
			if err == nil {
				_ = c.Close() // nothing was sent
			}
			s.mu.Lock()
			over := !u.st.Running || u.draining || u.st.Starts != starts
			if !over && err == nil {
				u.st.Ready = time.Now()
				s.o.Log.Info("unit ready", "unit", u.Name, "after", time.Since(u.st.Since))
				s.tell()
			}
			changed := s.changed
			s.mu.Unlock()
			if over || err == nil {
				return
			}
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-changed: // perhaps the unit's end
			}
			t.Stop()
		}
	})
}

// capNames are Linux's capabilities by number (include/uapi/linux/capability.h).
var capNames = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
	"CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN",
	"CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE",
	"CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

func capabilities(names []string) ([]uintptr, error) {
	var all []uintptr
	for _, name := range names {
		i := slices.Index(capNames, name)
		if i < 0 {
			return nil, fmt.Errorf("no capability %q", name)
		}
		all = append(all, uintptr(i))
	}
	return all, nil
}

// Package units names daemons as values and talks to whoever supervises them:
// PID 1 on the image, `komainu supervise` elsewhere. The agent never is the
// parent of a daemon, so that its own death takes nothing along.
package units

import (
	"syscall"
	"time"
)

// Unit is one daemon.
type Unit struct {
	Name  string   `json:"name"`
	Argv  []string `json:"argv"`
	Env   []string `json:"env,omitempty"`  // the whole environment; nothing is inherited
	User  string   `json:"user,omitempty"` // empty: root
	Dir   string   `json:"dir,omitempty"`
	Files uint64   `json:"files,omitempty"` // RLIMIT_NOFILE; 0: inherited
	// Caps are ambient capabilities ("CAP_NET_ADMIN") of a User that isn't root.
	Caps []string `json:"caps,omitempty"`
	// Memory (bytes) and Tasks (processes and threads) are the most that the unit
	// and its children may use together (cgroup v2, memory.max and pids.max);
	// 0: no limit. Without cgroups, as in the lab, they are ignored.
	Memory int64 `json:"memory,omitempty"`
	Tasks  int   `json:"tasks,omitempty"`
	// Restart: started by itself, and again after an exit, with back-off.
	// PostgreSQL never is (design: it starts only on the agent's order).
	Restart     bool           `json:"restart"`
	StopSignal  syscall.Signal `json:"stop_signal,omitempty"`  // 0: SIGTERM
	StopTimeout time.Duration  `json:"stop_timeout,omitempty"` // then StopNext, SIGKILL; 0: 10 s
	// StopNext is sent 5 s before SIGKILL to what StopSignal didn't end: SIGQUIT is
	// PostgreSQL's immediate stop. 0: SIGKILL at once.
	StopNext syscall.Signal `json:"stop_next,omitempty"`
	// Ready is the Unix socket that the unit accepts connections on once it can be
	// used; empty: nothing is asked, and Status.Ready stays zero.
	Ready string `json:"ready,omitempty"`
}

// Status is what the supervisor knows of one unit.
type Status struct {
	Name    string    `json:"name"`
	Running bool      `json:"running"`
	PID     int       `json:"pid,omitempty"`
	Since   time.Time `json:"since"` // of the last start or exit
	Starts  int       `json:"starts"`
	Wanted  bool      `json:"wanted,omitempty"` // a Restart unit that nobody stopped
	Ready   time.Time `json:"ready,omitzero"`   // since when Unit.Ready has accepted, in this run
	OOMs    int       `json:"ooms,omitempty"`   // its processes that were killed at its memory limit; at most 10 s old
	Exit    string    `json:"exit,omitempty"`   // how the last run ended: "exit 1", "signal killed"
}

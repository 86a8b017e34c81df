package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// cpuTime is how long the threads of a process have been on a CPU: the first
// field of /proc/PID/task/TID/schedstat (the kernel's sched-stats.rst), which
// counts nanoseconds, unlike the ticks of /proc/PID/stat. Work that the kernel
// does on behalf of packets while the thread runs is in it.
func cpuTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/schedstat")
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		var ns time.Duration
		if _, err := fmt.Sscan(string(text), &ns); err != nil {
			return 0, fmt.Errorf("read %s: %w", f, err)
		}
		sum += ns
	}
	if sum == 0 {
		return 0, fmt.Errorf("process %d took no CPU time, or doesn't exist", pid)
	}
	return sum, nil
}

// meter measures a run.
type meter struct {
	pid   int
	begin time.Time
	cpu   time.Duration
}

func (l *load) meter() (m meter, err error) {
	m = meter{pid: l.pid, begin: time.Now()}
	if m.pid != 0 {
		m.cpu, err = cpuTime(m.pid)
	}
	return m, err
}

// end fills in the result.
func (m *meter) end(r *Result) error {
	r.Seconds = time.Since(m.begin).Seconds()
	if m.pid == 0 || r.Replies == 0 {
		return nil
	}
	cpu, err := cpuTime(m.pid)
	r.CPU = float64(cpu-m.cpu) / float64(time.Microsecond) / float64(r.Replies)
	return err
}

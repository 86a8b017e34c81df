package pid1

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Ends of the box, as the supervisor's exit status says them to PID 1.
const (
	EndRestart = 10
	EndOff     = 11
	EndRescue  = 12
)

var endNames = map[int]string{EndRestart: "restart", EndOff: "off", EndRescue: "rescue"}

// FirstOptions of First.
type FirstOptions struct {
	Argv  []string // the supervisor's; Argv[0] is an absolute path
	Env   []string // its whole environment
	Out   *os.File // its output and error; nil: /dev/null
	Guard Guard    // Abort is set by First
	Log   *slog.Logger
}

// First is what PID 1 does once the box is mounted: it keeps one supervisor
// (SuperviseImage) alive, reaps whoever is left to it, and runs the guard. It
// knows no unit: a supervisor that panics or is killed leaves the units
// running, and the next one takes them over.
//
// It returns the order by which the supervisor ended: "restart", "off",
// "rescue"; "" when ctx ended, after the supervisor has stopped every unit. The
// watchdog is then armed, not fed, so that a shutdown that hangs ends too. Its
// caller must have no other child.
func First(ctx context.Context, o FirstOptions) string {
	f := &first{o: o}
	guarded, stopGuard := context.WithCancel(context.WithoutCancel(ctx))
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer stopGuard()
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	defer signal.Stop(ended)
	g := o.Guard
	g.Abort = func() error { return errors.Join(f.signal(unix.SIGABRT), f.signal(unix.SIGCONT)) } // a stopped process wouldn't take it
	tasks.Go(func() { g.Watch(guarded) })
	return f.keep(ctx, ended)
}

type first struct {
	o   FirstOptions
	mu  sync.Mutex
	pid int // of the supervisor; 0: it doesn't run
}

// stopIn bounds an ordered end: PostgreSQL's fast stop and what follows it.
const stopIn = 120 * time.Second

// keep is the loop of PID 1.
func (f *first) keep(ctx context.Context, ended <-chan os.Signal) string {
	done, delay := ctx.Done(), firstDelay
	var late <-chan time.Time // the end was asked for too long ago
	next := time.NewTimer(0)
	defer next.Stop()
	var began time.Time
	for {
		select {
		case <-next.C:
			began = time.Now()
			if err := f.start(); err != nil {
				f.o.Log.Error("start the supervisor", "error", err)
				delay = min(2*delay, lastDelay)
				next.Reset(delay)
			}
		case <-ended:
			code, was := f.reap()
			if !was {
				continue
			}
			if name := endNames[code]; name != "" || ctx.Err() != nil {
				return name
			}
			if time.Since(began) >= steady {
				delay = firstDelay
			}
			f.o.Log.Error("the supervisor ended, the next one takes over its units", "status", code, "after", delay)
			next.Reset(delay)
			delay = min(2*delay, lastDelay)
		case <-done:
			done, late = nil, time.After(stopIn)
			if err := f.signal(unix.SIGTERM); err != nil {
				return "" // none runs, and none will
			}
		case <-late:
			f.o.Log.Error("the supervisor doesn't end", "waited", stopIn)
			return ""
		}
	}
}

func (f *first) start() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close() // the child has its own copy
	out := f.o.Out
	if out == nil {
		out = null
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	// Not os.StartProcess: the child is reaped with all others, by reap.
	f.pid, err = syscall.ForkExec(f.o.Argv[0], f.o.Argv, &syscall.ProcAttr{
		Dir: "/", Env: f.o.Env, Files: []uintptr{null.Fd(), out.Fd(), out.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		f.pid = 0
	}
	return err
}

// reap collects every ended child; was tells that the supervisor was among
// them, code how it ended: its exit status, or -1 by a signal.
func (f *first) reap() (code int, was bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if pid <= 0 {
			return code, was
		}
		if pid == f.pid {
			f.pid, code, was = 0, ws.ExitStatus(), true
		}
	}
}

// signal reaches the supervisor or nobody: it is a zombie until reap, under the lock, has seen it.
func (f *first) signal(sig syscall.Signal) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pid == 0 {
		return unix.ESRCH
	}
	return unix.Kill(f.pid, sig)
}

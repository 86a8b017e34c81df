package pid1

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
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
	Argv []string // the supervisor's; Argv[0] is an absolute path
	Env  []string // its whole environment
	// Out is the file of its output: what it says when it panics or is aborted. Not
	// the console: a stack takes minutes at 9600 baud, in which no next supervisor
	// could start. Bounded like a unit's log; a disk that refuses loses it only.
	Out   string
	Guard Guard // Abort is set by First
	Log   *slog.Logger
}

// First is what PID 1 does once the box is mounted: it keeps one supervisor
// (SuperviseImage) alive, reaps whoever is left to it, and runs the guard. It
// knows no unit: a supervisor that panics or is killed leaves the units
// running, and the next one takes them over.
//
// It returns the order by which the supervisor ended: "restart", "off",
// "rescue"; "" when ctx ended, after the supervisor has stopped every unit. What
// runs all the same is ended then (endRest). The watchdog is armed, not fed any
// more, so that a shutdown that hangs ends too. Its caller must have no other child.
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
	end := f.keep(ctx, ended)
	if os.Getpid() == 1 {
		f.endRest(ended)
	}
	return end
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
				return "" // none runs, and none will; endRest ends its units
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
	out, err := f.output()
	if err != nil {
		f.o.Log.Error("output of the supervisor", "error", err)
		out = null
	}
	if out != null {
		defer out.Close() // likewise
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

// output opens the file that the next supervisor prints into.
func (f *first) output() (*os.File, error) {
	if f.o.Out == "" {
		return os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	}
	if err := os.MkdirAll(filepath.Dir(f.o.Out), 0o700); err != nil {
		return nil, err
	}
	if err := boundLog(f.o.Out, logLimit); err != nil {
		f.o.Log.Error("output of the supervisor", "error", err)
	}
	return os.OpenFile(f.o.Out, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
}

// Patience of endRest; both fit into what the watchdog has left.
const (
	termPatience = 10 * time.Second
	lastPatience = 5 * time.Second
)

// endRest ends whatever still runs on the machine: units of a supervisor that
// died or hung at the end, which would keep the data partition from being
// unmounted. After an orderly stop there is nothing. Only PID 1 may call it:
// kill(-1) means every process but itself (kill(2)).
func (f *first) endRest(ended <-chan os.Signal) {
	for _, step := range []stopStep{{unix.SIGTERM, termPatience}, {unix.SIGKILL, lastPatience}} {
		if err := unix.Kill(-1, step.sig); err != nil { // ESRCH: nobody is left
			return
		}
		late := time.NewTimer(step.patience)
		for more := true; more; {
			f.reap()
			// Orphans become our children, so that without any nothing is left.
			if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); errors.Is(err, unix.ECHILD) {
				late.Stop()
				return
			}
			select {
			case <-ended:
			case <-late.C:
				more = false
			}
		}
		f.o.Log.Error("processes don't end", "signal", step.sig, "waited", step.patience)
	}
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

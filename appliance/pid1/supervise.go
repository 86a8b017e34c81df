// Package pid1 owns the daemons: it starts, restarts, stops and reaps them, and
// keeps what they print. It never decides when PostgreSQL runs: the agent does,
// over the socket. A supervisor that is killed leaves its daemons running; the
// next one takes them over. Start reading at Supervise and supervisor.
package pid1

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"komainu/appliance/control"
	"komainu/drivers/units"
)

// Options of Supervise.
type Options struct {
	Run   string       // runtime folder: pid1.sock, units/NAME.json
	State string       // durable folder: log/NAME.log
	Units []units.Unit // started at once, in this order; stopped first, in this order
	Log   *slog.Logger // starts, exits, restarts
}

// Supervise is the process `komainu supervise`: it takes over what an earlier
// supervisor left running, starts o.Units, serves RUN/pid1.sock (root only), and
// when ctx ends stops every unit and waits: first o.Units (the agent), then those
// that were started over the socket, the latest first.
//
// It must be the only part of its process that has children: it reaps
// whatever ends (wait4 on any child) and becomes a child subreaper (prctl(2)),
// so that no grandchild escapes: a process whose parent has ended is killed.
// Units therefore stay in the foreground (no pg_ctl start, no daemonizing).
//
// A fault of one unit or of its record is logged and never ends the others;
// errors are a refused definition, a folder that can't be made, and an
// *control.Error "supervisor-held".
func Supervise(ctx context.Context, o Options) error {
	for _, u := range o.Units {
		if err := check(u); err != nil {
			return fmt.Errorf("supervise: %w", err)
		}
	}
	for _, dir := range []string{filepath.Join(o.Run, "units"), filepath.Join(o.State, "log")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("supervise: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("supervise: become subreaper: %w", err)
	}
	ln, err := control.Listen(ctx, filepath.Join(o.Run, "pid1.sock"), 0o600)
	if err != nil {
		return held(err)
	}
	s := newSupervisor(o)
	var tasks sync.WaitGroup
	defer tasks.Wait()

	// The tasks outlive ctx: units are reaped, and the agent may ask for the end
	// of PostgreSQL, until all have stopped.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	defer signal.Stop(ended)
	tasks.Go(func() { s.reap(life, ended) })
	tasks.Go(func() { s.boundLogs(life) })
	s.adopt()
	for _, u := range o.Units {
		if _, err := s.Start(u); err != nil {
			s.o.Log.Error("start unit", "unit", u.Name, "error", err)
		}
	}
	// Answered only now: before, a running unit would be unknown, and started twice.
	served := make(chan error, 1)
	tasks.Go(func() {
		srv := &control.Server{Socket: filepath.Join(o.Run, "pid1.sock"), Routes: s.routes()}
		served <- srv.Serve(life, ln)
	})
	select {
	case <-ctx.Done():
	case err = <-served:
	}
	return errors.Join(err, s.stopAll(life))
}

func held(err error) error {
	var e *control.Error
	if errors.As(err, &e) && e.Code == "socket-held" {
		return &control.Error{Code: "supervisor-held", Where: e.Where, Args: e.Args}
	}
	return err
}

// reap collects ended children whenever the kernel says that there are some.
func (s *supervisor) reap(ctx context.Context, ended <-chan os.Signal) {
	for {
		s.collect()
		select {
		case <-ctx.Done():
			return
		case <-ended:
		}
	}
}

// boundLogs keeps every log file below its limit. Units write their files
// themselves, so that they go on when the supervisor dies; nobody could be
// waited for here.
func (s *supervisor) boundLogs(ctx context.Context) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, name := range s.names() {
				if err := boundLog(s.logPath(name), logLimit); err != nil {
					s.o.Log.Error("keep log short", "unit", name, "error", err)
				}
			}
		}
	}
}

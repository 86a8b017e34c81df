// Package pid1 owns the daemons: it starts, restarts, stops and reaps them, and
// keeps what they print. It never decides when PostgreSQL runs: the agent does,
// over the socket. A supervisor that is killed leaves its daemons running; the
// next one takes them over. On the image PID 1 itself is First: it keeps a
// supervisor alive, which therefore may die, and feeds the watchdog as the
// vigil decides.
//
// Logs. In the lab a unit writes its file itself and lives on when nobody comes
// back after a supervisor's death. On the image one always comes back, so a unit
// writes into a named pipe: the supervisor drains it, keeps so much per second
// and counts the rest. Cutting a file behind its writer bounds nothing (200 MB/s
// fill a disk between two looks), a file size limit would also bound PostgreSQL's
// tables, and slowing the writer would hang a database on its log. The unit
// holds both ends: without a supervisor it waits in a full pipe, and never sees
// it broken. Start reading at Supervise, supervisor and First.
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
	Units []units.Unit // started at once, in this order
	Log   *slog.Logger // starts, exits, restarts

	// Image: the machine is ours. Each unit gets a control group (limits, nothing
	// outlives it) and a bounded log, and an order ends the box.
	Image  bool
	Groups map[string]control.Role                         // who else may ask; only the image's routes have lower roles than admin
	More   []control.Route                                 // answered on the same socket
	Before func(ctx context.Context, o control.PowerOrder) // called before a power order is carried out, for at most beforeBound; may be nil
}

// SuperviseImage is Supervise on the image, where it is PID 1's child: the exit
// status for First, EndRestart and the like after a power order, else 0, or 1
// with an error.
func SuperviseImage(ctx context.Context, o Options) (int, error) {
	o.Image = true
	order, err := superviseUnits(ctx, o)
	if end := powerEnds[order.Action]; end != 0 {
		return end, err // a unit that doesn't stop doesn't keep the box up
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}

// Supervise is the process `komainu supervise`: it takes over what an earlier
// supervisor left running, starts o.Units, serves RUN/pid1.sock (root only), and
// when ctx ends stops every unit and waits: the agent first, then the others, the
// latest started first.
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
	_, err := superviseUnits(ctx, o)
	return err
}

// superviseUnits also tells the power order that ended it; its Action is empty if none did.
func superviseUnits(ctx context.Context, o Options) (order control.PowerOrder, err error) {
	for _, u := range o.Units {
		if err := check(u); err != nil {
			return order, fmt.Errorf("supervise: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Join(o.Run, "units"), 0o700); err != nil {
		return order, fmt.Errorf("supervise: %w", err)
	}
	// On the image a disk that is full or read-only costs the logs (logRing counts
	// the lines), not the consoles.
	if err := os.MkdirAll(filepath.Join(o.State, "log"), 0o700); err != nil && !o.Image {
		return order, fmt.Errorf("supervise: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return order, fmt.Errorf("supervise: become subreaper: %w", err)
	}
	mode := os.FileMode(0o600)
	if len(o.Groups) > 0 {
		mode = 0o666 // the credentials decide
	}
	ln, err := control.Listen(ctx, filepath.Join(o.Run, "pid1.sock"), mode)
	if err != nil {
		return order, held(err)
	}
	s := newSupervisor(o)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer s.closeLogs()

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
	routes := append(s.routes(), o.More...)
	if o.Image {
		routes = append(routes, s.powerRoute())
	}
	served := make(chan error, 1)
	tasks.Go(func() {
		srv := &control.Server{Socket: filepath.Join(o.Run, "pid1.sock"), Groups: o.Groups, Routes: routes}
		served <- srv.Serve(life, ln)
	})
	select {
	case <-ctx.Done():
	case order = <-s.power:
	case err = <-served:
	}
	return order, errors.Join(err, s.stopAll(life))
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

// boundLogs keeps every log file below its limit, where units write their files
// themselves, and counts what the kernel killed, where they don't (see logRing).
func (s *supervisor) boundLogs(ctx context.Context) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if s.o.Image {
				s.countAllOOMs()
				continue
			}
			for _, name := range s.names() {
				if err := boundLog(s.logPath(name), logLimit); err != nil {
					s.o.Log.Error("keep log short", "unit", name, "error", err)
				}
			}
		}
	}
}

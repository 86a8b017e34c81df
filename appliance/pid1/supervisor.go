package pid1

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"komainu/appliance/control"
	"komainu/drivers/units"
)

// supervisor holds the units. A unit counts as running until its main process
// and everything that it left behind is gone, so that "stopped" may be relied on
// (a backend of a killed PostgreSQL could still answer a client).
type supervisor struct {
	o Options

	mu       sync.Mutex
	units    map[string]*unit
	order    []string      // of first start
	changed  chan struct{} // closed and replaced at every change of a status
	closing  bool          // nothing is started any more
	ordered  bool          // a power order was taken: it stands
	restarts sync.WaitGroup
	logs     map[string]*logRing // of the image: by unit
	power    chan control.PowerOrder
}

type unit struct {
	units.Unit
	st       units.Status
	wanted   bool          // a Restart unit starts again after an exit
	draining bool          // the main process ended, some of its children haven't
	adopted  *pidfd        // not our child: an earlier supervisor's
	cancel   chan struct{} // closed to give up a pending restart; nil: none is pending
	delay    time.Duration // before the next restart
}

// Back-off of restarts: doubled by every exit within steady of its start.
const (
	firstDelay = 100 * time.Millisecond
	lastDelay  = 5 * time.Second
	steady     = 10 * time.Second
)

const defaultStopTimeout = 10 * time.Second

// killPatience is how long SIGKILL may take; longer means that the kernel
// waits for a device.
const killPatience = 30 * time.Second

// nextPatience is what Unit.StopNext gets before SIGKILL.
const nextPatience = 5 * time.Second

type stopStep struct {
	sig      syscall.Signal
	patience time.Duration
}

func newSupervisor(o Options) *supervisor {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &supervisor{o: o, units: map[string]*unit{}, changed: make(chan struct{}),
		logs: map[string]*logRing{}, power: make(chan control.PowerOrder, 1)}
}

// validName keeps names usable as file names.
var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}$`)

func check(u units.Unit) error {
	bad := ""
	switch {
	case !validName.MatchString(u.Name):
		bad = "name " + strconv.Quote(u.Name)
	case len(u.Argv) == 0 || u.Argv[0] == "" || u.Argv[0][0] != '/':
		bad = "argv must begin with an absolute path"
	case u.StopTimeout < 0 || u.StopSignal < 0:
		bad = "stop"
	case u.Files != 0 && u.Files < 64:
		bad = "files below 64"
	case u.Memory < 0 || u.Tasks < 0:
		bad = "limits below 0"
	case len(u.Caps) > 0 && u.User == "":
		bad = "caps without a user: root has them all"
	}
	if _, err := capabilities(u.Caps); bad == "" && err != nil {
		bad = err.Error()
	}
	if bad != "" {
		return &control.Error{Code: "unit-bad", Where: u.Name, Args: []string{bad}, Status: 400}
	}
	return nil
}

// Start starts u, or leaves it alone when it runs with the same definition.
// Errors are *control.Error: "unit-bad", "unit-differs", "unit-failed",
// "shutting-down". A Restart unit that fails is tried again all the same.
func (s *supervisor) Start(u units.Unit) (units.Status, error) {
	if err := check(u); err != nil {
		return units.Status{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return units.Status{}, &control.Error{Code: "shutting-down", Where: u.Name, Status: 503}
	}
	old := s.units[u.Name]
	if old == nil {
		old = &unit{st: units.Status{Name: u.Name}}
		s.units[u.Name] = old
		s.order = append(s.order, u.Name)
	}
	if old.st.Running {
		// An adopted unit may get its new definition at its next start.
		if !reflect.DeepEqual(old.Unit, u) && (old.adopted == nil || !u.Restart) {
			return old.st, &control.Error{Code: "unit-differs", Where: u.Name}
		}
		old.Unit, old.wanted, old.st.Wanted = u, u.Restart, u.Restart
		s.record(old)
		s.tell()
		return old.st, nil
	}
	s.giveUpRestart(old)
	old.Unit, old.wanted, old.delay = u, u.Restart, firstDelay
	if err := s.launch(old); err != nil {
		return old.st, err
	}
	return old.st, nil
}

// launch starts the process of a unit that doesn't run. The lock is held from
// before the fork: the reaper never meets a child that isn't entered here.
func (s *supervisor) launch(u *unit) error {
	pid, err := s.spawn(u.Unit)
	if err != nil {
		u.st.Exit, u.st.Since, u.st.Wanted = "start failed", time.Now(), u.wanted
		s.o.Log.Error("unit can't start", "unit", u.Name, "error", err)
		s.scheduleRestart(u)
		s.tell()
		return &control.Error{Code: "unit-failed", Where: u.Name, Args: []string{err.Error()}, Status: 500}
	}
	u.st = units.Status{Name: u.Name, Running: true, PID: pid, Since: time.Now(), Starts: u.st.Starts + 1, Wanted: u.wanted, OOMs: u.st.OOMs}
	s.o.Log.Info("unit started", "unit", u.Name, "pid", pid)
	s.record(u)
	s.tell()
	s.probe(u)
	return nil
}

// scheduleRestart starts a wanted unit again after its delay.
func (s *supervisor) scheduleRestart(u *unit) {
	if !u.wanted || s.closing {
		return
	}
	cancel, delay := make(chan struct{}), u.delay
	u.cancel, u.delay = cancel, min(2*u.delay, lastDelay)
	s.restarts.Go(func() {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-cancel:
			return
		case <-t.C:
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if u.cancel == cancel { // nobody started or stopped it meanwhile
			u.cancel = nil
			_ = s.launch(u) // logged and scheduled again there
		}
	})
}

func (s *supervisor) giveUpRestart(u *unit) {
	if u.cancel != nil {
		close(u.cancel)
		u.cancel = nil
	}
}

// ended enters the end of a unit; the lock is held.
func (s *supervisor) ended(u *unit, exit string) {
	if time.Since(u.st.Since) >= steady {
		u.delay = firstDelay
	}
	s.o.Log.Info("unit ended", "unit", u.Name, "pid", u.st.PID, "exit", exit)
	u.draining = false
	s.countOOMs(u)
	u.st.Running, u.st.PID, u.st.Exit, u.st.Since, u.st.Ready = false, 0, exit, time.Now(), time.Time{}
	if !u.wanted {
		s.forget(u)
	}
	s.scheduleRestart(u)
	s.tell()
}

// Signal sends sig to a unit's main process.
func (s *supervisor) Signal(name string, sig syscall.Signal) (units.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.known(name)
	if err != nil {
		return units.Status{}, err
	}
	if !u.st.Running || u.draining {
		return u.st, &control.Error{Code: "unit-stopped", Where: name}
	}
	if err := u.signal(sig); err != nil {
		return u.st, fmt.Errorf("send %v to unit %s, pid %d: %w", sig, name, u.st.PID, err)
	}
	return u.st, nil
}

// signal is safe against a reused pid: a child of ours is a zombie until the
// reaper, under the lock, has seen it; another's is held by its pidfd.
func (u *unit) signal(sig syscall.Signal) error {
	if u.adopted != nil {
		return u.adopted.signal(sig)
	}
	return unix.Kill(u.st.PID, sig)
}

// Stop ends a unit and waits for it; ctx ends the waiting, not the stopping.
func (s *supervisor) Stop(ctx context.Context, name string) (units.Status, error) {
	s.mu.Lock()
	u, err := s.known(name)
	if err != nil {
		s.mu.Unlock()
		return units.Status{}, err
	}
	u.wanted, u.st.Wanted = false, false
	s.giveUpRestart(u)
	if !u.st.Running {
		defer s.mu.Unlock()
		s.forget(u)
		return u.st, nil
	}
	sig, patience := u.StopSignal, u.StopTimeout
	if sig == 0 {
		sig = syscall.SIGTERM
	}
	if patience == 0 {
		patience = defaultStopTimeout
	}
	starts := u.st.Starts
	steps := []stopStep{{sig, patience}, {u.StopNext, nextPatience}, {syscall.SIGKILL, killPatience}}
	if u.StopNext == 0 {
		steps = slices.Delete(steps, 1, 2)
	}
	s.mu.Unlock()

	var st units.Status
	for _, step := range steps {
		if step.sig == syscall.SIGKILL {
			s.killGroup(name) // also what forks for ever
		}
		if _, err := s.Signal(name, step.sig); err != nil {
			s.o.Log.Info("unit gone before its signal", "unit", name, "signal", step.sig, "error", err)
		}
		// The patience runs on when the asker leaves: the unit was promised its end.
		t, done := context.WithTimeout(context.WithoutCancel(ctx), step.patience)
		st, err = s.wait(t, name, starts)
		done()
		if err == nil {
			return st, nil
		}
		s.o.Log.Warn("unit doesn't stop", "unit", name, "signal", step.sig, "waited", step.patience)
	}
	return st, &control.Error{Code: "unit-not-stopped", Where: name, Args: []string{strconv.Itoa(st.PID)}, Status: 500}
}

// Wait returns when the unit doesn't run, or with ctx's error.
func (s *supervisor) Wait(ctx context.Context, name string) (units.Status, error) {
	return s.wait(ctx, name, 0)
}

// wait also returns when the unit has been started more often than starts (if
// that isn't 0): the run that was waited for is over.
func (s *supervisor) wait(ctx context.Context, name string, starts int) (units.Status, error) {
	for {
		s.mu.Lock()
		u, err := s.known(name)
		if err != nil {
			s.mu.Unlock()
			return units.Status{}, err
		}
		st, changed := u.st, s.changed
		s.mu.Unlock()
		if !st.Running || (starts != 0 && st.Starts > starts) {
			return st, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return st, ctx.Err()
		}
	}
}

// Status tells how a unit is.
func (s *supervisor) Status(name string) (units.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.known(name)
	if err != nil {
		return units.Status{}, err
	}
	return u.st, nil
}

// All gives the status of every unit in the order of first start, and a
// channel that is closed when one of them changes.
func (s *supervisor) All() ([]units.Status, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]units.Status, 0, len(s.order))
	for _, name := range s.order {
		all = append(all, s.units[name].st)
	}
	return all, s.changed
}

func (s *supervisor) known(name string) (*unit, error) {
	u, ok := s.units[name]
	if !ok {
		return nil, &control.Error{Code: "unit-unknown", Where: name, Status: 404}
	}
	return u, nil
}

func (s *supervisor) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *supervisor) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.units))
}

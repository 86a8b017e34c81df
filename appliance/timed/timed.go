// Package timed is the time daemon: the loop around ntp/timer. It reads the
// clocks, asks servers, adjusts the kernel's clock and answers clients; what to
// do is decided in ntp/timer, what to answer in ntp/server. It knows nothing of
// the agent and lives on when that dies. Start reading at Run.
package timed

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"komainu/appliance/control"
	"komainu/drivers/clock"
	"komainu/drivers/files"
	"komainu/drivers/ntpio"
	"komainu/drivers/ntpquery"
	"komainu/ntp/keys"
	"komainu/ntp/server"
	"komainu/ntp/timer"
)

// Config is what the daemon is told once. References to secrets are resolved.
type Config struct {
	Site      string
	Spec      timer.Spec
	Upstreams []Upstream // as many as Spec.Upstreams, in the same order
	Listen    []netip.AddrPort
	Rules     server.Rules // NTS is set by the daemon
	NTS       *NTS         // nil: clients get none
	LeapFile  string       // empty: none
	Floor     time.Time    // surely past: when the program was built
	State     string       // folder of the drift file and the cookie keys
	Run       string       // folder of timed.sock
	Cut       func() error // gives up this process's privileges but for the clock and its ports; nil: keeps them
	Log       *slog.Logger
}

// Upstream is how the servers of a line of the configuration are asked.
type Upstream struct {
	Key    *keys.Key
	NTS    bool
	KEPort uint16         // of its key exchange
	Roots  *x509.CertPool // of NTS; nil: the system's
}

// Names of the daemon's files below Config.State.
const (
	driftFile   = "time/drift.json"
	cookieFile  = "time/cookie-keys.json"
	journalFile = "time/journal.ndjson"
)

// driftVersion is the version of the drift file's form.
const driftVersion = 1

// Daemon is a running time daemon.
type Daemon struct {
	cfg     Config
	started time.Time
	floor   time.Time // surely past
	virtual string
	events  chan timer.Event
	timer   *clock.Timer
	group   *errgroup.Group
	socket  *ntpio.Server // nil: serves nobody
	disk    disk

	mu     sync.Mutex // guards what follows
	core   *timer.Timer
	alarms map[alarmKey]standing
	orders map[string]chan timer.Done

	serving  serving
	offering offering
	asking   asking
}

// Run serves time until ctx ends. It fails at once, with nothing left behind,
// when a socket can't be opened or the clock may not be adjusted.
func Run(ctx context.Context, cfg Config) (err error) {
	d := &Daemon{cfg: cfg, started: time.Now(), events: make(chan timer.Event, 64), core: timer.New(cfg.Spec),
		disk: disk{make(chan func() error, diskQueue)}, alarms: map[alarmKey]standing{}, orders: map[string]chan timer.Done{}}
	if err := os.MkdirAll(d.path("time"), 0o700); err != nil {
		cfg.Log.Error("state of the time daemon", "error", err) // it goes on without
	}
	if d.virtual, _ = clock.Virtual("/"); d.virtual != "" {
		d.alarm("time-virtual", "", false, true)
	}
	socket := filepath.Join(cfg.Run, "timed.sock")
	ln, err := control.Listen(ctx, socket, 0o600)
	if err != nil {
		return err
	}
	started, err := d.takeOver()
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	if err := d.open(); err != nil {
		return errors.Join(err, ln.Close())
	}
	if cfg.Cut != nil { // from here on nothing needs more
		if err := cfg.Cut(); err != nil {
			return errors.Join(err, d.close(), ln.Close())
		}
	}
	d.note("note-time-started")
	d.group, ctx = errgroup.WithContext(ctx)
	d.group.Go(func() error { return (&control.Server{Socket: socket, Routes: d.routes()}).Serve(ctx, ln) })
	d.serve(ctx)
	writing, written := context.WithCancel(context.WithoutCancel(ctx)) // outlives the loop, whose last word is the drift
	d.group.Go(func() error {
		defer written()
		return d.loop(ctx, started)
	})
	d.group.Go(func() error {
		d.disk.run(writing, func(err error) {
			if err != nil {
				cfg.Log.Error("state of the time daemon", "error", err)
			}
			d.alarm("time-state-unwritten", "", false, err != nil)
		})
		return nil
	})
	d.group.Go(func() error { return d.watchSet(ctx) })
	d.group.Go(func() error { return d.readLeaps(ctx) })
	return d.group.Wait()
}

// takeOver reads what the last run left, and what the kernel does now.
func (d *Daemon) takeOver() (timer.Started, error) {
	var s timer.Started
	err := files.ReadJSON(d.path(driftFile), driftVersion, &s.Drift)
	d.floor = later(d.cfg.Floor, time.Unix(0, int64(s.Drift.At)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.cfg.Log.Warn("drift file ignored", "error", err)
		s.Drift = timer.Drift{At: 1} // not plausible: the core says so to people
	}
	if d.cfg.Spec.NoClock {
		st, err := clock.ReadState()
		s.Kernel = st.Frequency
		return s, err
	}
	st, err := clock.Take()
	if err != nil {
		return s, fmt.Errorf("%w (run with --no-clock to serve the time without adjusting it)", err)
	}
	s.Kernel = st.Frequency
	return s, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (d *Daemon) path(name string) string { return filepath.Join(d.cfg.State, name) }

// loop feeds the core and does what it says, one event after the other.
func (d *Daemon) loop(ctx context.Context, started timer.Started) (err error) {
	if d.timer, err = clock.NewTimer(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.timer.Close()) }()
	d.step(ctx, started)
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		d.cfg.Log.Warn("tell systemd", "error", err)
	}
	for {
		select {
		case <-ctx.Done():
			d.step(ctx, timer.Stopping{})
			return nil
		case ev := <-d.events:
			d.step(ctx, ev)
		case <-d.timer.C():
			d.step(ctx, timer.Tick{})
			_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog) // without a watchdog there is nobody to tell
		}
	}
}

// step is one event and everything that follows from it. What the kernel
// refuses comes back as an event of its own.
func (d *Daemon) step(ctx context.Context, ev timer.Event) {
	for queue := []timer.Event{ev}; len(queue) > 0; queue = queue[1:] {
		d.mu.Lock()
		todo := d.core.Step(clock.Read(), queue[0])
		d.mu.Unlock()
		for _, a := range todo {
			if err := d.act(ctx, a); err != nil {
				d.cfg.Log.Error("time", "action", fmt.Sprintf("%T", a), "error", err)
				queue = append(queue, timer.Failed{Action: timer.Kind(a), Detail: err.Error()})
			}
		}
	}
}

// tell queues an event for the loop.
func (d *Daemon) tell(ctx context.Context, ev timer.Event) {
	select {
	case d.events <- ev:
	case <-ctx.Done():
	}
}

// act carries out one action. Only what the kernel or the disk refuses is an
// error.
func (d *Daemon) act(ctx context.Context, a timer.Action) error {
	switch a := a.(type) {
	case timer.Wake:
		return d.timer.Reset(a.At)
	case timer.Resolve:
		d.group.Go(func() error { d.resolve(ctx, a); return nil })
	case timer.Query:
		d.group.Go(func() error { d.query(ctx, a); return nil })
	case timer.Forget:
		d.asking.forget(a.Source)
	case timer.SetFrequency:
		return clock.SetFrequency(a.PPM)
	case timer.Slew:
		return clock.Slew(a.Offset, a.Constant)
	case timer.StepClock:
		err := clock.Step(a.By)
		d.stepped()
		if err == nil {
			d.setHardware()
		}
		return err
	case timer.SetLeap:
		return clock.SetLeap(a.Seconds)
	case timer.SetTAI:
		return clock.SetTAI(a.Seconds)
	case timer.SetSync:
		return clock.SetSync(a.Synced, a.Bound)
	case timer.Publish:
		d.serving.state.Store(&a.State)
	case timer.Save:
		return d.saveDrift(a.Drift)
	case timer.Alarm:
		d.alarm(a.ID, a.Subject, a.Critical, a.Raised)
	case timer.Note:
		d.note(a.Code, a.Args...)
	case timer.Done:
		d.done(a)
	}
	return nil
}

// resolve looks a name up.
func (d *Daemon) resolve(ctx context.Context, a timer.Resolve) {
	addrs, err := ntpquery.Resolve(ctx, d.cfg.Spec.Upstreams[a.Upstream].Name)
	if err != nil {
		addrs = nil
	}
	d.tell(ctx, timer.Resolved{Upstream: a.Upstream, Addrs: addrs})
}

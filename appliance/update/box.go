// Package update installs new images, watches over their trial and takes them
// back. The order to install comes through the supervisor's socket; the work
// runs in a process of its own (JobMain), so that nothing that is fetched is
// read by PID 1. The trial itself is judged by images/trial, the files of the
// EFI partition are kept by images/esp. Start reading at Open, then Box.Routes
// and Box.Run.
//
// Until an image is accepted, the box may go back to the one before at any
// moment. Nothing may therefore be migrated on disk during a trial: configuration
// is migrated in memory, and state files keep the format version that the older
// image reads (files.ReadJSON refuses another one). Box.OnTrial says so to whom
// it concerns.
package update

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"komainu/appliance/control"
	"komainu/drivers/efivars"
	"komainu/drivers/units"
	"komainu/images/esp"
	"komainu/images/layout"
	"komainu/images/trial"
	"komainu/ntp/instant"
)

// Config is what main gives.
type Config struct {
	Root    string         // layout.EFIMount
	State   string         // layout.State
	Run     string         // layout.Run
	Keys    string         // layout.Keys
	Program string         // layout.Program
	Version layout.Version // of the running image
	Loader  efivars.Loader // of this boot; zero: not started by the loader
	Last    control.Reset  // how the run before ended
	CA      func() string  // file of the authority of https:// sources; "": none may be asked
	// Writable remounts Root; nil: it is writable all the time (tests).
	Writable func(on bool) error
	World    World
	Units    units.Client // runs the job
	Disks    func() ([]control.Disk, error)
	// Restart asks for an orderly restart of the box, as reason says, and returns at once.
	Restart func(kind string, reason control.Reason)
	Wall    func() time.Time
	Log     *slog.Logger
}

// Box is the images of this box. All methods may be used at once.
type Box struct {
	c Config

	mu      sync.Mutex
	state   State
	running esp.Image // zero: not one of Root's
	busy    bool      // an order is carried out
	trial   *watch    // nil: the running image isn't on trial
	over    chan struct{}
}

type watch struct {
	core  *trial.Trial
	last  trial.Decision
	ended bool
}

// Open looks at what the loader did and records which images it gave up. The
// error tells what couldn't be read or written; the Box works all the same, as
// far as it can.
func Open(c Config) (*Box, error) {
	b := &Box{c: c, over: make(chan struct{})}
	state, err := readState(c.State)
	b.state = state
	all, err2 := esp.List(c.Root)
	b.running, _ = esp.ParseName(path.Base(c.Loader.BootCountPath))
	if b.running.Version == "" {
		b.running, _ = esp.ParseName(c.Loader.Entry)
	}
	b.running = fileOf(b.running, all)
	changed := false
	for _, i := range all {
		_, known := b.state.Failed[i.Version]
		if i.State() != "failed" || known || i.Name() == b.running.Name() {
			continue
		}
		b.state.Failed[i.Version] = Failed{gaveUp(c.Last), c.Wall()}
		changed = true
		c.Log.Warn("an image was given up", "version", i.Version, "starts", i.Done, "last", c.Last.Kind)
	}
	var err3 error
	if changed {
		err3 = b.state.write(c.State)
	}
	// One that failed before runs because somebody picked it, or because there is
	// nothing else: a trial would only restart the box again and again.
	if _, failed := b.state.Failed[b.running.Version]; b.running.Counted && !failed {
		b.trial = &watch{core: trial.New(b.state.Baseline, now())}
	}
	return b, errors.Join(err, err2, err3)
}

// fileOf is the running image's file as it is now. The loader's variables stay as
// they were at the start: since then the image may have been accepted, or got
// its tries back, by a supervisor that this one follows.
func fileOf(running esp.Image, all []esp.Image) esp.Image {
	now := running
	for _, i := range all {
		if i.Name() == running.Name() {
			return i
		}
		if i.Version == running.Version {
			now = i
		}
	}
	return now
}

// gaveUp is why the loader stopped starting an image: how its last run ended.
func gaveUp(last control.Reset) control.Reason {
	switch last.Kind {
	case "panic":
		return control.Reason{Code: "image-failed-panic"}
	case "watchdog":
		return control.Reason{Code: "image-failed-watchdog"}
	case "trial":
		if last.Reason.Code != "" {
			return last.Reason
		}
	}
	return control.Reason{Code: "image-failed-starts"}
}

// OnTrial says that the running image isn't accepted yet.
func (b *Box) OnTrial() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.trial != nil && !b.trial.ended
}

// Trial is how the trial stands; nil when there is none.
func (b *Box) Trial() *control.Trial {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.trial == nil || b.trial.ended {
		return nil
	}
	return &control.Trial{LeftS: b.trial.last.Left.Seconds(), Waiting: reasons(b.trial.last.Waiting), Excused: reasons(b.trial.last.Excused)}
}

func reasons(all []trial.Reason) []control.Reason {
	out := make([]control.Reason, 0, len(all))
	for _, r := range all {
		out = append(out, control.Reason(r))
	}
	return out
}

// Images are the files of the EFI partition, and the versions that failed and
// were removed, the newest first.
func (b *Box) Images() ([]control.Image, error) {
	all, err := esp.List(b.c.Root)
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []control.Image
	there := map[layout.Version]bool{}
	for _, i := range all {
		there[i.Version] = true
		c := control.Image{Version: string(i.Version), File: i.Name(), State: i.State(), Running: i.Name() == b.running.Name(), Left: i.Left}
		if f, failed := b.state.Failed[i.Version]; failed && c.State != "accepted" {
			c.State, c.Reason = "failed", f.Reason
		}
		out = append(out, c)
	}
	for v, f := range b.state.Failed {
		if !there[v] {
			out = append(out, control.Image{Version: string(v), State: "failed", Reason: f.Reason})
		}
	}
	slices.SortStableFunc(out, func(x, y control.Image) int {
		return layout.Version(y.Version).Compare(layout.Version(x.Version))
	})
	return out, err
}

// BeforeRestart is to be called before an ordered restart: what works now
// is asked of an image that waits, and one on trial gets its tries back, since
// the order says nothing about it.
func (b *Box) BeforeRestart(ctx context.Context) error {
	b.mu.Lock()
	onTrial, running := b.trial != nil && !b.trial.ended, b.running
	b.mu.Unlock()
	if onTrial {
		return b.writing(func() error {
			as, err := esp.ResetTries(b.c.Root, running)
			b.mu.Lock()
			defer b.mu.Unlock()
			b.running = as
			return err
		})
	}
	all, err := esp.List(b.c.Root)
	if err != nil || !slices.ContainsFunc(all, func(i esp.Image) bool { return i.State() == "trial" }) {
		return err
	}
	return b.keepBaseline(ctx)
}

// keepBaseline records what works now.
func (b *Box) keepBaseline(ctx context.Context) error {
	base := baseline(b.c.World.evidence(ctx))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state.Baseline = base
	return b.state.write(b.c.State)
}

// writing makes the EFI partition writable while f works.
func (b *Box) writing(f func() error) error {
	if b.c.Writable == nil {
		return f()
	}
	if err := b.c.Writable(true); err != nil {
		return fmt.Errorf("make the EFI partition writable: %w: %w", esp.ErrReadOnly, err)
	}
	err := f()
	if ro := b.c.Writable(false); ro != nil {
		err = errors.Join(err, fmt.Errorf("make the EFI partition read-only again: %w", ro))
	}
	return err
}

// Remount makes the mounted EFI partition at root writable or read-only; use it
// for Config.Writable.
func Remount(root string) func(on bool) error {
	return func(on bool) error {
		flags := uintptr(unix.MS_REMOUNT | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
		if !on {
			flags |= unix.MS_RDONLY
		}
		return unix.Mount("", root, "", flags, "")
	}
}

// now is CLOCK_BOOTTIME.
func now() instant.Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // the clock exists since Linux 2.6.39
	}
	return instant.Instant(ts.Nano())
}

// Package boot brings the machine up for PID 1 and down again: the kernel's
// file systems, drivers, settings, the clock's floor, the disk that the box runs
// from and its data partition. Each step is bounded and none is fatal: what
// fails becomes a fault, and the console works all the same. It starts no
// daemon and knows no configuration but a name. Start reading at Early and
// Boot.Rest; which disk is ours, and what may be done to it, is decide's say.
package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"komainu/appliance/control"
	"komainu/drivers/kmod"
	"komainu/drivers/uevents"
	"komainu/images/layout"
)

// Options are what boot can't know itself.
type Options struct {
	Log *slog.Logger
	// Say tells the person at the console about what takes long: a row of
	// appliance/say with its arguments. It is called from other tasks too.
	Say func(code string, args ...string)
	// Busy says that something begins that may take so long, and not longer: for
	// that time whoever feeds the watchdog may go on without hearing more.
	Busy func(atMost time.Duration)
	// BootPartition is the GUID of the EFI partition that the boot loader came
	// from, empty when it is unknown. It is asked when EFI variables are mounted.
	BootPartition func() string
	// Hostname is the box's name, asked when the data partition is there; nil or
	// "": komainu.
	Hostname func() string
	// Wait is how long to wait for the disk to appear; 0: 15 s, what a USB stick
	// takes behind a hub.
	Wait time.Duration
}

// Found is what boot came to.
type Found struct {
	Data       string           // as control.Box.Data
	Faults     []control.Reason // what could not be done
	Disk       string           // that the box runs from, "sda"; empty: unknown
	ESP        string           // device that is mounted at layout.EFIMount, "/dev/sda1"; empty: none
	DataDevice string           // that is mounted at layout.DataMount; empty: memory
	Build      layout.Build     // zero when the image doesn't say
	Rescue     bool
	Took       []Took
}

// Took is one step's duration.
type Took struct {
	Step string
	For  time.Duration
}

// Boot is one run of the machine.
type Boot struct {
	o       Options
	Modules *kmod.Loader // nil without an index of modules; loads for others too
	devices *uevents.Conn
	faults  []control.Reason
	took    []Took
	build   layout.Build
	found   Found
}

// Early mounts the kernel's file systems and reads the index of modules: what
// it takes to arm a watchdog. It needs some ten milliseconds.
func Early(o Options) *Boot {
	if o.Wait == 0 {
		o.Wait = 15 * time.Second
	}
	b := &Boot{o: o}
	b.step("mounts", func() error {
		return errors.Join(mountAll(kernelMounts...), devLinks(), makeFolders(runFolders))
	})
	b.step("modules", func() error {
		release, err := kmod.Release()
		if err != nil {
			return err
		}
		b.Modules, err = kmod.Open(filepath.Join(layout.Modules, release))
		return err
	})
	return b
}

// stepLimit is how long a step may take beside the tools that it runs; the
// longest is loading the drivers of a machine with many devices.
const stepLimit = 2 * time.Minute

func (b *Boot) busy(atMost time.Duration) {
	if b.o.Busy != nil {
		b.o.Busy(atMost)
	}
}

// step runs one and keeps its duration; an error is a fault.
func (b *Boot) step(name string, f func() error) {
	b.busy(stepLimit)
	begin := time.Now()
	err := f()
	b.took = append(b.took, Took{name, time.Since(begin)})
	if err != nil {
		b.o.Log.Error("boot", "step", name, "error", err)
		b.fault("boot-step-failed", name, err.Error())
	}
}

func (b *Boot) fault(code string, args ...string) {
	b.faults = append(b.faults, control.Reason{Code: code, Args: args})
}

func (b *Boot) say(code string, args ...string) {
	if b.o.Say != nil {
		b.o.Say(code, args...)
	}
}

// Rest does the rest, once. It starts programs and waits for them, so it must
// end before anything reaps all children. When ctx ends it comes back early.
func (b *Boot) Rest(ctx context.Context) Found {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		b.o.Log.Error("boot", "error", err)
	}
	b.found.Rescue = hasFlag(string(cmdline), layout.RescueFlag)
	b.step("build", b.readBuild)
	b.step("clock", func() error { return b.clock(floor(b.build.Unix, 0)) })
	b.step("settings", func() error { return errors.Join(setSysctls("/proc/sys"), controllers()) })
	b.step("devices", func() error { return b.coldPlug(ctx) })
	b.step("efivars", func() error { return mountAll(efivars) })
	b.step("links", func() error { return linksUp("/sys") })
	b.step("disks", func() error { return b.disks(ctx) })
	b.step("folders", b.folders)
	if b.found.DataDevice != "" {
		b.step("seed", func() error { return renewSeed(seedFile) })
		b.step("time", func() error { return b.clock(floor(b.build.Unix, lastTime(clockFile))) })
	}
	b.step("name", b.name)
	b.found.Build, b.found.Faults, b.found.Took = b.build, b.faults, b.took
	return b.found
}

func (b *Boot) readBuild() error {
	text, err := os.ReadFile(layout.BuildFile)
	if err == nil {
		err = json.Unmarshal(text, &b.build)
	}
	if err != nil {
		return fmt.Errorf("read what the image says of itself: %w", err)
	}
	return nil
}

// clock keeps the clock from being earlier than it can be.
func (b *Boot) clock(floor int64) error {
	moved, err := raiseClock(floor)
	if moved > 0 {
		b.o.Log.Warn("the hardware clock was behind", "s", moved)
	}
	if moved > 86400 { // less is a clock that drifts
		b.fault("boot-clock-behind", time.Unix(floor-moved, 0).UTC().Format(time.DateOnly), time.Unix(floor, 0).UTC().Format(time.DateOnly))
	}
	return err
}

// devices are all; processors ask for faster ciphers, whose self-tests hold a
// start up by seconds and which nobody misses until then: Run loads for them.
const (
	devices    = "/sys/devices"
	processors = devices + "/system/cpu"
)

// coldPlug loads the drivers of all devices but processors. Events are kept from before, so
// that nothing falls between.
func (b *Boot) coldPlug(ctx context.Context) error {
	var err error
	if b.devices, err = uevents.Listen(); err != nil {
		b.o.Log.Error("boot", "error", err) // devices that come later get no driver
	}
	if b.Modules == nil {
		return err // said by Early
	}
	if lerr := b.Modules.ColdPlug(ctx, devices, processors); lerr != nil {
		// A driver that can't run here is no fault of the box: others may serve.
		b.o.Log.Warn("load drivers", "error", lerr)
	}
	for _, name := range []string{"efi_pstore", "nf_conntrack", "tun"} { // that no device asks for
		if lerr := b.Modules.Load(name); lerr != nil && !errors.Is(lerr, kmod.ErrUnknown) {
			b.o.Log.Warn("load module", "error", lerr)
		}
	}
	var info unix.Sysinfo_t
	if serr := unix.Sysinfo(&info); serr == nil {
		if cerr := sizeConntrack("/proc/sys", int64(info.Totalram)*int64(info.Unit)); cerr != nil { //nolint:gosec // memory
			b.o.Log.Warn("boot", "error", cerr)
		}
	}
	return err
}

// folders makes what programs expect on the data partition.
func (b *Boot) folders() error {
	err := makeFolders(dataFolders)
	if err == nil && b.found.DataDevice != "" {
		var st unix.Statfs_t
		if err = unix.Statfs(layout.DataMount, &st); err == nil && scarce(st.Bavail, st.Blocks, st.Bsize) {
			b.fault("boot-data-full", b.found.DataDevice)
		}
	}
	if errors.Is(err, unix.ENOSPC) {
		b.fault("boot-data-full", b.found.DataDevice)
		return nil
	}
	return err
}

func (b *Boot) name() error {
	name := ""
	if b.o.Hostname != nil {
		name = b.o.Hostname()
	}
	if name == "" {
		name = "komainu"
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set the name of the host: %w", err)
	}
	return nil
}

// Run is the task behind the boot, until ctx ends: it loads drivers of devices
// that are plugged in, sets new ports up, and keeps the time on disk. Seen is
// called after each change of a disk, with its event; nil: nobody asks.
func (b *Boot) Run(ctx context.Context, seen func(uevents.Event)) error {
	done := make(chan struct{})
	go func() { // ends with ctx, and Run waits for it
		defer close(done)
		if b.Modules != nil {
			if err := b.Modules.ColdPlug(ctx, processors, ""); err != nil && ctx.Err() == nil {
				b.o.Log.Warn("load drivers", "error", err)
			}
		}
		b.keepTime(ctx)
	}()
	defer func() { <-done }()
	if b.devices == nil {
		<-ctx.Done()
		return nil
	}
	err := b.devices.Run(ctx, func(e uevents.Event) {
		b.plugged(ctx, e)
		if seen != nil && (e.Vars["SUBSYSTEM"] == "block" || e.Action == uevents.Lost) {
			seen(e)
		}
	})
	if err != nil {
		b.o.Log.Error("devices that are plugged in get no driver any more", "error", err)
		<-ctx.Done()
	}
	return nil
}

// plugged serves one event of a device.
func (b *Boot) plugged(ctx context.Context, e uevents.Event) {
	if b.Modules != nil {
		err := b.Modules.Plugged(e)
		if e.Action == uevents.Lost {
			err = b.Modules.ColdPlug(ctx, devices, "")
		}
		if err != nil {
			b.o.Log.Warn("load the driver of a device", "device", e.Path, "error", err)
		}
	}
	if e.Action == "add" && e.Vars["SUBSYSTEM"] == "net" || e.Action == uevents.Lost {
		if err := linksUp("/sys"); err != nil {
			b.o.Log.Warn("boot", "error", err)
		}
	}
}

// keepEvery is much shorter than the hour before their making in which certificates
// of appliance/pki begin: a box without a battery that asks for the time through
// a tunnel alone is never so far behind that its own or its peer's is early.
const keepEvery = 10 * time.Minute

// keepTime writes the time down: the next boot isn't earlier.
func (b *Boot) keepTime(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if b.found.DataDevice == "" {
				continue
			}
			if err := saveTime(clockFile, now); err != nil {
				b.o.Log.Warn("keep the time", "error", err)
			}
		}
	}
}

// Stop saves seed and time and takes the disks away, when nothing runs any
// more. A file system that is still in use is made read-only instead. It may
// hang where the disk hangs: the watchdog is the bound.
func (b *Boot) Stop() error {
	var errs []error
	if b.found.DataDevice != "" {
		errs = append(errs, saveSeed(seedFile), saveTime(clockFile, time.Now()))
	}
	unix.Sync()
	if b.found.DataDevice != "" {
		errs = append(errs, away(layout.DataMount))
	}
	if b.found.ESP != "" {
		errs = append(errs, away(layout.EFIMount))
	}
	return errors.Join(errs...)
}

func away(mount string) error {
	err := unix.Unmount(mount, 0)
	if err == nil {
		return nil
	}
	if rerr := unix.Mount("", mount, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); rerr != nil {
		return fmt.Errorf("%s can't be unmounted (%w), nor made read-only: %w", mount, err, rerr)
	}
	return nil
}

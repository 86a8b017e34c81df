package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"komainu/appliance/control"
	"komainu/appliance/pid1"
	"komainu/appliance/pid1/boot"
	"komainu/appliance/say"
	"komainu/appliance/serial"
	"komainu/drivers/efivars"
	"komainu/drivers/files"
	"komainu/drivers/kmod"
	"komainu/drivers/pstore"
	"komainu/drivers/watchdog"
	"komainu/images/layout"
)

// started is what PID 1 tells the supervisor of an image, in RUN/boot.json.
type started struct {
	Found  boot.Found     `json:"found"`
	Loader efivars.Loader `json:"loader"`
	Last   control.Reset  `json:"last"`
	At     time.Time      `json:"at"`
}

const (
	startedFile    = layout.Run + "/boot.json"
	startedVersion = 1
)

// watchdogTime is how long a box that hangs stays so. The vigil feeds every few
// seconds; before it, the start-up says how long each step may take.
const watchdogTime = 30 * time.Second

// watchdogModules are loaded before anything else: from then on a hang ends in a
// reset. Those of devices that the machine hasn't do nothing.
var watchdogModules = []string{"i6300esb", "iTCO_wdt", "sp5100_tco", "wdat_wdt"}

// initMain is PID 1 of the image. It never returns.
func initMain(ctx context.Context, _ []string, _ io.Writer) error {
	if os.Getpid() != 1 {
		return errors.New("init is process 1 of the image; on a host of your own: komainu supervise")
	}
	vars := efivars.Vars{Dir: efivars.Dir}
	var st started
	// Ctrl-Alt-Del becomes SIGINT, an orderly restart, instead of a reset (reboot(2)).
	cad := unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF)
	log := slog.New(slog.NewTextHandler(kernelLog{}, nil))
	feeder := &startFeeder{began: time.Now()}
	b := boot.Early(boot.Options{
		Log:  log,
		Busy: feeder.busy,
		Say:  tellConsole,
		BootPartition: func() string {
			var err error
			if st.Loader, err = vars.Loader(); err != nil {
				log.Warn("boot loader", "error", err)
			}
			return st.Loader.PartUUID
		},
		Hostname: siteName,
	})
	if cad != nil {
		log.Warn("Ctrl-Alt-Del resets the box", "error", cad)
	}
	dog := armWatchdog(b.Modules, log)
	fed := feeder.run(dog, log)
	st.Found, st.At = b.Rest(ctx), time.Now()
	dump, err := pstore.Take(pstore.Dir)
	if err != nil {
		log.Warn("last words of the kernel", "error", err)
	}
	if st.Last, err = pid1.LastReset(layout.State, dog != nil && dog.Info().CardReset, dump, time.Now()); err != nil {
		log.Error("how the last run ended", "error", err)
	}
	if st.Found.Data == "none" && st.Last.Kind == "first" {
		st.Last = control.Reset{} // there is nothing to know it from
	}
	if err := files.ReplaceJSON(startedFile, startedVersion, st); err != nil {
		log.Error("tell the supervisor", "error", err)
	}
	watched, stop := context.WithCancel(context.WithoutCancel(ctx))
	devices := make(chan error, 1)
	go func() { devices <- b.Run(watched, nil) }()
	fed()
	guard := pid1.Guard{Run: layout.Run, State: layout.State, Log: log}
	if dog != nil { // a nil *Device in an interface isn't nil
		guard.Dog = dog
	}
	end := pid1.First(ctx, pid1.FirstOptions{
		Argv: []string{layout.Program, "supervise", "--image", "--config", layout.Config, "--state", layout.State, "--run", layout.Run},
		Env:  environment, Out: filepath.Join(layout.State, "log", "supervisor.log"), Guard: guard, Log: log,
	})
	if end == "" { // by a signal: no order was taken that wrote it down
		why := control.Reason{Code: "power-ordered", Args: []string{"power-restart", "ctrl-alt-del", ""}}
		if err := pid1.RecordEnd(layout.State, control.Reset{Kind: "order", Reason: why, At: time.Now()}); err != nil {
			log.Error("restart", "error", err)
		}
	}
	stop()
	if err := <-devices; err != nil {
		log.Error("devices", "error", err)
	}
	if end == "rescue" {
		if err := vars.StartOnce(filepath.Base(layout.RescueConf)); err != nil {
			log.Error("ask the boot loader for the rescue entry", "error", err)
		}
	}
	if err := b.Stop(); err != nil {
		log.Error("take the disks away", "error", err)
	}
	return power(end)
}

// environment of what PID 1 and the supervisor of an image start.
var environment = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin:/bbin", "HOME=/root", "LC_ALL=C.UTF-8"}

// power ends the machine, or starts it again.
func power(end string) error {
	how := unix.LINUX_REBOOT_CMD_RESTART
	if end == "off" {
		how = unix.LINUX_REBOOT_CMD_POWER_OFF
	}
	unix.Sync()
	err := unix.Reboot(how)
	// PID 1 that returns is a panic of the kernel, which starts it again.
	return fmt.Errorf("reboot: %w", err)
}

func armWatchdog(modules *kmod.Loader, log *slog.Logger) *watchdog.Device {
	if modules != nil {
		for _, name := range watchdogModules {
			if err := modules.Load(name); err != nil {
				log.Debug("watchdog", "module", name, "error", err)
			}
		}
		if _, err := watchdog.Find(watchdog.Sys, watchdog.Dev); errors.Is(err, watchdog.ErrNone) {
			if err := modules.Load("softdog"); err != nil { // better than nothing: it ends a PID 1 that hangs
				log.Error("watchdog", "error", err)
			}
		}
	}
	path, err := watchdog.Find(watchdog.Sys, watchdog.Dev)
	if err == nil {
		var d *watchdog.Device
		if d, err = watchdog.Open(path, watchdogTime); err == nil {
			log.Info("watchdog", "device", path, "identity", d.Info().Identity, "timeout", d.Info().Timeout)
			return d
		}
	}
	log.Error("no watchdog", "error", err)
	return nil
}

// startFeeder feeds the watchdog while the box starts, as long as the start-up
// has said that its step may take (Busy).
type startFeeder struct {
	began time.Time    // only its monotonic part is used: the start-up moves the wall clock
	until atomic.Int64 // ns since began
}

func (s *startFeeder) busy(atMost time.Duration) { s.until.Store(int64(time.Since(s.began) + atMost)) }

// run feeds until end is called; from then on the guard does.
func (s *startFeeder) run(dog *watchdog.Device, log *slog.Logger) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(watchdogTime / 6)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if dog == nil || time.Since(s.began) > time.Duration(s.until.Load()) {
				continue
			}
			if err := dog.Feed(); err != nil {
				log.Error("feed the watchdog", "error", err)
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// kernelLog keeps what PID 1 writes in the kernel's ring, where dmesg shows it
// and a crash dump holds it; it doesn't reach the operator's line.
type kernelLog struct{}

func (kernelLog) Write(p []byte) (int, error) {
	n := len(p)
	if len(p) > kernelLine { // the kernel refuses it whole (kernel/printk: LOG_LINE_MAX)
		p = append(bytes.Clone(p[:kernelLine]), "...\n"...)
	}
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()                               // every write stands by itself
	_, err = f.Write(append([]byte("<6>"), p...)) // one write is one record (kernel: dev-kmsg)
	return n, err
}

// kernelLine is how many bytes of a line the kernel takes, with our level and end.
const kernelLine = 950

// tellConsole tells the person at the kernel's console about what takes long,
// in both languages: nobody has chosen one yet.
func tellConsole(code string, args ...string) {
	f := consoleOut()
	if f == nil {
		return
	}
	defer f.Close() // a console that is gone can't be told
	// One whose terminal was stopped (XOFF) must not stop the box.
	_ = f.SetWriteDeadline(time.Now().Add(2 * time.Second)) // refused: it doesn't block
	for _, lang := range []string{"en", "ja"} {
		fmt.Fprintf(f, "%s\r\n", say.Text(lang, code, args...))
	}
}

// consoleOut is the kernel's console; nil without one.
func consoleOut() *os.File {
	f, err := os.OpenFile("/dev/console", os.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	return f
}

// siteName is the box's name as its configuration says; "" without one that
// can be read.
func siteName() string {
	data, err := os.ReadFile(layout.Config)
	if err != nil {
		return ""
	}
	name, err := checkSite(data)
	if err != nil {
		return ""
	}
	return name
}

// readStarted is what PID 1 told.
func readStarted() (started, error) {
	var st started
	err := files.ReadJSON(startedFile, startedVersion, &st)
	if err != nil {
		err = fmt.Errorf("what PID 1 found: %w", err)
	}
	return st, err
}

// modprobeMain is what the kernel calls as /sbin/modprobe (kernel/kmod.c).
func modprobeMain(_ context.Context, args []string, _ io.Writer) error {
	if code := kmod.Modprobe(args, layout.Modules, os.Stderr); code != 0 {
		return exit(code)
	}
	return nil
}

// serialMain is the process behind one terminal.
func serialMain(ctx context.Context, args []string, _ io.Writer) error {
	f, d := flags("serial")
	tty := f.String("tty", "", "terminal `NAME`, such as ttyS0")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *tty == "" {
		return errors.New("which terminal? --tty NAME is missing")
	}
	return serial.Main(ctx, serial.Options{TTY: *tty, State: d.state, Run: d.run, Config: d.config, Commands: d.commands()})
}

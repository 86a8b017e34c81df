// Package watchdog speaks to a hardware timer that resets the machine unless it
// is fed (kernel: Documentation/watchdog/watchdog-api.rst). It never feeds by
// itself: whether the machine deserves it is decided above. Start reading at Open.
package watchdog

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNone is wrapped by Find where the machine has no watchdog.
var ErrNone = errors.New("no watchdog")

// Sys is where the kernel lists watchdogs, Dev where their devices are.
const (
	Sys = "/sys/class/watchdog"
	Dev = "/dev"
)

// Find gives the device to use, "/dev/watchdog1": hardware before the kernel's
// own timer (softdog, which a hung kernel takes along), then the lowest number.
func Find(sys, dev string) (string, error) {
	names, err := filepath.Glob(filepath.Join(sys, "watchdog[0-9]*"))
	if err != nil {
		return "", err
	}
	type found struct {
		name string
		soft bool
		n    int
	}
	var all []found
	for _, path := range names {
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(path), "watchdog"))
		if err != nil {
			continue
		}
		// A kernel without CONFIG_WATCHDOG_SYSFS has no identity: taken for hardware.
		b, err := os.ReadFile(filepath.Join(path, "identity"))
		soft := err == nil && strings.TrimSpace(string(b)) == softIdentity
		all = append(all, found{filepath.Base(path), soft, n})
	}
	if len(all) == 0 {
		return "", fmt.Errorf("find a watchdog in %s: %w: load its module (i6300esb, iTCO_wdt, sp5100_tco, softdog)", sys, ErrNone)
	}
	slices.SortFunc(all, func(a, b found) int {
		if a.soft != b.soft {
			if a.soft {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.n, b.n)
	})
	return filepath.Join(dev, all[0].name), nil
}

const softIdentity = "Software Watchdog" // drivers/watchdog/softdog.c

// Info is what a device says of itself.
type Info struct {
	Identity string        // "i6300ESB timer"
	Timeout  time.Duration // in force; whole seconds
	// CardReset: this device caused the last reset (WDIOF_CARDRESET). Many
	// devices can't tell; false then.
	CardReset bool
}

// Device is an armed watchdog. Its methods are called by one goroutine.
type Device struct {
	f     *os.File
	info  Info
	magic bool // it stops on magic close (WDIOF_MAGICCLOSE)
}

// Open opens the device, which arms it: from now on it wants Feed within
// timeout (whole seconds, at least one; the device may round, see Info).
func Open(path string, timeout time.Duration) (_ *Device, err error) {
	// O_CLOEXEC by os: a child that kept it open would keep it armed.
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("open watchdog: %w", err)
	}
	d := &Device{f: f}
	if err := d.setup(timeout); err != nil {
		return nil, errors.Join(fmt.Errorf("watchdog %s: %w", path, err), d.Close())
	}
	return d, nil
}

func (d *Device) setup(timeout time.Duration) error {
	var id unix.WatchdogInfo
	if err := d.ioctl(unix.WDIOC_GETSUPPORT, unsafe.Pointer(&id)); err != nil {
		return fmt.Errorf("ask what it supports: %w", err)
	}
	d.info.Identity = unix.ByteSliceToString(id.Identity[:])
	d.magic = id.Options&unix.WDIOF_MAGICCLOSE != 0
	secs := int32(max(1, timeout/time.Second))
	if id.Options&unix.WDIOF_SETTIMEOUT != 0 {
		if err := d.ioctl(unix.WDIOC_SETTIMEOUT, unsafe.Pointer(&secs)); err != nil {
			return fmt.Errorf("set %d s: %w", secs, err)
		}
	}
	if err := d.ioctl(unix.WDIOC_GETTIMEOUT, unsafe.Pointer(&secs)); err != nil {
		return fmt.Errorf("ask its timeout: %w", err)
	}
	d.info.Timeout = time.Duration(secs) * time.Second
	if id.Options&unix.WDIOF_PRETIMEOUT != 0 {
		// A third before the end, the kernel may panic and keep its last lines.
		// Whether it does is the governor's affair: a refusal loses only that.
		pre := secs / 3
		_ = d.ioctl(unix.WDIOC_SETPRETIMEOUT, unsafe.Pointer(&pre))
	}
	var boot int32
	if err := d.ioctl(unix.WDIOC_GETBOOTSTATUS, unsafe.Pointer(&boot)); err == nil {
		d.info.CardReset = boot&unix.WDIOF_CARDRESET != 0
	}
	return d.Feed()
}

// Info is what the device said when it was opened.
func (d *Device) Info() Info { return d.info }

// Feed gives the machine another Info.Timeout.
func (d *Device) Feed() error {
	if err := d.ioctl(unix.WDIOC_KEEPALIVE, nil); err != nil {
		return fmt.Errorf("feed watchdog: %w", err)
	}
	return nil
}

// Stop disarms and closes the device (magic close, 'V'). An error says that it
// goes on: it knows no magic close, or was built or loaded with nowayout, which
// the kernel doesn't tell here.
func (d *Device) Stop() error {
	if !d.magic {
		return errors.Join(errors.New("stop watchdog: the device can't be stopped once it runs"), d.Close())
	}
	_, err := d.f.WriteString("V")
	if err := errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("stop watchdog: %w", err)
	}
	return nil
}

// Close closes the device and leaves it armed: who hands the machine to a
// reboot wants it to end even if the reboot hangs.
func (d *Device) Close() error { return d.f.Close() }

func (d *Device) ioctl(request uint, arg unsafe.Pointer) error {
	raw, err := d.f.SyscallConn()
	if err != nil {
		return err
	}
	var errno unix.Errno
	if err := raw.Control(func(fd uintptr) { _, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, uintptr(request), uintptr(arg)) }); err != nil {
		return err
	}
	if errno != 0 {
		return errno
	}
	return nil
}

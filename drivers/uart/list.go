// Package uart finds the terminals that a person can sit at, serial lines
// before all, and speaks over one: raw bytes, speed, the marks of BREAK and of
// framing errors. Whether somebody may log in there is decided above it. Start
// reading at List and Port.
package uart

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// List names the terminals of this machine, as below /dev: UARTs that are
// really there, USB serial adapters, a paravirtual console where the kernel
// uses it, and tty1 where there is a screen. It never waits for a line. The
// list may be empty.
func List() ([]string, error) { return list("/sys", "/dev") }

func list(sys, dev string) ([]string, error) {
	all, err := os.ReadDir(filepath.Join(sys, "class/tty"))
	if err != nil {
		return nil, fmt.Errorf("list terminals (is %s mounted?): %w", sys, err)
	}
	consoles, err := os.ReadFile(filepath.Join(sys, "class/tty/console/active"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list consoles: %w", err)
	}
	var found []string
	for _, e := range all {
		name := e.Name()
		var real bool
		switch {
		case numbered(name, "ttyS"):
			real = realUART(sys, dev, name)
		case numbered(name, "ttyUSB"):
			real = true
		case numbered(name, "hvc"): // eight of them exist wherever the driver is built in
			real = slices.Contains(strings.Fields(string(consoles)), name)
		case name == "tty1":
			real = hasScreen(sys)
		}
		if real {
			found = append(found, name)
		}
	}
	return found, nil
}

func numbered(name, prefix string) bool {
	n, ok := strings.CutPrefix(name, prefix)
	return ok && n != "" && strings.Trim(n, "0123456789") == ""
}

// realUART: the 8250 driver makes ttyS0 to ttyS3 at least, whatever hardware
// there is; those without have the type PORT_UNKNOWN, 0 (linux/serial_core.h).
func realUART(sys, dev, name string) bool {
	if b, err := os.ReadFile(filepath.Join(sys, "class/tty", name, "type")); err == nil {
		return strings.TrimSpace(string(b)) != "0"
	}
	// A driver that tells no type there is asked itself. Without O_NONBLOCK the
	// open would wait for a carrier.
	fd, err := unix.Open(filepath.Join(dev, name), unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false // EIO: nothing is behind it
	}
	defer unix.Close(fd) // nothing was written
	// struct serial_struct (linux/serial.h) begins with the int type.
	var s [128]byte
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGSERIAL, uintptr(unsafe.Pointer(&s)))
	return errno == 0 && [4]byte(s[:4]) != [4]byte{}
}

// hasScreen: without one the kernel's terminals are bound to the dummy console.
func hasScreen(sys string) bool {
	names, err := filepath.Glob(filepath.Join(sys, "class/vtconsole/vtcon*/name"))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(names, func(n string) bool {
		kind, err := os.ReadFile(n)
		if err != nil || strings.Contains(string(kind), "dummy") {
			return false
		}
		bound, err := os.ReadFile(filepath.Join(filepath.Dir(n), "bind"))
		return err == nil && strings.TrimSpace(string(bound)) == "1"
	})
}

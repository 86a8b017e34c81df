// Package powerkey waits until somebody presses the power button of the machine.
// The kernel shows it as an input device with KEY_POWER (module button, read
// through evdev: Documentation/input/input.rst). What a press means is decided
// above. Start reading at Wait.
package powerkey

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Dev is where the kernel's input devices are.
const Dev = "/dev/input"

// Wait returns nil once a power key is pressed on any device dir/event*, and
// ctx's error when that ends first. It looks for new devices whenever again
// gives something. A device that can't be read is passed over; without any that
// has such a key it waits on.
func Wait(ctx context.Context, dir string, again <-chan struct{}) error {
	return wait(ctx, dir, again, hasPowerKey)
}

// wait is Wait with another judge of what has a power key.
func wait(ctx context.Context, dir string, again <-chan struct{}, has func(*os.File) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	pressed, gone := make(chan struct{}, 1), make(chan string)
	open := map[string]bool{}
	look := func() {
		names, _ := filepath.Glob(filepath.Join(dir, "event*")) // only a malformed pattern is an error
		for _, name := range names {
			if open[name] {
				continue
			}
			f := openKey(name, has)
			if f == nil {
				continue
			}
			open[name] = true
			readers.Go(func() {
				if read(ctx, f) == nil {
					select {
					case pressed <- struct{}{}:
					default: // somebody else's press was first
					}
				}
				select {
				case gone <- name: // a new device may get its name
				case <-ctx.Done():
				}
			})
		}
	}
	look()
	for {
		select {
		case <-pressed:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case name := <-gone:
			delete(open, name)
		case <-again:
			look()
		}
	}
}

// openKey is nil for a device without a power key, and for one that is gone.
func openKey(name string, has func(*os.File) bool) *os.File {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	if !has(f) {
		_ = f.Close() // nothing was read
		return nil
	}
	return f
}

// From include/uapi/linux/input-event-codes.h; struct input_event has a time of
// 16 bytes on 64-bit machines, then type, code and value.
const (
	evKey     = 1
	keyPower  = 116
	eventSize = 24
	down      = 1 // 0: up, 2: still held
)

// read returns nil when the key is pressed, else why there is nothing to read
// any more. It closes f.
func read(ctx context.Context, f *os.File) error {
	defer f.Close() // read side: nothing to lose
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = f.SetReadDeadline(time.Unix(1, 0)) // fails only when closed
		close(stopped)
	})
	defer func() {
		if !stop() {
			<-stopped
		}
	}()
	buf := make([]byte, 64*eventSize)
	for {
		n, err := f.Read(buf) // whole events only (evdev)
		if err != nil {
			return fmt.Errorf("read %s: %w", f.Name(), err)
		}
		for e := buf[:n]; len(e) >= eventSize; e = e[eventSize:] {
			if isPress(e) {
				return nil
			}
		}
	}
}

func isPress(e []byte) bool {
	return binary.NativeEndian.Uint16(e[16:]) == evKey && binary.NativeEndian.Uint16(e[18:]) == keyPower && binary.NativeEndian.Uint32(e[20:]) == down
}

// hasPowerKey asks for the keys of a device: EVIOCGBIT(EV_KEY).
func hasPowerKey(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	var keys [96]byte // KEY_MAX is 0x2ff
	var errno unix.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, getKeys(uintptr(len(keys))), uintptr(unsafe.Pointer(&keys[0]))) //nolint:gosec // what ioctl takes
	})
	return err == nil && errno == 0 && keys[keyPower/8]&(1<<(keyPower%8)) != 0
}

// getKeys is the request EVIOCGBIT(EV_KEY, size) (include/uapi/linux/input.h):
// read, size, letter 'E', 0x20 + the type.
func getKeys(size uintptr) uintptr { return 2<<30 | size<<16 | 'E'<<8 | (0x20 + evKey) }

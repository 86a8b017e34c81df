// Package clock reads the box's clocks, wakes at an instant of the boot clock,
// adjusts the kernel's wall clock and the hardware clock, and tells when somebody
// else set the wall clock. It holds no policy: how much to adjust, and when, is
// the time daemon's. Start reading at Now and Timer, for the wall clock at Read
// and Take.
package clock

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"komainu/ntp/instant"
)

// Now is the present instant of CLOCK_BOOTTIME. The kernel has no way to
// refuse it.
func Now() instant.Instant {
	return instant.Instant(get(unix.CLOCK_BOOTTIME, "CLOCK_BOOTTIME"))
}

// Timer ticks at an instant of the boot clock, through suspend as well
// (timerfd_create(2)). Its owner closes it.
type Timer struct {
	file *os.File
	c    chan struct{}
	done sync.WaitGroup
}

// NewTimer returns a timer that isn't set.
func NewTimer() (*Timer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a timer on CLOCK_BOOTTIME: %w", err)
	}
	t := &Timer{file: os.NewFile(uintptr(fd), "timerfd"), c: make(chan struct{}, 1)}
	t.done.Go(t.tick)
	return t, nil
}

// tick passes expirations on until the file is closed.
func (t *Timer) tick() {
	var expirations [8]byte
	for {
		if _, err := t.file.Read(expirations[:]); err != nil {
			return
		}
		select {
		case t.c <- struct{}{}:
		default: // the last tick hasn't been taken yet
		}
	}
}

// C gets a tick when the instant of the last Reset has come. A tick of an
// earlier Reset may still be in it: look at the clock.
func (t *Timer) C() <-chan struct{} { return t.c }

// Reset sets the timer to at, in place of what was set before; an instant that
// has passed ticks at once, and 0 means never.
func (t *Timer) Reset(at instant.Instant) error {
	raw, err := t.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("set the timer: %w", err)
	}
	var set error
	var spec unix.ItimerSpec
	if at != 0 {
		spec.Value = unix.NsecToTimespec(max(int64(at), 1)) // before the boot is past, too; 0 would disarm
	}
	if err := raw.Control(func(fd uintptr) {
		set = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &spec, nil)
	}); err != nil {
		return fmt.Errorf("set the timer: %w", err)
	}
	if set != nil {
		return fmt.Errorf("set the timer to %d ns after boot: %w", at, set)
	}
	return nil
}

// Close ends the timer and waits for its goroutine.
func (t *Timer) Close() error {
	err := t.file.Close()
	t.done.Wait()
	return err
}

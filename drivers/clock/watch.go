package clock

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Watch tells when the wall clock jumped: somebody set it, the box woke from
// suspend, a Step of ours, or a leap second. Its owner closes it.
type Watch struct {
	file *os.File
	c    chan struct{}
	done sync.WaitGroup
}

// never is a time of the wall clock that doesn't come, in the year 2200.
const never = 7258118400

// NewWatch starts to watch.
func NewWatch() (*Watch, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch for changes of the wall clock: make a timer: %w", err)
	}
	spec := unix.ItimerSpec{Value: unix.Timespec{Sec: never}}
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &spec, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("watch for changes of the wall clock: set a timer: %w", err), unix.Close(fd))
	}
	w := &Watch{file: os.NewFile(uintptr(fd), "timerfd"), c: make(chan struct{}, 1)}
	w.done.Go(w.wait)
	return w, nil
}

// wait passes cancellations on until the file is closed. The kernel watches on
// after each without being told (timerfd_canceled in fs/timerfd.c).
func (w *Watch) wait() {
	var expirations [8]byte
	for {
		if _, err := w.file.Read(expirations[:]); err != nil && !errors.Is(err, unix.ECANCELED) {
			return
		}
		select {
		case w.c <- struct{}{}:
		default: // the last one hasn't been taken yet
		}
	}
}

// C gets a value when the wall clock jumped, once for several jumps until it is
// taken. Whether the jump was one's own is for the reader to know.
func (w *Watch) C() <-chan struct{} { return w.c }

// Close ends the watch and waits for its goroutine.
func (w *Watch) Close() error {
	err := w.file.Close()
	w.done.Wait()
	return err
}

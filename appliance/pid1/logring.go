package pid1

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What a unit may print: logRate bytes per second after a burst of logBurst; on
// disk stand at most 2·logLimit and a notice.
const (
	logRate  = 128 << 10
	logBurst = 1 << 20
)

// logRing drains one unit's pipe into its log file.
type logRing struct {
	in   *os.File      // the pipe
	end  chan struct{} // closed, then in's deadline is set, to end run
	path string
	done sync.WaitGroup

	out    *os.File // nil: not open, or the disk refused
	size   int64
	tokens int64
	filled time.Time
	lost   int // lines since the last notice
}

func (s *supervisor) pipePath(name string) string {
	return filepath.Join(s.o.Run, "units", name+".out")
}

// output gives the descriptor that a new process prints into; the caller closes it.
func (s *supervisor) output(name string) (int, error) {
	path, flags := s.logPath(name), unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT // O_APPEND: see boundLog
	if s.o.Image {
		if err := s.follow(name); err != nil {
			return 0, err
		}
		// Both ends, so that the pipe outlives a supervisor; blocking, unlike ours.
		path, flags = s.pipePath(name), unix.O_RDWR
	}
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o640)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", path, err)
	}
	return fd, nil
}

// follow drains the unit's pipe from now on, if the image does and nobody does
// yet; the lock is held.
func (s *supervisor) follow(name string) error {
	if !s.o.Image || s.logs[name] != nil {
		return nil
	}
	path := s.pipePath(name)
	if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make pipe %s: %w", path, err)
	}
	in, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	l := &logRing{in: in, end: make(chan struct{}), path: s.logPath(name), tokens: logBurst, filled: time.Now()}
	s.logs[name] = l
	l.done.Go(l.run)
	return nil
}

// closeLogs ends all logs after what stands in the pipes was written.
func (s *supervisor) closeLogs() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.logs {
		close(l.end)
		// Not Close: run is to find the pipe empty first.
		if err := l.in.SetReadDeadline(time.Now()); err != nil {
			s.o.Log.Error("end log", "log", l.path, "error", err)
		}
	}
	for _, l := range s.logs {
		l.done.Wait()
	}
}

// run drains until end is closed and the pipe is empty.
func (l *logRing) run() {
	buf := make([]byte, 64<<10)
	for {
		var until time.Time // none
		if l.lost > 0 {
			until = time.Now().Add(time.Second) // then the notice, if nothing comes before
		}
		if err := l.in.SetReadDeadline(until); err != nil {
			break
		}
		if l.ended() { // asked after our deadline was set: closeLogs' may have come before it
			break
		}
		n, err := l.in.Read(buf)
		if n > 0 {
			l.take(buf[:n], time.Now())
		} else if errors.Is(err, os.ErrDeadlineExceeded) && !l.ended() {
			l.notice()
		} else {
			break
		}
	}
	// The deadline hides what is still there: the last lines of a unit that ended.
	if raw, err := l.in.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			for range logBurst / len(buf) {
				n, err := unix.Read(int(fd), buf)
				if n <= 0 || err != nil {
					return
				}
				l.take(buf[:n], time.Now())
			}
		})
	}
	l.notice()
	_ = l.in.Close() // nothing is lost by it
	if l.out != nil {
		_ = l.out.Close() // every write was looked at
	}
}

func (l *logRing) ended() bool {
	select {
	case <-l.end:
		return true
	default:
		return false
	}
}

// take keeps b or counts it as lost.
func (l *logRing) take(b []byte, now time.Time) {
	l.tokens = min(logBurst, l.tokens+int64(now.Sub(l.filled).Seconds()*logRate))
	l.filled = now
	if l.tokens < int64(len(b)) {
		l.lost += max(1, bytes.Count(b, []byte("\n")))
		return
	}
	l.tokens -= int64(len(b))
	l.notice()
	l.write(b)
}

// notice writes into the log how much of it is missing.
func (l *logRing) notice() {
	if l.lost > 0 {
		n := l.lost
		l.lost = 0
		l.write(fmt.Appendf(nil, "\nkomainu: %d lines lost here: more than %d KiB/s, or the disk refused them\n", n, logRate>>10))
	}
}

// write appends b; a file that is full moves to NAME.log.1. What the disk
// refuses counts as lost, and the file is opened anew the next time.
func (l *logRing) write(b []byte) {
	err := l.open(int64(len(b)))
	if err == nil {
		var n int
		n, err = l.out.Write(b)
		l.size += int64(n)
	}
	if err != nil {
		l.lost += max(1, bytes.Count(b, []byte("\n")))
		if l.out != nil {
			_ = l.out.Close() // already counted
			l.out = nil
		}
	}
}

func (l *logRing) open(more int64) error {
	if l.out != nil && l.size+more > logLimit {
		err := errors.Join(l.out.Close(), os.Rename(l.path, l.path+".1"))
		l.out = nil
		if err != nil {
			return err
		}
	}
	if l.out != nil {
		return nil
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.out, l.size = f, st.Size()
	return nil
}

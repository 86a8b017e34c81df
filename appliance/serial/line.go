package serial

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"komainu/drivers/uart"
	"komainu/ntp/instant"
)

// writeMost is how long a terminal may take nothing. At 9600 baud the kernel's
// own buffer of 4 KiB is sent in 4.3 s.
const writeMost = 30 * time.Second

var (
	errGone    = errors.New("the terminal is gone")
	errStopped = errors.New("the terminal takes no output")
)

// line is a terminal whose speed follows the person's. It is a console.Terminal.
type line struct {
	port   *uart.Port
	search uart.Search
	now    func() instant.Instant
	most   time.Duration // writeMost
	broken atomic.Pointer[error]
}

// Read gives what was typed. After a change of speed that is an Enter, so that
// the person sees the prompt again.
func (l *line) Read(b []byte) (int, error) {
	if err := l.broken.Load(); err != nil {
		return 0, *err
	}
	raw := make([]byte, len(b))
	n, err := l.port.Read(raw)
	data, change := l.search.Feed(l.now(), raw[:n])
	if change {
		err = errors.Join(err, l.port.Raw(l.search.Speed), l.port.DropInput())
		data = []byte{'\r'}
	}
	if errors.Is(err, io.EOF) {
		err = errGone
	}
	return copy(b, data), err
}

// Write fails once and for all when the terminal doesn't read: the line editor
// takes no notice of errors, but its next Read has this one.
func (l *line) Write(b []byte) (int, error) {
	if err := l.broken.Load(); err != nil {
		return 0, *err
	}
	if err := l.port.SetWriteDeadline(time.Now().Add(l.most)); err != nil {
		return 0, err
	}
	n, err := l.port.Write(b)
	if err != nil {
		err = fmt.Errorf("%w: %w", errStopped, err)
		l.broken.Store(&err)
	}
	return n, err
}

// SetReadDeadline is the port's.
func (l *line) SetReadDeadline(t time.Time) error { return l.port.SetReadDeadline(t) }

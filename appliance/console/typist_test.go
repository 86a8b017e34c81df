package console

import (
	"os"
	"strings"
	"sync"
	"time"
)

const forever = time.Hour

// typist types keys one by one, the next when somebody waits for it, and keeps
// what is shown.
type typist struct {
	keys string

	mu       sync.Mutex
	out      strings.Builder
	late     chan struct{} // closed: the read deadline has passed
	deadline time.Time
}

func (t *typist) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.out.Write(b)
}

func (t *typist) SetReadDeadline(d time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.late != nil && !t.deadline.IsZero() && t.deadline.Before(time.Now()) {
		t.late = nil
	}
	if t.late == nil {
		t.late = make(chan struct{})
	}
	if t.deadline = d; !d.IsZero() && d.Before(time.Now()) {
		close(t.late)
	}
	return nil
}

// Read types only at prompts, where a deadline is set: a command that runs
// hears nothing.
func (t *typist) Read(b []byte) (int, error) {
	t.mu.Lock()
	late, prompt := t.late, t.deadline.After(time.Now())
	if prompt && len(t.keys) > 0 {
		defer t.mu.Unlock()
		b[0] = t.keys[0]
		t.keys = t.keys[1:]
		return 1, nil
	}
	t.mu.Unlock()
	if prompt {
		return 0, os.ErrDeadlineExceeded
	}
	<-late
	return 0, os.ErrDeadlineExceeded
}

func (t *typist) shown() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ReplaceAll(t.out.String(), "\r\n", "\n")
}

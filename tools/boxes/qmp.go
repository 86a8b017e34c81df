package boxes

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
)

// monitor speaks QMP, QEMU's control protocol (docs/interop/qmp-spec.txt): JSON
// objects, one a line.
type monitor struct {
	conn net.Conn

	mu      sync.Mutex
	last    int
	waiting map[int]chan message
	events  []message // that nobody has asked for yet
	over    bool
	changed chan struct{}
}

type message struct {
	ID     *int            `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Text  string `json:"desc"`
	} `json:"error"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

// keepEvents bounds the events that wait for somebody to ask.
const keepEvents = 1000

func newMonitor(conn net.Conn) *monitor {
	return &monitor{conn: conn, waiting: map[int]chan message{}, changed: make(chan struct{})}
}

// read takes what comes until the connection ends.
func (m *monitor) read() {
	defer m.conn.Close()
	in := bufio.NewScanner(m.conn)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var got message
		if json.Unmarshal(in.Bytes(), &got) != nil {
			continue
		}
		m.mu.Lock()
		switch {
		case got.ID != nil:
			if to := m.waiting[*got.ID]; to != nil {
				delete(m.waiting, *got.ID)
				to <- got // has room
			}
		case got.Event != "" && len(m.events) < keepEvents:
			m.events = append(m.events, got)
			close(m.changed)
			m.changed = make(chan struct{})
		}
		m.mu.Unlock()
	}
	m.mu.Lock()
	m.over = true
	close(m.changed)
	m.changed = make(chan struct{})
	for _, to := range m.waiting {
		close(to)
	}
	clear(m.waiting)
	m.mu.Unlock()
}

var errEnded = errors.New("the machine has ended")

// do runs a command; out may be nil.
func (m *monitor) do(ctx context.Context, command string, args map[string]any, out any) error {
	fail := func(err error) error { return fmt.Errorf("machine: %s: %w", command, err) }
	to := make(chan message, 1)
	m.mu.Lock()
	if m.over {
		m.mu.Unlock()
		return fail(errEnded)
	}
	m.last++
	id := m.last
	m.waiting[id] = to
	m.mu.Unlock()
	ask := map[string]any{"execute": command, "id": id}
	if args != nil {
		ask["arguments"] = args
	}
	text, err := json.Marshal(ask)
	if err != nil {
		return fail(err)
	}
	if _, err := m.conn.Write(append(text, '\n')); err != nil {
		return fail(err)
	}
	select {
	case got, ok := <-to:
		switch {
		case !ok:
			return fail(errEnded)
		case got.Error != nil:
			return fail(fmt.Errorf("%s (%s)", got.Error.Text, got.Error.Class))
		case out != nil:
			return json.Unmarshal(got.Return, out)
		}
		return nil
	case <-ctx.Done():
		return fail(context.Cause(ctx))
	}
}

// event takes the oldest event of that name for which accept is true (nil: any),
// and waits for one if there is none.
func (m *monitor) event(ctx context.Context, name string, accept func(json.RawMessage) bool) (json.RawMessage, error) {
	for {
		m.mu.Lock()
		for i, e := range m.events {
			if e.Event == name && (accept == nil || accept(e.Data)) {
				m.events = append(m.events[:i], m.events[i+1:]...)
				m.mu.Unlock()
				return e.Data, nil
			}
		}
		over, changed := m.over, m.changed
		m.mu.Unlock()
		if over {
			return nil, fmt.Errorf("machine: wait for event %s: %w", name, errEnded)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("machine: wait for event %s: %w", name, context.Cause(ctx))
		}
	}
}

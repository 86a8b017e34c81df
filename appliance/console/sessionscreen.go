package console

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// Terminal is the line to a person: a VT100 whose size nobody can ask for.
type Terminal interface {
	io.ReadWriter
	// SetReadDeadline ends a Read at t with os.ErrDeadlineExceeded, also one that
	// waits already; the zero time: never.
	SetReadDeadline(t time.Time) error
}

// ErrIdle says that nobody typed anything for Screen.Idle.
var ErrIdle = errors.New("nothing was typed for too long")

const (
	rows      = 24       // of a terminal, until somebody says another number
	lineMost  = 1024     // bytes of one command line
	aheadMost = 64 << 10 // bytes typed or pasted while a command runs
	morePage  = "--More--"
)

// Screen is a line editor with history, output in pages, and ^C, over a
// Terminal. It belongs to one goroutine.
type Screen struct {
	terminal Terminal
	idle     time.Duration // then a wait for a key ends with ErrIdle
	editor   *lineEditor
	keys     keys
	charset  charset
	columns  int             // where the terminal wraps; 0: not known, it wraps by itself
	lines    int             // of one page; 0: no pages
	ctx      context.Context // of the Line that is read
	page     *pager          // of the command that runs

	mu     sync.Mutex
	ahead  []byte        // typed and not yet read, oldest first
	spilt  bool          // ahead was full: ignore the rest of the line
	asking bool          // a pager waits for the next byte
	answer chan byte     // 1
	stop   func()        // ends the command that runs
	broken bool          // it was, by ^C
	failed error         // of the terminal, found while a command ran
	done   chan struct{} // of the goroutine that listens; nil: none
}

// NewScreen makes a screen that ends its waits after idle.
func NewScreen(t Terminal, idle time.Duration) *Screen {
	s := &Screen{terminal: t, idle: idle, answer: make(chan byte, 1)}
	s.editor = &lineEditor{in: input{s}, out: input{s}}
	s.Size(screen, rows)
	return s
}

// Size tells how large the terminal is; 0 columns: it wraps by itself, 0
// lines: output is shown without stops.
func (s *Screen) Size(columns, lines int) {
	s.columns, s.lines = columns, lines
	s.editor.columns = columns
	if columns == 0 {
		s.editor.columns = unwrapped
	}
}

// Charset tells which of Charsets the terminal speaks; another name: UTF-8.
func (s *Screen) Charset(name string) { s.charset = charset{sjis: name == "shift_jis"} }

// Write shows text; a line ends in LF.
func (s *Screen) Write(b []byte) (int, error) {
	if err := s.send(bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// send writes b, UTF-8, in the terminal's own characters.
func (s *Screen) send(b []byte) error {
	out := s.charset.shown(b)
	if len(out) == 0 {
		return nil
	}
	_, err := s.terminal.Write(out)
	return err
}

// Line asks for one line; complete (or nil) is called for each key that isn't
// for editing, with the line and the cursor's place, and gives the line that
// follows from it. ^C gives an empty line. Errors: io.EOF after ^D, ErrIdle,
// ctx's, or the terminal's.
func (s *Screen) Line(ctx context.Context, prompt string, complete func(line string, pos int, key rune) (string, int, bool)) (string, error) {
	line, err := s.read(ctx, prompt, false, complete)
	if errors.Is(err, ErrInterrupt) {
		return "", nil
	}
	return line, err
}

// Question is Line without help for the person, and ^C is ErrInterrupt.
func (s *Screen) Question(ctx context.Context, prompt string) (string, error) {
	return s.read(ctx, prompt, false, nil)
}

// Password asks for a line that isn't shown, and isn't kept. ^C gives an empty
// one. Errors as of Line.
func (s *Screen) Password(ctx context.Context, prompt string) (string, error) {
	line, err := s.read(ctx, prompt, true, nil)
	if errors.Is(err, ErrInterrupt) {
		return "", nil
	}
	return line, err
}

func (s *Screen) read(ctx context.Context, prompt string, hidden bool, complete completer) (string, error) {
	s.ctx = ctx
	line, err := s.editor.readLine(prompt, hidden, complete)
	switch {
	case err == nil:
		return line, nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "", ErrIdle
	}
	return "", err
}

// context is that of the line that is read.
func (s *Screen) context() context.Context {
	if s.ctx == nil {
		return context.Background()
	}
	return s.ctx
}

// input is what the line editor reads and writes.
type input struct{ s *Screen }

func (in input) Write(b []byte) (int, error) { return len(b), in.s.send(b) }

// Read gives whole keys, and never more than the end of one line: what follows
// it may be for a pager or a shell.
func (in input) Read(b []byte) (int, error) {
	s := in.s
	if out := s.typed(len(b)); len(out) > 0 {
		return copy(b, out), nil
	}
	s.mu.Lock()
	failed := s.failed
	s.mu.Unlock()
	if failed != nil {
		return 0, failed
	}
	if err := s.terminal.SetReadDeadline(time.Now().Add(s.idle)); err != nil {
		return 0, err
	}
	// Behind the deadline above, so that neither is undone by the other.
	stop := context.AfterFunc(s.ctx, s.wake)
	defer stop()
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	raw := make([]byte, 256)
	n, err := s.terminal.Read(raw)
	s.mu.Lock()
	s.ahead = append(s.ahead, raw[:n]...)
	s.mu.Unlock()
	return copy(b, s.typed(len(b))), err
}

// wake ends a Read of the terminal.
func (s *Screen) wake() {
	// A terminal that takes no deadline has none that could be waited for.
	_ = s.terminal.SetReadDeadline(time.Unix(1, 0))
}

// typed takes whole keys out of ahead, at most n bytes and one line.
func (s *Screen) typed(n int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []byte
	for len(s.ahead) > 0 && len(out)+escapeMost < n && !bytes.HasSuffix(out, []byte("\r")) && !bytes.HasSuffix(out, []byte{keyInterrupt}) {
		for _, c := range s.charset.typed(s.ahead[0]) {
			out = append(out, s.keys.feed(c)...)
		}
		s.ahead = s.ahead[1:]
	}
	return out
}

// Run runs f, which shows its output through out, page by page; ^C or "q" at
// the end of a page ends f's ctx, and nothing more is shown. What is typed
// meanwhile waits for the next Line.
func (s *Screen) Run(ctx context.Context, f func(ctx context.Context, out io.Writer)) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s.stop = stop
	s.mu.Lock()
	early := s.ahead
	s.ahead, s.broken = nil, false
	s.mu.Unlock()
	s.heard(early) // ^C may have come together with the line
	s.listen()
	s.page = &pager{screen: s, ctx: ctx}
	f(ctx, s.page)
	s.deafen()
	if s.broken { // the next line begins below what was cut off
		if _, err := s.Write([]byte("^C\n")); err != nil {
			s.fail(err)
		}
	}
}

// Direct is for a command that reads the terminal itself, by Password or
// otherwise: while f runs, nothing else reads. Who answers has read what stood
// above, so that a new page begins behind it.
func (s *Screen) Direct(f func() error) error {
	s.deafen()
	defer s.listen()
	defer func() { s.page.shown = 0 }()
	return f()
}

// listen starts the one goroutine that reads while a command runs.
func (s *Screen) listen() {
	s.done = make(chan struct{})
	if err := s.terminal.SetReadDeadline(time.Time{}); err != nil {
		s.fail(err)
		close(s.done)
		return
	}
	go func() {
		defer close(s.done)
		for b := make([]byte, 64); ; {
			n, err := s.terminal.Read(b)
			s.heard(b[:n])
			if errors.Is(err, os.ErrDeadlineExceeded) { // deafen
				return
			}
			if err != nil {
				s.fail(err)
				return
			}
		}
	}()
}

// deafen ends it and waits for it.
func (s *Screen) deafen() {
	s.wake()
	<-s.done
}

func (s *Screen) heard(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range b {
		switch {
		case c == keyInterrupt:
			s.ahead, s.spilt, s.broken = nil, false, true
			s.stop()
		case s.asking && c == '\n' && s.keys.cr: // of CR LF
		case s.asking:
			s.asking, s.keys.cr = false, c == '\r'
			s.answer <- c
		case s.spilt:
			s.spilt = c != '\r' && c != '\n'
		case len(s.ahead) < aheadMost:
			s.ahead = append(s.ahead, c)
		default: // half a line must not run: drop it, and its end
			s.ahead = s.ahead[:bytes.LastIndexAny(s.ahead, "\r\n")+1]
			s.spilt = c != '\r' && c != '\n'
		}
	}
}

// fail ends the command, and the next Line.
func (s *Screen) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = err
	s.stop()
}

// pager shows output page by page.
type pager struct {
	screen *Screen
	ctx    context.Context // of the command
	shown  int             // rows since the last stop
}

func (p *pager) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		need := 1
		if n := p.screen.columns; n > 0 {
			need = max(1, (width(strings.TrimRight(line, "\n"))+n-1)/n)
		}
		if p.ctx.Err() == nil && p.screen.lines > 0 && p.shown > 0 && p.shown+need > p.screen.lines-1 {
			p.ask()
		}
		if err := p.ctx.Err(); err != nil {
			return 0, err
		}
		p.shown += need
		if _, err := p.screen.Write([]byte(line)); err != nil {
			p.screen.fail(err)
			return 0, err
		}
	}
	return len(b), nil
}

// ask waits for a key: one more line with Enter, the end with "q", else a page.
func (p *pager) ask() {
	s := p.screen
	s.mu.Lock()
	s.asking = true
	select {
	case <-s.answer: // a key of the page before that came too late
	default:
	}
	s.mu.Unlock()
	if _, err := s.Write([]byte(morePage)); err != nil {
		s.fail(err)
		return
	}
	idle := time.NewTimer(s.idle)
	defer idle.Stop()
	select {
	case c := <-s.answer:
		switch c {
		case 'q', 'Q':
			s.stop()
		case '\r', '\n':
			p.shown = s.lines - 2
		default:
			p.shown = 0
		}
	case <-p.ctx.Done():
	case <-idle.C:
		s.fail(ErrIdle)
	}
	s.mu.Lock()
	s.asking = false
	s.mu.Unlock()
	if _, err := s.Write([]byte("\r" + strings.Repeat(" ", len(morePage)) + "\r")); err != nil {
		s.fail(err)
	}
}

// history keeps what isn't empty and isn't the same as the line before.
type history struct{ lines []string }

const historyMost = 50

func (h *history) Add(line string) {
	if line == "" || len(line) > lineMost || len(h.lines) > 0 && h.lines[0] == line {
		return
	}
	h.lines = append([]string{line}, h.lines[:min(len(h.lines), historyMost-1)]...)
}

func (h *history) Len() int        { return len(h.lines) }
func (h *history) At(n int) string { return h.lines[n] }

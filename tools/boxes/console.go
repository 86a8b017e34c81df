package boxes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Console is what somebody at the other end of a serial cable sees and types. It
// outlives boots. Texts are searched from where the last search ended, so that a
// line of an earlier boot is never taken for one of this.
type Console struct {
	// Prompt is what stands at the very end of the text when the machine waits
	// for a command.
	Prompt *regexp.Regexp
	// LoginPrompt and PasswordPrompt are those of Login.
	LoginPrompt, PasswordPrompt *regexp.Regexp

	file *os.File // everything, as it came

	mu      sync.Mutex
	conn    net.Conn // of the running machine
	over    bool     // the machine has ended
	strip   stripper
	text    []byte // the last keepText bytes, without escape sequences
	from    int    // in text: where the next search begins
	changed chan struct{}
}

// keepText bounds what a Console remembers, in bytes; its file has all.
const keepText = 1 << 20

func newConsole(name string) (*Console, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("keep what a console says: %w", err)
	}
	return &Console{
		Prompt:         regexp.MustCompile(`(?m)^\S+[>#$] \z`),
		LoginPrompt:    regexp.MustCompile(`(?i)login: *\z`),
		PasswordPrompt: regexp.MustCompile(`(?i)password: *\z`),
		file:           f, over: true, changed: make(chan struct{}),
	}, nil
}

// attach begins a boot. The caller runs the returned func, which ends with conn.
func (c *Console) attach(conn net.Conn) (read func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn, c.over, c.strip, c.from = conn, false, stripper{}, len(c.text)
	return func() {
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			c.add(buf[:n], err)
			if err != nil {
				conn.Close()
				return
			}
		}
	}
}

func (c *Console) add(p []byte, end error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, werr := c.file.Write(p) // for people: the text below is what counts
	if werr != nil {
		c.text = fmt.Appendf(c.text, "\n[not kept: %v]\n", werr)
	}
	var kept int
	c.text, kept = c.strip.append(c.text, p)
	c.from = min(c.from, kept)
	if over := len(c.text) - keepText; over > keepText/4 {
		c.text = append([]byte(nil), c.text[over:]...)
		c.from = max(0, c.from-over)
	}
	c.over = end != nil
	close(c.changed)
	c.changed = make(chan struct{})
}

// Send types a line and presses enter (carriage return, as a terminal does).
func (c *Console) Send(line string) error { return c.Type(line + "\r") }

// Type types keys as they are.
func (c *Console) Type(keys string) error {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn == nil {
		return errors.New("type at the console: the machine has never been started")
	}
	// The machine takes 16 bytes at a time, but it takes them.
	if err := conn.SetWriteDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return fmt.Errorf("type at the console: %w", err)
	}
	if _, err := io.WriteString(conn, keys); err != nil {
		return fmt.Errorf("type %q at the console: %w", keys, err)
	}
	return nil
}

// Expect waits until the text holds re, and returns the match with its groups.
// The next search begins behind it. It fails when ctx ends, or the machine; the
// error shows the last lines.
func (c *Console) Expect(ctx context.Context, re *regexp.Regexp) ([]string, error) {
	_, match, err := c.until(ctx, re)
	return match, err
}

// until is Expect that also returns what stood before the match.
func (c *Console) until(ctx context.Context, re *regexp.Regexp) (before string, match []string, err error) {
	for {
		c.mu.Lock()
		rest := c.text[c.from:]
		at := re.FindSubmatchIndex(rest)
		if at != nil {
			before = string(rest[:at[0]])
			for i := 0; i < len(at); i += 2 {
				group := ""
				if at[i] >= 0 {
					group = string(rest[at[i]:at[i+1]])
				}
				match = append(match, group)
			}
			c.from += at[1]
			c.mu.Unlock()
			return before, match, nil
		}
		over, changed := c.over, c.changed
		c.mu.Unlock()
		if over {
			return "", nil, c.missing(re, errors.New("the machine has ended, or has no such line"))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", nil, c.missing(re, context.Cause(ctx))
		}
	}
}

func (c *Console) missing(re *regexp.Regexp, err error) error {
	return fmt.Errorf("console: wait for %q: %w; all of it is in %s, the last lines are:\n%s", re, err, c.file.Name(), c.Tail(30))
}

// Tail is the last n lines.
func (c *Console) Tail(n int) string {
	lines := strings.Split(strings.TrimRight(c.Text(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Text is everything that is remembered, of all boots.
func (c *Console) Text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text)
}

// Login answers the questions for name and password and waits for the prompt.
func (c *Console) Login(ctx context.Context, name, password string) error {
	for _, s := range []struct {
		at   *regexp.Regexp
		line string
	}{{c.LoginPrompt, name}, {c.PasswordPrompt, password}} {
		if _, err := c.Expect(ctx, s.at); err != nil {
			return err
		}
		if err := c.Send(s.line); err != nil {
			return err
		}
	}
	_, err := c.Expect(ctx, c.Prompt)
	return err
}

// more is what a pager says at the end of a page.
const more = "--More--"

// Do runs a command of a machine that waits at its prompt, and returns what it
// printed, with all its pages: the lines between the echo and the next prompt.
func (c *Console) Do(ctx context.Context, command string) (string, error) {
	if err := c.Send(command); err != nil {
		return "", err
	}
	// The echo of a long command goes on in the next line.
	var echo strings.Builder
	for _, r := range command {
		echo.WriteString(regexp.QuoteMeta(string(r)) + `\n?`)
	}
	if _, err := c.Expect(ctx, regexp.MustCompile(echo.String()+`\n`)); err != nil {
		return "", err
	}
	end := regexp.MustCompile(`(?:` + c.Prompt.String() + `)|` + more + `\z`)
	var out strings.Builder
	for {
		before, match, err := c.until(ctx, end)
		out.WriteString(before)
		if err != nil || match[0] != more {
			return out.String(), err
		}
		if err := c.Type(" "); err != nil {
			return out.String(), err
		}
	}
}

// close lets the file go.
func (c *Console) close() error { return c.file.Close() }

// stripper takes out what moves cursors and sets colours (ECMA-48): escape
// sequences, and control characters but the line feed and the tab. A carriage
// return without a line feed begins the line anew. Sequences may be cut anywhere
// between two reads.
type stripper struct {
	state byte // what kind of sequence this is in; 0: none
	cr    bool // the last character was a carriage return
}

// append returns the longer text, and how much of what was there still is.
func (s *stripper) append(to, p []byte) (text []byte, kept int) {
	const esc, bel = 0x1b, 0x07
	kept = len(to)
	for _, b := range p {
		switch s.state {
		case 0:
			switch {
			case b == esc:
				s.state = esc
			case b == '\r':
				s.cr = true
			case b == '\n' || b == '\t' || b >= ' ' && b != 0x7f:
				if s.cr && b != '\n' {
					to = to[:bytes.LastIndexByte(to, '\n')+1]
					kept = min(kept, len(to))
				}
				s.cr = false
				to = append(to, b)
			}
		case esc: // the kind of sequence
			switch b {
			case '[', ']':
				s.state = b
			case '(', ')', '#', ' ', '%':
				s.state = '('
			default:
				s.state = 0
			}
		case '[': // CSI: parameters to a final byte of 0x40 to 0x7e
			if b >= 0x40 && b <= 0x7e {
				s.state = 0
			}
		case ']': // OSC: to BEL or ESC \
			if b == bel {
				s.state = 0
			} else if b == esc {
				s.state = '('
			}
		case '(': // one more
			s.state = 0
		}
	}
	return to, kept
}

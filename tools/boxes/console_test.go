package boxes

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// cable is a console with a machine of our own at the other end.
func cable(t *testing.T) (*Console, net.Conn) {
	t.Helper()
	c, err := newConsole(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	machine := plug(t, c)
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	return c, machine
}

// plug starts a boot, which the test's end ends.
func plug(t *testing.T, c *Console) net.Conn {
	t.Helper()
	ours, machine := net.Pipe()
	read := c.attach(ours)
	done := make(chan struct{})
	go func() { read(); close(done) }()
	t.Cleanup(func() { machine.Close(); <-done })
	return machine
}

func say(t *testing.T, machine net.Conn, text string) {
	t.Helper()
	if _, err := machine.Write([]byte(text)); err != nil {
		t.Error(err)
	}
}

func TestDoReturnsWhatStandsBetweenPrompts(t *testing.T) {
	c, machine := cable(t)
	go func() {
		say(t, machine, "\x1b[2J\x1b[1;31mBdsDxe\x1b[0m: starting\r\nlogin: ")
		for _, answer := range []string{"root\r\nPassword: ", "\r\nbox> ", "show \x1b]0;title\x07box\r\nmodel x\r\n> is no prompt\r\nbo", "a long\r\n one\r\nok\r\n--More--", "\r        \rmore\r\n--More--", "\r        \rbox> "} {
			buf := make([]byte, 100)
			if _, err := machine.Read(buf); err != nil {
				t.Error(err)
				return
			}
			say(t, machine, answer)
			if !strings.HasSuffix(answer, "bo") {
				continue
			}
			say(t, machine, "x> ")
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.Login(ctx, "root", "secret"); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ ask, want string }{{"show box", "model x\n> is no prompt\n"}, {"a long one", "ok\nmore\n"}} {
		got, err := c.Do(ctx, x.ask)
		if err != nil {
			t.Fatal(err)
		}
		if got != x.want {
			t.Errorf("%s printed %q, want %q", x.ask, got, x.want)
		}
	}
	if text := c.Text(); !strings.HasPrefix(text, "BdsDxe: starting\nlogin: ") {
		t.Errorf("the text is %q", text)
	}
}

// A search of this boot must not find the last one's text, and the end of the
// machine ends it.
func TestExpectKnowsBootsAndEnds(t *testing.T) {
	c, machine := cable(t)
	say(t, machine, "ready\r\n")
	machine.Close()
	_, err := c.Expect(t.Context(), regexp.MustCompile("never"))
	if err == nil || !strings.Contains(err.Error(), "ended") || !strings.Contains(err.Error(), "ready") {
		t.Errorf("a dead machine: %v", err)
	}
	next := plug(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Expect(ctx, regexp.MustCompile("ready")); !errors.Is(err, context.Canceled) {
		t.Errorf("the text of the boot before: %v", err)
	}
	say(t, next, "ready 2\r\n")
	match, err := c.Expect(t.Context(), regexp.MustCompile(`ready (\d)`))
	if err != nil || match[1] != "2" {
		t.Errorf("%q, %v", match, err)
	}
}

func TestConsoleIsBounded(t *testing.T) {
	c, machine := cable(t)
	block := strings.Repeat(strings.Repeat("x", 99)+"\n", 1000)
	for range 30 {
		say(t, machine, block)
	}
	say(t, machine, "end\n")
	if _, err := c.Expect(t.Context(), regexp.MustCompile("end")); err != nil {
		t.Fatal(err)
	}
	if n := len(c.Text()); n < keepText || n > keepText*5/4 {
		t.Errorf("%d bytes are kept, want about %d", n, keepText)
	}
}

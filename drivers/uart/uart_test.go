package uart

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"komainu/ntp/instant"
)

func TestSearch(t *testing.T) {
	const brk, frame = "\xff\x00\x00", "\xff\x00x"
	ms := func(n int) instant.Instant {
		return instant.Instant(time.Second).Add(time.Duration(n) * time.Millisecond)
	}
	type read struct {
		at   int
		in   string
		data string
		now  int // speed afterwards
	}
	for name, c := range map[string]struct {
		from  int
		reads []read
	}{
		"text":               {115200, []read{{0, "show\r", "show\r", 115200}, {1, "日向", "日向", 115200}}},
		"break":              {115200, []read{{0, "ab" + brk + "cd", "", 9600}, {400, "ok", "ok", 9600}, {900, brk, "", 115200}}},
		"break in pieces":    {115200, []read{{0, "\xff", "", 115200}, {1, "\x00", "", 115200}, {2, "\x00", "", 9600}}},
		"rest of the key":    {115200, []read{{0, brk + brk + brk, "", 9600}, {1, frame + frame + frame, "", 9600}, {2, brk, "", 9600}, {301, brk, "", 115200}}},
		"two errors, a byte": {9600, []read{{0, frame + frame + "a" + frame + frame, "a", 9600}}},
		"three errors":       {9600, []read{{0, frame, "", 9600}, {5000, frame + frame, "", 115200}}},
		"fast keys at 9600":  {9600, []read{{0, "\xff\xff", "", 9600}, {1, "\xfe\xf8", "", 115200}}},
		"bytes at 115200":    {115200, []read{{0, "\xff\xff\xff\xff\xff\xff", "\xff\xff\xff", 115200}}},
		"a NUL is no error":  {9600, []read{{0, "\x00\x00\x00\x00", "\x00\x00\x00\x00", 9600}}},
	} {
		s := Search{Speed: c.from}
		for _, r := range c.reads {
			was := s.Speed
			data, change := s.Feed(ms(r.at), []byte(r.in))
			if string(data) != r.data || s.Speed != r.now || change != (was != r.now) {
				t.Errorf("%s, %d ms: %q, change %v, %d baud; want %q, %d", name, r.at, data, change, s.Speed, r.data, r.now)
			}
		}
	}
}

func TestList(t *testing.T) {
	sys := t.TempDir()
	file := func(name, text string) {
		t.Helper()
		p := filepath.Join(sys, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check := func(want ...string) {
		t.Helper()
		got, err := list(sys, filepath.Join(sys, "dev"))
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	if _, err := list(sys, ""); err == nil {
		t.Error("no sysfs is no error")
	}
	file("class/tty/console/active", "tty0\n")
	file("class/tty/tty1/active", "")
	file("class/tty/ttyS0/type", "0\n")
	file("class/tty/ttyS9/uevent", "") // no type, no device to ask
	file("class/tty/hvc0/uevent", "")
	file("class/vtconsole/vtcon0/name", "(S) dummy device\n")
	file("class/vtconsole/vtcon0/bind", "1\n")
	check()
	file("class/tty/console/active", "hvc0 ttyS1\n")
	file("class/tty/ttyS1/type", "4\n")
	file("class/tty/ttyS2/type", "4\n")
	file("class/tty/ttyUSB0/uevent", "")
	file("class/tty/ttyprintk/uevent", "")
	file("class/vtconsole/vtcon1/name", "(M) frame buffer device\n")
	file("class/vtconsole/vtcon1/bind", "1\n")
	check("hvc0", "tty1", "ttyS1", "ttyS2", "ttyUSB0")
}

// pty gives the master and the path of a new pseudo terminal.
func pty(t *testing.T) (*os.File, string) {
	t.Helper()
	m, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminals here: ", err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	raw, err := m.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	var ierr error
	err = raw.Control(func(fd uintptr) {
		ierr = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		if ierr == nil {
			n, ierr = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err := errors.Join(err, ierr); err != nil {
		t.Fatal(err)
	}
	return m, fmt.Sprint("/dev/pts/", n)
}

func TestPort(t *testing.T) {
	m, path := pty(t)
	p, err := Open(path, 9600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	// Raw both ways: no echo, no signal, no line end changed; 255 is doubled.
	in := "a\x03\r\xffb\n"
	if _, err := m.WriteString(in); err != nil {
		t.Fatal(err)
	}
	want, got := strings.ReplaceAll(in, "\xff", "\xff\xff"), ""
	for b := make([]byte, 64); len(got) < len(want); {
		n, err := p.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		got += string(b[:n])
	}
	if got != want {
		t.Errorf("read %q, want %q", got, want)
	}
	if _, err := p.Write([]byte("one\ntwo")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	if n, err := m.Read(b); err != nil || string(b[:n]) != "one\ntwo" {
		t.Errorf("wrote %q, %v", b[:n], err)
	}
	if err := p.Raw(4800); err == nil {
		t.Error("a speed that isn't ours was taken")
	}
	if err := p.Raw(115200); err != nil {
		t.Error(err)
	}
	// A terminal that doesn't read: the write ends at its deadline.
	if err := p.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write to a terminal that stopped: %v", err)
	}
	if err := p.DropOutput(); err != nil {
		t.Error(err)
	}
}

func TestOpenNothing(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "ttyS7"), 9600); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := Open("/dev/null", 9600); err == nil {
		t.Error("/dev/null is no terminal")
	}
}

// TestHostList runs on a machine with the four ports of an 8250 driver of
// which one is real, as under QEMU.
func TestHostList(t *testing.T) {
	b, err := os.ReadFile("/sys/class/tty/ttyS1/type")
	if err != nil || strings.TrimSpace(string(b)) != "0" {
		t.Skip("no bogus ttyS1 here")
	}
	all, err := List()
	if err != nil {
		t.Fatal(err)
	}
	t.Log(all)
	for _, name := range all {
		if strings.HasPrefix(name, "ttyS") && name != "ttyS0" {
			t.Errorf("%s isn't real", name)
		}
	}
	if !strings.Contains(strings.Join(all, " "), "ttyS0") {
		t.Errorf("ttyS0 is missing in %q", all)
	}
}

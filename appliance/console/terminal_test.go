package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/encoding/japanese"

	"komainu/appliance/control"
)

// talk is what a session of cmds shows when keys are typed.
func talk(t *testing.T, keys string, cmds ...Command) string {
	t.Helper()
	term := &typist{keys: keys}
	s := &Session{Console: Console{Commands: append(cmds, Service()...), Run: "/nonexistent", Lang: "en", User: "sato"}, Screen: NewScreen(term, forever), Role: control.Admin, Prompt: "box"}
	if err := s.Loop(t.Context()); err != nil && !errors.Is(err, ErrIdle) {
		t.Error(err)
	}
	return term.shown()
}

// lines prints its argument's number of lines, "say" its argument.
func lines(n int) []Command {
	return []Command{
		{Path: []string{"lines"}, Run: func(_ context.Context, in *Invocation) error {
			for i := range n {
				if _, err := fmt.Fprintf(in.Out, "line %d\n", i+1); err != nil {
					return err
				}
			}
			return nil
		}},
		{Path: []string{"tell"}, Args: []Arg{{Name: "TEXT"}}, Run: func(_ context.Context, in *Invocation) error {
			_, err := fmt.Fprintf(in.Out, "<%s>\n", in.Args[0])
			return err
		}},
	}
}

// TestKeyToEcho: a key at the end of the line costs its own bytes, one taken
// back three per column at most.
func TestKeyToEcho(t *testing.T) {
	for _, c := range []struct{ before, key, want string }{
		{"show stat", "u", "u"},
		{"", "x", "x"},
		{"日向", "町", "町"},
		{"show", "\x7f", "\b \b"},
		{"日向町", "\x7f", "\b\b  \b\b"},
		{"show", "\x1b[D", "\b"},
		{"sho", "\t", "\a"},
		{"abc\x1b[D\x1b[D", "x", "xbc\b\b"},
		{"日本x\x1b[D\x1b[D", "\x7f", "\b\b本x\x1b[J\b\b\b"},
		{strings.Repeat("x", 80-5-1), "y", "y\r\n"},
		{strings.Repeat("x", 80-5-1), "町", "\r\n町"},
	} {
		var out strings.Builder
		e := &lineEditor{in: strings.NewReader(c.before), out: &out, columns: 80}
		_, _ = e.readLine("box> ", false, nil)
		out.Reset()
		e.in = strings.NewReader(c.key)
		b := []byte(c.key)
		e.buf = b
		for len(e.buf) > 0 {
			k, err := e.key()
			if err != nil {
				t.Fatal(err)
			}
			e.edit(k, func(line string, pos int, key rune) (string, int, bool) { return line, pos, key == '\t' })
		}
		want := c.want
		if want == "\a" {
			want = ""
		}
		if err := e.flush(); err != nil || out.String() != want {
			t.Errorf("%q %q: sent %q, want %q (%v)", c.before, c.key, out.String(), want, err)
		}
	}
}

// FuzzLineEditor: a terminal that obeys shows what the editor holds, with the
// cursor where the editor believes it.
func FuzzLineEditor(f *testing.F) {
	f.Add("show 日向町\x1b[D\x1b[D\x7fx\x01y\x05\x17", 20)
	f.Add("000000000000000\x1b[Dあ", 20)
	f.Add("aaaaaaaaaaaaaaaaaaaaaaaa\x7f\x7f\x7f\x7f\x1b[Dあ", 20)
	f.Fuzz(func(t *testing.T, typed string, columns int) {
		if columns < 20 || columns > 100 || len(typed) > 300 {
			return
		}
		var k keys
		var clean []byte
		for _, c := range []byte(typed) {
			if c != '\r' && c != '\n' && c != keyInterrupt && c != 4 && c != 0x0c {
				clean = append(clean, k.feed(c)...)
			}
		}
		vt := &vt{columns: columns}
		e := &lineEditor{in: strings.NewReader(string(clean)), out: vt, columns: columns}
		if _, err := e.readLine("box> ", false, nil); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		for _, r := range string(e.line) {
			if r < ' ' || r == 0x7f {
				return
			}
		}
		if got, want := vt.text(), strings.TrimRight("box> "+string(e.line), " "); strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") || vt.row != e.row || vt.col != e.col {
			t.Errorf("%q: shows %q at %d,%d, want %q at %d,%d", clean, got, vt.row, vt.col, want, e.row, e.col)
		}
	})
}

// vt is as much of a VT100 as the editor uses.
type vt struct {
	columns  int
	cells    map[[2]int]rune
	row, col int
}

func (v *vt) Write(b []byte) (int, error) {
	if v.cells == nil {
		v.cells = map[[2]int]rune{}
	}
	in := []rune(string(b))
	for i := 0; i < len(in); i++ {
		switch r := in[i]; {
		case r == '\r':
			v.col = 0
		case r == '\n':
			v.row++
		case r == '\b':
			v.col--
		case r == keyEscape:
			n := 0
			for i += 2; in[i] >= '0' && in[i] <= '9'; i++ {
				n = n*10 + int(in[i]-'0')
			}
			n = max(1, n)
			switch in[i] {
			case 'A':
				v.row -= n
			case 'B':
				v.row += n
			case 'C':
				v.col += n
			case 'D':
				v.col -= n
			case 'K':
				for col := v.col; col < v.columns; col++ {
					delete(v.cells, [2]int{v.row, col})
				}
			case 'J':
				for at := range v.cells {
					if at[0] > v.row || at[0] == v.row && at[1] >= v.col {
						delete(v.cells, at)
					}
				}
			}
		default:
			v.cells[[2]int{v.row, v.col}] = r
			if runeWidth(r) == 2 {
				delete(v.cells, [2]int{v.row, v.col + 1})
			}
			v.col += runeWidth(r)
		}
	}
	return len(b), nil
}

func (v *vt) text() string {
	var b strings.Builder
	for row := range 100 {
		for col := range v.columns {
			if r, ok := v.cells[[2]int{row, col}]; ok {
				b.WriteRune(r)
			}
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// TestTerminal are transcripts.
func TestTerminal(t *testing.T) {
	for name, c := range map[string]struct {
		keys string
		n    int
	}{
		"pipe":    {"lines | include 1$ | exclude 11\rlines | count\rlines | begin 'line 19'\rlin | inc 2 | c\rlines | include (\rlines | nonsense\rlines |\rlines | incl\t", 20},
		"no-page": {"console lines 0\rlines\rconsole lines 3\rconsole columns x\rexit\r", 30},
		"history": {"tell one\rtell two\r\x1b[A\x1b[A\r\x1b[A\x1b[A\x1b[B\r\x1b[1;9Zexit\r", 0},
		"help":    {"ser?\x15service ?\x15service sw\t\t\x15te\tx\x1b[D\x1b[D?\x15exit\r", 0},
		"break":   {"tell x\x03tell y\rexit\r", 0},
		"long":    {"tell " + strings.Repeat("x", 10000) + "\rexit\r", 0},
		"wide":    {"tell 日向町\x7f役場\r\"tell\"\u3000全角\rexit\r", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := talk(t, c.keys, lines(c.n)...)
			if name == "long" && strings.Contains(got, "<x") {
				t.Error("half a line was run")
			}
			golden(t, "terminal-"+name, strings.ReplaceAll(strings.ReplaceAll(got, "\x1b", "ESC"), "\b", "BS"))
		})
	}
}

// reader is a typist who answers "--More--" with the next of keys.
type reader struct {
	typist
	answers string
	more    chan byte
}

func (r *reader) Write(b []byte) (int, error) {
	if strings.HasSuffix(string(b), morePage) {
		r.more <- r.answers[0]
		r.answers = r.answers[1:]
	}
	return r.typist.Write(b)
}

func (r *reader) Read(b []byte) (int, error) {
	r.mu.Lock()
	late, prompt := r.late, r.deadline.After(time.Now())
	r.mu.Unlock()
	if prompt {
		return r.typist.Read(b)
	}
	select {
	case b[0] = <-r.more:
		return 1, nil
	case <-late:
		return 0, os.ErrDeadlineExceeded
	}
}

// TestPager: a page, a line, the end, and ^C, of output that never ends.
func TestPager(t *testing.T) {
	for name, answers := range map[string]string{"quit": " \rq", "break": "\x03"} {
		t.Run(name, func(t *testing.T) {
			term := &reader{typist: typist{keys: "console lines 5\rlines\rexit\r"}, answers: answers, more: make(chan byte, 1)}
			var ended error
			endless := Command{Path: []string{"lines"}, Run: func(_ context.Context, in *Invocation) (err error) {
				for i := 1; err == nil; i++ {
					_, err = fmt.Fprintf(in.Out, "line %d\n", i)
				}
				ended = err
				return errReported
			}}
			s := &Session{Console: Console{Commands: []Command{endless}, Lang: "en"}, Screen: NewScreen(term, forever), Role: control.Admin, Prompt: "box"}
			if err := s.Loop(t.Context()); err != nil {
				t.Error(err)
			}
			if !errors.Is(ended, context.Canceled) {
				t.Errorf("ended by %v", ended)
			}
			golden(t, "terminal-pager-"+name, strings.ReplaceAll(term.shown(), "\r", "CR"))
		})
	}
}

// TestHelpFits: the whole tree on 80 columns.
func TestHelpFits(t *testing.T) {
	for _, lang := range []string{"en", "ja"} {
		var out strings.Builder
		c := &Console{Commands: slices.Concat(Config(nil), Return(), Service(), Show(), NTP(), Box(), Images(), Check(), Setup()), Out: &out, Err: &out, Lang: lang}
		c.Commands = append(c.Commands, (&Session{Speed: func(int) error { return nil }}).terminalWords()...)
		if code := c.Main(t.Context(), []string{"help"}); code != 0 {
			t.Error(code)
		}
		for line := range strings.Lines(out.String()) {
			if width(strings.TrimRight(line, "\n")) > screen {
				t.Errorf("too wide: %s", line)
			}
		}
	}
}

func TestPipeOneShot(t *testing.T) {
	var out strings.Builder
	c := &Console{Commands: lines(12), Out: &out, Err: &out, Lang: "en"}
	if code := c.Main(t.Context(), []string{"lines", "|", "include", "1", "|", "count"}); code != 0 || out.String() != "4\n" {
		t.Errorf("%d %q", code, out.String())
	}
	out.Reset()
	if code := c.Main(t.Context(), []string{"lines", "|", "count", "x"}); code != exitUsage || !strings.Contains(out.String(), "| count x") || strings.Contains(out.String(), "line 1") {
		t.Errorf("%d %q", code, out.String())
	}
}

func TestCharset(t *testing.T) {
	text := "日向町ｶﾅ \\|表ソ～"
	sjis, err := japanese.ShiftJIS.NewEncoder().String(text)
	if err != nil {
		t.Fatal(err)
	}
	in, out := charset{sjis: true}, charset{sjis: true}
	var typed, shown []byte
	for _, b := range []byte(sjis) {
		typed = append(typed, in.typed(b)...)
	}
	for _, b := range []byte(text) { // halves at every place
		shown = append(shown, out.shown([]byte{b})...)
	}
	if string(typed) != text || string(shown) != sjis {
		t.Errorf("typed %q, shown %q, want %q", typed, shown, sjis)
	}
	if got := string(out.shown([]byte("a😀é\x1b[J\r\n"))); got != "a??\x1b[J\r\n" {
		t.Errorf("what Shift_JIS lacks: %q", got)
	}
	var half []byte
	for _, b := range []byte("\x93\x03\x93\rx") { // ^C and Enter end half a character
		half = append(half, in.typed(b)...)
	}
	if string(half) != "\x03\rx" {
		t.Errorf("halves: %q", half)
	}
	keys, _ := japanese.ShiftJIS.NewEncoder().String("tell 日向町\x7f役場\rexit\r")
	got := talk(t, "console charset shift_jis\r"+keys, lines(0)...)
	if back, err := japanese.ShiftJIS.NewDecoder().String(got); err != nil || !strings.Contains(back, "<日向役場>") {
		t.Errorf("%q %v", got, err)
	}
}

// TestComplete arguments: names from the agent, and none when it hangs.
func TestCompleteNames(t *testing.T) {
	dir := (&agent{st: cut()}).serve(t)
	term := &typist{keys: "service hold r\t\x15exit\r"}
	s := &Session{Console: Console{Commands: Service(), Run: dir, Lang: "en"}, Screen: NewScreen(term, forever), Role: control.Admin, Prompt: "box"}
	if err := s.Loop(t.Context()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(term.shown(), "service hold resident ") {
		t.Errorf("%q", term.shown())
	}
}

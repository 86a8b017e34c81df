package console

import (
	"errors"
	"io"
	"strconv"
	"unicode/utf8"
)

// ErrInterrupt says that a question was answered with ^C.
var ErrInterrupt = errors.New("interrupted")

// unwrapped stands for the width of a terminal that wraps by itself.
const unwrapped = 1 << 20

// completer answers a key with the line that follows from it; ok: it did.
type completer func(line string, pos int, key rune) (newLine string, newPos int, ok bool)

// lineEditor edits one line on a VT100. It counts columns, so that full-width
// characters take two, and sends as little as it can: a character typed at the
// end costs its own bytes alone, one taken back there three (six if wide).
type lineEditor struct {
	in      io.Reader // whole keys, as keys gives them
	out     io.Writer
	columns int // where the terminal wraps
	history history

	buf    []byte // read and not yet used
	prompt []rune
	hidden bool // nothing that is typed is shown
	line   []rune
	pos    int    // of the cursor, in line
	row    int    // of the cursor, 0 is the prompt's first
	col    int    // likewise, 0..columns-1
	queue  []byte // to be sent
	recall int    // entry of the history that is shown; -1: none
	draft  []rune // what was typed before the first Up
}

// readLine asks for one line. io.EOF after ^D on an empty line, ErrInterrupt
// after ^C. A line longer than lineMost bytes comes back cut, still too long.
func (e *lineEditor) readLine(prompt string, hidden bool, complete completer) (string, error) {
	e.prompt, e.hidden, e.line, e.pos, e.row, e.col, e.recall = []rune(prompt), hidden, nil, 0, 0, 0, -1
	e.paint(e.prompt, false)
	for {
		if err := e.flush(); err != nil {
			return "", err
		}
		key, err := e.key()
		if err != nil {
			return "", err
		}
		switch key {
		case "\r":
			e.goTo(len(e.line))
			e.send("\r\n")
			line := string(e.line)
			if !hidden {
				e.history.Add(line)
			}
			return line, e.flush()
		case "\x03":
			e.set(nil, 0)
			e.send("^C\r\n")
			return "", errors.Join(ErrInterrupt, e.flush())
		case "\x04":
			if len(e.line) == 0 {
				return "", io.EOF
			}
			e.erase(e.pos, e.pos+1)
		default:
			e.edit(key, complete)
		}
	}
}

// key is the next whole key.
func (e *lineEditor) key() (string, error) {
	for len(e.buf) == 0 {
		b := make([]byte, 256)
		n, err := e.in.Read(b)
		e.buf = b[:n]
		if err != nil && n == 0 {
			return "", err
		}
	}
	n := 1
	if e.buf[0] == keyEscape { // up to its letter
		for n = 2; n < len(e.buf) && (e.buf[n] < '@' || e.buf[n] > '~'); n++ {
		}
		n = min(n+1, len(e.buf))
	} else if _, size := utf8.DecodeRune(e.buf); size > 0 {
		n = size
	}
	key := string(e.buf[:n])
	e.buf = e.buf[n:]
	return key, nil
}

func (e *lineEditor) edit(key string, complete completer) {
	switch key {
	case "\x7f", "\b":
		e.erase(e.pos-1, e.pos)
	case "\x1b[3~":
		e.erase(e.pos, e.pos+1)
	case "\x1b[D", "\x02":
		e.goTo(e.pos - 1)
	case "\x1b[C", "\x06":
		e.goTo(e.pos + 1)
	case "\x1b[H", "\x1b[1~", "\x01":
		e.goTo(0)
	case "\x1b[F", "\x1b[4~", "\x05":
		e.goTo(len(e.line))
	case "\x1b[A", "\x10":
		e.older()
	case "\x1b[B", "\x0e":
		e.newer()
	case "\x15": // ^U
		e.erase(0, e.pos)
	case "\x0b": // ^K
		e.erase(e.pos, len(e.line))
	case "\x17": // ^W
		from := e.pos
		for from > 0 && e.line[from-1] == ' ' {
			from--
		}
		for from > 0 && e.line[from-1] != ' ' {
			from--
		}
		e.erase(from, e.pos)
	case "\x0c": // ^L
		e.send("\x1b[2J\x1b[H")
		e.again()
	default:
		r, _ := utf8.DecodeRuneInString(key)
		if complete != nil && !e.hidden {
			before := string(e.line[:e.pos])
			if line, pos, ok := complete(before+string(e.line[e.pos:]), len(before), r); ok {
				e.set([]rune(line), utf8.RuneCountInString(line[:pos]))
				return
			}
		}
		if r >= ' ' {
			e.insert(r)
		}
	}
}

// insert puts r at the cursor; behind lineMost nothing is kept nor shown.
func (e *lineEditor) insert(r rune) {
	if len(string(e.line)) > lineMost {
		return
	}
	line := make([]rune, 0, len(e.line)+1)
	line = append(append(append(line, e.line[:e.pos]...), r), e.line[e.pos:]...)
	e.set(line, e.pos+1)
}

// erase takes away line[from:to], as far as there is such a part.
func (e *lineEditor) erase(from, to int) {
	from, to = max(0, from), min(to, len(e.line))
	if from >= to {
		return
	}
	line := append(append([]rune{}, e.line[:from]...), e.line[to:]...)
	if w := width(string(e.line[from:to])); to == len(e.line) && e.pos == to && w <= 2 && e.col >= w && !e.hidden {
		for _, s := range []string{"\b", " ", "\b"} {
			for range w {
				e.send(s)
			}
		}
		e.line, e.pos, e.col = line, from, e.col-w
		return
	}
	e.set(line, from)
}

// set changes line and cursor, and paints what is different from the first
// different character on.
func (e *lineEditor) set(line []rune, pos int) {
	same := 0
	for same < len(line) && same < len(e.line) && line[same] == e.line[same] {
		same++
	}
	old := e.line
	if e.hidden {
		e.line, e.pos = line, pos
		return
	}
	if same < len(old) || same < len(line) {
		e.goTo(same)
		e.line = line
		e.paint(line[same:], len(old) > same)
		if len(old) > same && width(string(old[same:])) > width(string(line[same:])) {
			e.send("\x1b[J")
		}
		e.pos = len(line)
	}
	e.goTo(pos)
}

func (e *lineEditor) older() {
	if e.recall+1 >= e.history.Len() || e.hidden {
		return
	}
	if e.recall < 0 {
		e.draft = e.line
	}
	e.recall++
	e.recalled()
}

func (e *lineEditor) newer() {
	if e.recall < 0 {
		return
	}
	e.recall--
	e.recalled()
}

func (e *lineEditor) recalled() {
	line := e.draft
	if e.recall >= 0 {
		line = []rune(e.history.At(e.recall))
	}
	e.set(line, len(line))
}

// show writes text above the line, which is painted again below it.
func (e *lineEditor) show(text string) {
	e.goTo(len(e.line))
	e.send("\r\n" + text)
	e.again()
}

// again paints prompt and line from the first column on.
func (e *lineEditor) again() {
	line, pos := e.line, e.pos
	e.line, e.pos, e.row, e.col = nil, 0, 0, 0
	e.paint(e.prompt, false)
	e.set(line, min(pos, len(line)))
}

// paint writes runes at the cursor. It moves to the next row itself, since
// VT100s differ in what the last column does. over: something else may be there.
func (e *lineEditor) paint(runes []rune, over bool) {
	for _, r := range runes {
		w := runeWidth(r)
		if e.col+w > e.columns {
			if over { // in the last column, where nothing is written
				e.send("\x1b[K")
			}
			e.send("\r\n")
			e.row, e.col = e.row+1, 0
		}
		e.queue = utf8.AppendRune(e.queue, r)
		if e.col += w; e.col >= e.columns {
			e.send("\r\n")
			e.row, e.col = e.row+1, 0
		}
	}
}

// goTo moves the cursor to line[pos].
func (e *lineEditor) goTo(pos int) {
	pos = min(max(0, pos), len(e.line))
	e.pos = pos
	if e.hidden {
		return
	}
	row, col := 0, 0
	for i := range len(e.prompt) + pos {
		r := rune(0)
		if i < len(e.prompt) {
			r = e.prompt[i]
		} else {
			r = e.line[i-len(e.prompt)]
		}
		w := runeWidth(r)
		if col+w > e.columns {
			row, col = row+1, 0
		}
		if col += w; col >= e.columns {
			row, col = row+1, 0
		}
	}
	e.move(e.row-row, 'A')
	e.move(row-e.row, 'B')
	e.move(col-e.col, 'C')
	if left := e.col - col; left <= 3 {
		for range left {
			e.send("\b")
		}
	} else {
		e.move(left, 'D')
	}
	e.row, e.col = row, col
}

func (e *lineEditor) move(n int, way byte) {
	switch {
	case n <= 0:
	case n == 1:
		e.send("\x1b[" + string(way))
	default:
		e.send("\x1b[" + strconv.Itoa(n) + string(way))
	}
}

func (e *lineEditor) send(s string) { e.queue = append(e.queue, s...) }

func (e *lineEditor) flush() error {
	if len(e.queue) == 0 {
		return nil
	}
	b := e.queue
	e.queue = nil
	_, err := e.out.Write(b)
	return err
}

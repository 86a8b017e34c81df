package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"komainu/appliance/say"
	"komainu/tools/ledger"
	"komainu/tools/town"
)

// Colours of a terminal (ECMA-48 SGR).
const (
	plain  = "\x1b[0m"
	bold   = "\x1b[1m"
	dim    = "\x1b[2m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	cyan   = "\x1b[36m"
	erase  = "\r\x1b[K"
)

// Steps of the traffic line.
const (
	movingEvery = 500 * time.Millisecond // on a terminal, in place
	lineEvery   = 2 * time.Second        // elsewhere, one below the other
)

// screen is the timeline: lines with the time since the clerks began, and on a
// terminal one moving line at its foot.
type screen struct {
	out      io.Writer
	terminal bool
	columns  func() int // of the terminal, now
	lang     string

	mu    sync.Mutex
	began time.Time // zero: during the set-up
	foot  string
}

func newScreen(out *os.File, lang string) *screen {
	fd := int(out.Fd())
	return &screen{out: out, terminal: term.IsTerminal(fd), lang: lang, columns: func() int {
		n, _, err := term.GetSize(fd)
		if err != nil || n < 20 { // a serial line has no size
			return 80
		}
		return n
	}}
}

// cutTo is the beginning of a line that fits into n columns: a longer one would
// wrap, and its first part stay on the screen for ever.
func cutTo(line string, n int) string {
	for i, r := range line {
		if n -= width(string(r)); n < 0 {
			return line[:i]
		}
	}
	return line
}

// begin starts the clock of the timeline.
func (s *screen) begin(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = t
}

func (s *screen) close() { s.moving("") }

// text is the sentence for a word of words.go.
func (s *screen) text(word string, args ...any) string { return text(s.lang, word, args...) }

func text(lang, word string, args ...any) string {
	w, ok := words()[word]
	if !ok {
		return word
	}
	if lang == "ja" {
		return fmt.Sprintf(w[1], args...)
	}
	return fmt.Sprintf(w[0], args...)
}

func (s *screen) head(word string) { s.line(bold, "\n"+s.text(word)) }

func (s *screen) say(word string, args ...any) { s.timed("", s.text(word, args...)) }

func (s *screen) good(word string, args ...any) { s.timed(green, s.text(word, args...)) }

// quote shows what a program said, word for word.
func (s *screen) quote(parts ...string) {
	for line := range strings.Lines(strings.Join(parts, " ")) {
		s.line(yellow, "         | "+strings.TrimRight(line, "\n"))
	}
}

func (s *screen) command(c string) { s.timed(cyan, "$ "+c) }

// timed puts the time before a line.
func (s *screen) timed(colour, line string) {
	s.mu.Lock()
	at := "        "
	if !s.began.IsZero() {
		at = fmt.Sprintf("%6.2f s", time.Since(s.began).Seconds())
	}
	s.mu.Unlock()
	s.line(colour, at+" "+line)
}

func (s *screen) line(colour, line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.terminal {
		fmt.Fprintln(s.out, line)
		return
	}
	if colour != "" {
		line = colour + line + plain
	}
	fmt.Fprint(s.out, erase, line, "\n", s.foot)
}

// moving replaces the line at the foot of a terminal; elsewhere it is a line
// like others.
func (s *screen) moving(line string) {
	if !s.terminal {
		if line != "" {
			s.timed("", line)
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.foot = ""
	if line != "" {
		s.foot = dim + cutTo(line, s.columns()-1) + plain
	}
	fmt.Fprint(s.out, erase, s.foot)
}

// log takes the steps of the set-up.
func (s *screen) log() io.Writer { return lines{s} }

type lines struct{ s *screen }

func (l lines) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		l.s.timed(dim, strings.TrimRight(line, "\n"))
	}
	return len(b), nil
}

// follow shows the traffic and what the agents write in their journals, until
// ctx ends.
func (s *screen) follow(ctx context.Context, rec *ledger.Recorder, events <-chan town.Event) {
	every := lineEvery
	if s.terminal {
		every = movingEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	defer s.moving("")
	seen, last := 0, time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			if line := s.event(e); line != "" {
				s.timed(dim, line)
			}
		case now := <-tick.C:
			ops := rec.Ops()
			s.moving(s.traffic(ops[seen:], now.Sub(last)))
			seen, last = len(ops), now
		}
	}
}

// traffic is one line of rates.
func (s *screen) traffic(ops []ledger.Op, in time.Duration) string {
	var n [answers]int
	for _, op := range ops {
		n[answerOf(op)]++
	}
	per := func(a answer) int { return int(float64(n[a])/in.Seconds() + 0.5) }
	return s.text("traffic", per(readDC), per(readLocal), per(writeDC), per(writeLocal), per(writeRefused))
}

// answer is who answered an operation, and how.
type answer uint8

const (
	nobody answer = iota
	readDC
	readLocal
	writeDC
	writeLocal
	writeRefused
	answers
)

func answerOf(op ledger.Op) answer {
	switch {
	case ledger.GoodRead(op) && town.AtDC(op):
		return readDC
	case ledger.GoodRead(op) && town.Local(op):
		return readLocal
	case ledger.GoodWrite(op) && town.AtDC(op):
		return writeDC
	case ledger.GoodWrite(op) && town.Local(op):
		return writeLocal
	case op.Kind.Writes() && op.SQLState == "25006":
		return writeRefused
	}
	return nobody
}

// event is the line for a journal entry; empty for those that tell nothing to
// somebody who watches.
func (s *screen) event(e town.Event) string {
	who := map[string]string{"hall": "who-hall", "edge": "who-edge", "db": "who-db"}[e.Host]
	if e.Host == "hall" && strings.HasPrefix(e.Code, "verdict.") {
		return s.text(who) + ": " + say.Text(s.lang, e.Code, e.Args...)
	}
	word := "note-" + e.Code
	if _, ok := words()[word]; !ok {
		return ""
	}
	line := s.text(who) + ": " + s.text(word)
	switch e.Code {
	case "dual-write-window", "fenced":
		if len(e.Args) > 0 {
			line += " " + e.Args[0]
		}
	case "retired":
		if len(e.Args) > 1 {
			line += fmt.Sprintf(" %s/%s", e.Args[1], e.Args[0])
		}
	}
	if e.Term > 0 {
		line += " " + s.text("term", e.Term)
	}
	return line
}

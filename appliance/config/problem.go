package config

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"komainu/appliance/say"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	File    string
	Row     int    // 1 and up
	Column  int    // in characters, 1 and up
	Excerpt string // the line, without control characters
	Code    string // row of appliance/say: what is wrong and what to do
	Args    []string
}

// Problems is everything that is wrong with a file, in its order.
type Problems []Problem

// Error is the report in English.
func (ps Problems) Error() string { return strings.TrimRight(ps.Render("en"), "\n") }

// Render is the report for people, in "en" or "ja": for each problem its place
// and sentence, the line, and a mark below the place.
func (ps Problems) Render(lang string) string {
	var b strings.Builder
	for _, p := range ps {
		fmt.Fprintf(&b, "%s:%d:%d: %s\n", p.File, p.Row, p.Column, say.Text(lang, p.Code, p.Args...))
		if strings.TrimSpace(p.Excerpt) == "" {
			continue
		}
		fmt.Fprintf(&b, "%5d | %s\n      | %s^\n", p.Row, p.Excerpt, strings.Repeat(" ", width(p.Excerpt, p.Column-1)))
	}
	return b.String()
}

// width is how many columns of a terminal the first n characters of s take:
// Japanese ones take two.
func width(s string, n int) int {
	w := 0
	for i, c := range []rune(s) {
		if i == n {
			break
		}
		if w++; c >= 0x1100 && !(c >= 0xff61 && c <= 0xffdc) { // half-width katakana
			w++
		}
	}
	return w
}

// maxProblems is how many are noted; nobody reads more, and each costs a walk
// through the file.
const maxProblems = 1000

// bad notes a problem at an offset.
func (r *reader) bad(at int, code string, args ...string) {
	if len(r.problems) >= maxProblems {
		return
	}
	before := r.data[:at]
	row := bytes.Count(before, []byte("\n")) + 1
	start := bytes.LastIndexByte(before, '\n') + 1
	line, _, _ := bytes.Cut(r.data[start:], []byte("\n"))
	for i := range args {
		args[i] = printable(args[i])
	}
	r.problems = append(r.problems, Problem{File: printable(r.name), Row: row, Column: utf8.RuneCount(r.data[start:at]) + 1,
		Excerpt: strings.TrimRight(printable(strings.TrimRight(string(line), "\r")), " "), Code: code, Args: args})
}

// printable replaces what could disturb a terminal, character by character.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '\t':
			return ' '
		case c == utf8.RuneError || !unicode.IsPrint(c):
			return '?'
		}
		return c
	}, s)
}

func (ps Problems) sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int { return cmp.Or(a.Row-b.Row, a.Column-b.Column) })
}

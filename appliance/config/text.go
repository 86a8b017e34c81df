package config

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// plain makes of a file, as editors and terminals leave it, what TOML reads: a
// byte order mark goes. Not ok, and noted, if it isn't UTF-8.
func (r *reader) plain() (ok bool) {
	r.data = bytes.TrimPrefix(r.data, []byte("\xef\xbb\xbf"))
	for at := 0; at < len(r.data); {
		c, n := utf8.DecodeRune(r.data[at:])
		if c == utf8.RuneError && n == 1 {
			r.bad(at, "config-not-utf8")
			return false
		}
		at += n
	}
	return true
}

// ascii is what was probably meant by a character that a Japanese keyboard or a
// word processor puts in place of an ASCII one; 0 if nothing.
func ascii(c rune) rune {
	switch {
	case c >= 0xff01 && c <= 0xff5e: // full-width forms
		return c - 0xff01 + '!'
	case c == 0x201c || c == 0x201d:
		return '"'
	case c == 0x2018 || c == 0x2019:
		return '\''
	case c == 0x3000 || c == 0xa0:
		return ' '
	case c == 0x3001:
		return ','
	case c == 0x3002:
		return '.'
	}
	return 0
}

// wide notes such a character at an offset, and what to type.
func (r *reader) wide(at int, c rune) {
	number := fmt.Sprintf("%04X", c)
	if ascii(c) == ' ' {
		r.bad(at, "config-full-width-space", number)
		return
	}
	r.bad(at, "config-full-width", string(c), string(ascii(c)), number)
}

// widths notes full-width characters that stand outside of strings and
// comments, or in a string that isn't closed because its last quote is one,
// one per line, and blanks these lines in data.
func (r *reader) widths(data []byte) {
	multi := "" // the quotes of a string over several lines that is open
	for start := 0; start < len(data); {
		end := len(data)
		if i := bytes.IndexByte(data[start:], '\n'); i >= 0 {
			end = start + i
		}
		var at int
		if at, multi = wideAt(string(data[start:end]), multi); at >= 0 && len(r.problems) < maxSyntax {
			c, _ := utf8.DecodeRune(data[start+at:])
			r.wide(start+at, c)
			r.cut = true
			blank(data, start)
		}
		start = end + 1
	}
}

// wideAt is the offset of the first such character of a line, -1 if none, and
// which string is open behind the line.
func wideAt(line, multi string) (at int, open string) {
	for i := 0; i < len(line); {
		rest := line[i:]
		c, n := utf8.DecodeRuneInString(rest)
		switch {
		case multi != "":
			j := strings.Index(rest, multi)
			if j < 0 {
				return -1, multi
			}
			i, multi = i+j+3, ""
			continue
		case strings.HasPrefix(rest, `"""`), strings.HasPrefix(rest, "'''"):
			multi, n = rest[:3], 3
		case c == '"' || c == '\'':
			if n = closing(rest); n == 0 {
				if j := strings.IndexFunc(rest, func(c rune) bool { return ascii(c) == '"' || ascii(c) == '\'' }); j > 0 {
					return i + j, ""
				}
				return -1, ""
			}
		case c == '#':
			return -1, ""
		case ascii(c) != 0:
			return i, ""
		}
		i += n
	}
	return -1, multi
}

// closing is the length of the string at the beginning of s with both quotes; 0
// if it isn't closed.
func closing(s string) int {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && s[0] == '"':
			i++
		case s[i] == s[0]:
			return i + 1
		}
	}
	return 0
}

// asciiOnly notes strings of t with full-width characters, each once, and
// marks them. What is for people may have them.
func (r *reader) asciiOnly(t *table) {
	for _, k := range t.keys {
		if t.name == "[site]" && k == "label" || k == "settings" {
			continue
		}
		r.asciiValue(t.vals[k])
	}
}

func (r *reader) asciiValue(v *value) {
	if v.table != nil {
		r.asciiOnly(v.table)
	}
	for _, i := range v.items {
		r.asciiValue(i)
	}
	for _, c := range v.text {
		if ascii(c) != 0 {
			r.wide(v.at, c)
			v.noted, r.cut = true, true // what refers to it would only echo
			return
		}
	}
}

// Package candidate edits a configuration as text, so that comments and the
// order of everything that isn't touched stay. It knows tables, names and
// lists, not what a key means: that is for appliance/config. Start reading at
// Set; Commands is the way back.
package candidate

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"komainu/appliance/control"
)

// element is one table: [site], or one [[interface]] with its [interface.x].
type element struct {
	table  string
	name   string // of [[tables]]: what their name key says
	array  bool
	parts  []part
	nested bool // has [[tables]] of its own, which nothing here edits
}

// part is what stands below one header.
type part struct {
	path       []string // below the element; empty: its own header
	start, end int      // from the header's line up to behind the last key's line
	keys       []key
}

// key is one "key = value".
type key struct {
	path    []string // below the element, dots resolved
	start   int
	at, end int    // of the value
	lineEnd int    // behind the line
	raw     string // the value
}

// check tells where text isn't TOML.
func check(text string) error {
	var all map[string]any
	err := toml.Unmarshal([]byte(text), &all)
	if err == nil {
		return nil
	}
	row := 1
	var at *toml.DecodeError
	if errors.As(err, &at) {
		row, _ = at.Position()
	}
	return &control.Error{Code: "candidate-syntax", Args: []string{strconv.Itoa(row), strings.TrimPrefix(err.Error(), "toml: ")}}
}

// parse reads text into its elements; the first is the root, without a header.
// go-toml has checked the text, so that what follows may take it for TOML.
func parse(text string) ([]*element, error) {
	if err := check(text); err != nil {
		return nil, err
	}
	root := &element{parts: []part{{}}}
	all := []*element{root}
	here, latest := root, map[string]*element{}
	for i := 0; i < len(text); {
		i = skip(text, i)
		if i == len(text) {
			break
		}
		if text[i] == '[' {
			header, array := lineStart(text, i), strings.HasPrefix(text[i:], "[[")
			at := i + 1
			if array {
				at++
			}
			path, end := keyPath(text, at)
			e := latest[path[0]]
			if e == nil || array && len(path) == 1 {
				e = &element{table: path[0], array: array && len(path) == 1}
				latest[path[0]] = e
				all = append(all, e)
			}
			e.nested = e.nested || array && len(path) > 1
			here = e
			i = lineEnd(text, end)
			here.parts = append(here.parts, part{path: path[1:], start: header, end: i})
			continue
		}
		p := &here.parts[len(here.parts)-1]
		k := key{start: i}
		k.path, i = keyPath(text, i)
		k.path = slices.Concat(p.path, k.path)
		k.at = blanks(text, i+1)
		k.end = valueEnd(text, k.at)
		k.raw = text[k.at:k.end]
		i = lineEnd(text, k.end)
		k.lineEnd, p.end = i, i
		p.keys = append(p.keys, k)
		if len(k.path) == 1 && k.path[0] == nameKey(here.table) && here.array {
			here.name, _ = decode(k.raw).(string)
		}
	}
	return all, nil
}

// span is text[from:to].
type span struct{ from, to int }

// inner are the values of an array.
func inner(text string, at int) []span {
	var all []span
	for i := at + 1; ; {
		for i = skip(text, i); text[i] == ','; i = skip(text, i+1) {
		}
		if text[i] == ']' {
			return all
		}
		end := valueEnd(text, i)
		all = append(all, span{i, end})
		i = end
	}
}

// pairs are the keys of an inline table.
func pairs(text string, at int) []key {
	var all []key
	for i := at + 1; ; {
		for i = skip(text, i); text[i] == ','; i = skip(text, i+1) {
		}
		if text[i] == '}' {
			return all
		}
		k := key{start: i}
		k.path, i = keyPath(text, i)
		k.at = skip(text, i+1)
		k.end = valueEnd(text, k.at)
		k.raw = text[k.at:k.end]
		all = append(all, k)
		i = k.end
	}
}

// keyPath reads a dotted key; end is at the "=" or "]" behind it.
func keyPath(text string, i int) (path []string, end int) {
	for {
		i = blanks(text, i)
		switch text[i] {
		case '"', '\'':
			end := stringEnd(text, i)
			s, _ := decode(text[i:end]).(string)
			path, i = append(path, s), blanks(text, end)
		default:
			n := strings.IndexAny(text[i:], ".=] \t")
			path, i = append(path, text[i:i+n]), blanks(text, i+n)
		}
		if text[i] != '.' {
			return path, i
		}
		i++
	}
}

func valueEnd(text string, i int) int {
	switch text[i] {
	case '"', '\'':
		return stringEnd(text, i)
	case '[', '{':
		for depth := 0; ; {
			switch text[i] {
			case '"', '\'':
				i = stringEnd(text, i)
				continue
			case '#':
				i += strings.IndexByte(text[i:], '\n')
			case '[', '{':
				depth++
			case ']', '}':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	}
	n := strings.IndexAny(text[i:], ",]}#\r\n")
	if n < 0 {
		n = len(text) - i
	}
	return i + len(strings.TrimRight(text[i:i+n], " \t"))
}

func stringEnd(text string, i int) int {
	q := text[i : i+1]
	if strings.HasPrefix(text[i:], q+q+q) {
		i += 3
		for !strings.HasPrefix(text[i:], q+q+q) {
			if q == `"` && text[i] == '\\' {
				i++
			}
			i++
		}
		i += 3
		for n := 0; n < 2 && strings.HasPrefix(text[i:], q); n++ { // quotes may stand before the closing ones
			i++
		}
		return i
	}
	for i++; text[i:i+1] != q; i++ {
		if q == `"` && text[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// blanks goes over spaces.
func blanks(text string, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\t') {
		i++
	}
	return i
}

// skip goes over spaces, line ends and comments.
func skip(text string, i int) int {
	for i < len(text) {
		switch text[i] {
		case '#':
			i = lineEnd(text, i)
		case ' ', '\t', '\r', '\n':
			i++
		default:
			return i
		}
	}
	return i
}

// lineEnd is behind the line end that follows i.
func lineEnd(text string, i int) int {
	if n := strings.IndexByte(text[i:], '\n'); n >= 0 {
		return i + n + 1
	}
	return len(text)
}

// lineStart is where the line of i begins.
func lineStart(text string, i int) int { return strings.LastIndexByte(text[:i], '\n') + 1 }

// decode is what a value as written means; nil where it is no value.
func decode(raw string) any {
	var v map[string]any
	if toml.Unmarshal([]byte("v = "+raw+"\n"), &v) != nil || len(v) != 1 {
		return nil
	}
	return v["v"]
}

// quoted is s as a TOML string that also stands in single quotes of a command.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f || r == '\'':
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

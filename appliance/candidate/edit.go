package candidate

import (
	"regexp"
	"slices"
	"strings"

	"komainu/appliance/control"
)

// Set gives text with one value set: words are a table, its name where it is
// one of [[tables]], keys, and the value. "interface wan" alone makes a table;
// "schema 1" sets a key above all tables. A value is added to a list where the
// key is one of lists; everything else is replaced. What reads as a TOML
// number, boolean, list, table or quoted string is taken as it stands, all else
// is a string. Errors: an *control.Error.
func Set(text string, words []string) (string, error) {
	all, err := parse(text)
	if err != nil {
		return "", err
	}
	w, err := where(all, words)
	if err != nil {
		return "", err
	}
	text = ended(text)
	if w.element == nil {
		text, w.element, err = w.made(text, all)
		if err != nil {
			return "", err
		}
	}
	if w.element.nested {
		return "", &control.Error{Code: "candidate-nested", Args: []string{w.table}}
	}
	if len(w.rest) == 0 {
		return text, nil
	}
	if len(w.rest) == 1 && w.table != "" {
		return "", &control.Error{Code: "candidate-words", Args: []string{strings.Join(words, " ")}}
	}
	n := len(w.rest) - 1
	text = w.put(text, w.rest[:n], value(w.rest[n]))
	if check(text) != nil {
		return "", &control.Error{Code: "candidate-conflict", Args: []string{strings.Join(words, " ")}}
	}
	return text, nil
}

// Delete gives text without what words name: a table, a key, or a key's one
// value, as Set takes them. Errors: an *control.Error.
func Delete(text string, words []string) (string, error) {
	all, err := parse(text)
	if err != nil {
		return "", err
	}
	w, err := where(all, words)
	if err != nil {
		return "", err
	}
	missing := &control.Error{Code: "candidate-missing", Args: []string{strings.Join(words, " ")}}
	switch {
	case w.element == nil:
		return "", missing
	case len(w.rest) == 0:
		return w.element.without(text), nil
	case w.element.array && w.rest[0] == nameKey(w.table) && len(w.rest) == 1:
		return "", &control.Error{Code: "candidate-words", Args: []string{strings.Join(words, " ")}}
	}
	after, found := w.element.drop(text, w.rest)
	switch {
	case !found:
		return "", missing
	case check(after) != nil:
		return "", &control.Error{Code: "candidate-conflict", Args: []string{strings.Join(words, " ")}}
	}
	return after, nil
}

// place is where words point.
type place struct {
	table, name string // table "": the root
	element     *element
	rest        []string
}

func where(all []*element, words []string) (place, error) {
	if len(words) == 0 || slices.Contains(words[:min(2, len(words))], "") {
		return place{}, &control.Error{Code: "candidate-words", Args: []string{strings.Join(words, " ")}}
	}
	w := place{table: words[0], rest: words[1:]}
	known, array := false, slices.Contains(arrays(), w.table)
	for _, e := range all[1:] {
		if e.table == w.table {
			known, array = true, e.array
		}
	}
	switch {
	case array && len(words) == 1:
		return place{}, &control.Error{Code: "candidate-name", Args: words}
	case array:
		w.name, w.rest = words[1], words[2:]
	case !known && (len(words) == 2 || len(all[0].parts[0].find(words[:1])) > 0):
		return place{element: all[0], rest: words}, nil
	case !known && len(words) == 1:
		return place{}, &control.Error{Code: "candidate-words", Args: words}
	}
	for _, e := range all[1:] {
		if e.table == w.table && e.name == w.name {
			w.element = e
			break
		}
	}
	return w, nil
}

// find are the keys that begin with path, or that path begins with.
func (p *part) find(path []string) []key {
	var all []key
	for _, k := range p.keys {
		n := min(len(k.path), len(path))
		if slices.Equal(k.path[:n], path[:n]) {
			all = append(all, k)
		}
	}
	return all
}

// made adds a table, behind the last one of its kind or at the end.
func (w place) made(text string, all []*element) (string, *element, error) {
	lines, at := "["+word(w.table)+"]\n", len(text)
	if w.name != "" {
		lines = "[[" + word(w.table) + "]]\n" + nameKey(w.table) + " = " + quoted(w.name) + "\n"
		for _, e := range all {
			if e.table == w.table {
				at = e.parts[len(e.parts)-1].end
			}
		}
	}
	if at > 0 {
		lines = "\n" + lines
	}
	text = text[:at] + lines + text[at:]
	all, err := parse(text)
	if err != nil {
		return "", nil, &control.Error{Code: "candidate-conflict", Args: []string{w.table, w.name}}
	}
	for _, e := range all[1:] {
		if e.table == w.table && e.name == w.name {
			return text, e, nil
		}
	}
	return "", nil, &control.Error{Code: "candidate-conflict", Args: []string{w.table, w.name}}
}

// put writes raw at path.
func (w place) put(text string, path []string, raw string) string {
	list := isList(w.table, path)
	dotted := false
	for _, p := range w.element.parts {
		for _, k := range p.find(path) {
			switch {
			case len(k.path) == len(path):
				return within(text, k, nil, raw, list)
			case len(k.path) < len(path) && k.raw[0] == '{':
				return within(text, k, path[len(k.path):], raw, list)
			}
		}
		dotted = dotted || len(p.find(path[:1])) > 0
	}
	// The part with the longest path takes it.
	into := -1
	for i, p := range w.element.parts {
		if len(p.path) < len(path) && slices.Equal(p.path, path[:len(p.path)]) && (into < 0 || len(p.path) > len(w.element.parts[into].path)) {
			into = i
		}
	}
	if into < 0 { // only [x.y] stands there
		head := "[" + word(w.table) + "]\n"
		return text + "\n" + head + line(path, raw, list, dotted)
	}
	p := w.element.parts[into]
	l := line(path[len(p.path):], raw, list, dotted)
	if w.table == "" && len(p.keys) == 0 && strings.HasPrefix(text, "[") {
		l += "\n"
	}
	return text[:p.end] + l + text[p.end:]
}

// line is a new key with its value.
func line(path []string, raw string, list, dotted bool) string {
	if list {
		raw = listOf(raw)
	}
	if dotted {
		var all []string
		for _, k := range path {
			all = append(all, word(k))
		}
		return strings.Join(all, ".") + " = " + raw + "\n"
	}
	for len(path) > 1 {
		n := len(path) - 1
		raw = "{ " + word(path[n]) + " = " + raw + " }"
		path = path[:n]
	}
	return word(path[0]) + " = " + raw + "\n"
}

// listOf makes a list of one value; a list stays.
func listOf(raw string) string {
	if raw[0] == '[' {
		return raw
	}
	return "[" + raw + "]"
}

// within writes raw into the value of k, below it at path.
func within(text string, k key, path []string, raw string, list bool) string {
	if len(path) > 0 {
		all := pairs(text, k.at)
		for _, p := range all {
			n := min(len(p.path), len(path))
			if slices.Equal(p.path[:n], path[:n]) && (len(p.path) == len(path) || len(p.path) < len(path) && p.raw[0] == '{') {
				return within(text, p, path[n:], raw, list)
			}
		}
		l := strings.TrimSuffix(line(path, raw, list, len(path) > 1), "\n")
		if len(all) == 0 {
			return text[:k.at] + "{ " + l + " }" + text[k.end:]
		}
		last := all[len(all)-1].end
		return text[:last] + ", " + l + text[last:]
	}
	switch {
	case !list || raw[0] == '[':
		return text[:k.at] + raw + text[k.end:]
	case k.raw[0] != '[':
		if same(k.raw, raw) {
			return text
		}
		return text[:k.at] + "[" + k.raw + ", " + raw + "]" + text[k.end:]
	}
	items := inner(text, k.at)
	for _, i := range items {
		if same(text[i.from:i.to], raw) {
			return text
		}
	}
	if len(items) == 0 {
		return text[:k.at] + "[" + raw + "]" + text[k.end:]
	}
	last := items[len(items)-1].to
	return text[:last] + ", " + raw + text[last:]
}

// ended is text with a line end.
func ended(text string) string {
	if text != "" && !strings.HasSuffix(text, "\n") {
		return text + "\n"
	}
	return text
}

var (
	number = regexp.MustCompile(`^[+-]?(0|[1-9][0-9]*)(\.[0-9]+)?$`)
	bare   = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
)

// value is s as TOML.
func value(s string) string {
	if s == "true" || s == "false" || number.MatchString(s) {
		if decode(s) != nil {
			return s
		}
	}
	for _, ends := range []string{"[]", "{}", `""`} {
		if len(s) > 1 && s[0] == ends[0] && s[len(s)-1] == ends[1] && decode(s) != nil {
			return s
		}
	}
	return quoted(s)
}

// word is s as a TOML key.
func word(s string) string {
	if bare.MatchString(s) {
		return s
	}
	return quoted(s)
}

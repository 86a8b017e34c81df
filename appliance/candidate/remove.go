package candidate

import (
	"slices"
	"strings"
)

// without takes all parts of e out, with the comment that stands right above each.
func (e *element) without(text string) string {
	for _, p := range slices.Backward(e.parts) {
		text = cut(text, above(text, p.start), p.end)
	}
	return text
}

// above is where the comment lines directly above the line at start begin; at
// the top of the text they are the whole file's.
func above(text string, start int) int {
	at := start
	for at > 0 {
		before := lineStart(text, at-1)
		if !strings.HasPrefix(strings.TrimLeft(text[before:at], " \t"), "#") {
			return at
		}
		at = before
	}
	return start
}

// cut takes lines out, and one of two empty ones that then meet.
func cut(text string, from, to int) string {
	head, tail := text[:from], text[to:]
	if (head == "" || strings.HasSuffix(head, "\n\n")) && strings.HasPrefix(tail, "\n") {
		tail = tail[1:]
	}
	if tail == "" && strings.HasSuffix(head, "\n\n") {
		head = head[:len(head)-1]
	}
	return head + tail
}

// drop takes a key out, or one value of it; found: there was one.
func (e *element) drop(text string, path []string) (after string, found bool) {
	for _, p := range e.parts {
		for _, k := range p.keys {
			if len(k.path) > len(path) {
				continue // keys below it go one by one
			}
			if slices.Equal(k.path, path[:len(k.path)]) {
				if after, whole, ok := dropIn(text, k, path[len(k.path):]); ok {
					if whole {
						after = text[:lineStart(text, k.start)] + text[k.lineEnd:]
					}
					return after, true
				}
			}
		}
	}
	// All keys and parts below path.
	for _, p := range slices.Backward(e.parts) {
		if len(p.path) >= len(path) && slices.Equal(p.path[:len(path)], path) {
			text, found = cut(text, above(text, p.start), p.end), true
			continue
		}
		for _, k := range slices.Backward(p.keys) {
			if len(k.path) > len(path) && slices.Equal(k.path[:len(path)], path) {
				text, found = text[:lineStart(text, k.start)]+text[k.lineEnd:], true
			}
		}
	}
	return text, found
}

// dropIn takes what path names out of the value of k; whole: k itself goes.
func dropIn(text string, k key, path []string) (after string, whole, ok bool) {
	if len(path) == 0 {
		return text, true, true
	}
	if k.raw[0] == '{' {
		all := pairs(text, k.at)
		spans := make([]span, len(all))
		for i, p := range all {
			spans[i] = span{p.start, p.end}
		}
		for i, p := range all {
			if len(p.path) > len(path) || !slices.Equal(p.path, path[:len(p.path)]) {
				continue
			}
			after, whole, ok := dropIn(text, p, path[len(p.path):])
			if whole {
				return takeOut(text, spans, i), len(all) == 1, ok
			}
			return after, false, ok
		}
	}
	if len(path) > 1 {
		return text, false, false
	}
	raw := value(path[0])
	if k.raw[0] != '[' {
		return text, true, same(k.raw, raw)
	}
	items := inner(text, k.at)
	for i, s := range items {
		if same(text[s.from:s.to], raw) {
			return takeOut(text, items, i), len(items) == 1, true
		}
	}
	return text, false, false
}

// takeOut takes one of the values between commas out, and on its own line
// what else is there: its comma and comment.
func takeOut(text string, all []span, i int) string {
	s := all[i]
	begins, ends := lineStart(text, s.from), lineEnd(text, s.to)
	rest := strings.TrimLeft(strings.TrimPrefix(strings.TrimLeft(text[s.to:ends], " \t"), ","), " \t\r\n")
	alone := strings.TrimLeft(text[begins:s.from], " \t") == "" && (rest == "" || rest[0] == '#')
	switch {
	case alone:
		return text[:begins] + text[ends:]
	case i+1 < len(all):
		return text[:s.from] + text[all[i+1].from:]
	case i > 0:
		return text[:all[i-1].to] + text[s.to:]
	}
	return text[:s.from] + text[s.to:]
}

// Package say holds the words for people: one row per code, in English and
// Japanese. Everything else in the program speaks in codes with arguments.
// It never decides what to say. Start reading at Text; rows stand in one file
// per domain, one line per entry, sorted.
package say

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// row is English, then Japanese. {0}, {1}... stand for the arguments.
type row [2]string

func domains() []map[string]row {
	return []map[string]row{config, console, control, databases, files, paths, steering, supervision}
}

// Languages are the values that lang takes.
func Languages() []string { return []string{"en", "ja"} }

// Text is the sentence for code in lang ("en" or "ja"; anything else reads as
// "en"). An unknown code, or an argument without a place in the sentence, is
// shown as it is, so that nothing is ever hidden from the reader.
func Text(lang, code string, args ...string) string {
	if code == "" {
		return ""
	}
	r, ok := find(code)
	if !ok {
		return withRest(code, args)
	}
	s := r[0]
	if lang == "ja" {
		s = r[1]
	}
	var rest []string
	pairs := make([]string, 0, 2*len(args))
	for i, a := range args {
		place := "{" + strconv.Itoa(i) + "}"
		if !strings.Contains(s, place) {
			rest = append(rest, a)
		}
		pairs = append(pairs, place, a)
	}
	return withRest(strings.NewReplacer(pairs...).Replace(s), rest)
}

func withRest(s string, args []string) string {
	if len(args) == 0 {
		return s
	}
	return s + " (" + strings.Join(args, ", ") + ")"
}

func find(code string) (row, bool) {
	for _, d := range domains() {
		if r, ok := d[code]; ok {
			return r, true
		}
	}
	return row{}, false
}

// Known tells whether code has a row; domains use it to test that theirs have.
func Known(code string) bool {
	_, ok := find(code)
	return ok
}

// Codes are all codes, sorted.
func Codes() []string {
	var all []string
	for _, d := range domains() {
		all = slices.AppendSeq(all, maps.Keys(d))
	}
	slices.Sort(all)
	return all
}

// Package say holds the words for people: one row per code, in English and
// Japanese. Everything else in the program speaks in codes with arguments.
// It never decides what to say. Start reading at Text; rows stand in one file
// per domain, one line per entry, sorted. TestEveryCode finds the codes in the
// sources and demands a row for each.
package say

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// row is English, then Japanese. Forms in a sentence:
//
//	{0}        argument 0
//	{=0}       argument 0 is a code itself: its sentence
//	{role-=0}  likewise; the code is "role-" and the argument
//	{=0+}      likewise; the arguments behind it belong to that code
//	{*}        all arguments without a place, with commas between
//	{}         arguments without a place are left out
//	<... {0}>  only where every argument named in it is there and not empty
type row [2]string

func domains() []map[string]row {
	return []map[string]row{access, advice, agent, boot, box, boxAlarms, candidate, config, console, control, databases, databaseHost, diagnostics, files, image, line, machine, network, ntp, orders, paths, pki, probes, revisions, serial, server, session, sharing, steering, supervision, tunnels, verdict, vpn}
}

// Languages are the values that lang takes.
func Languages() []string { return []string{"en", "ja"} }

// Text is the sentence for code in lang ("en" or "ja"; anything else reads as
// "en"). An unknown code is shown as it is, and so is an argument without a
// place, unless the sentence says otherwise, so that nothing is hidden from the
// reader; a missing argument reads "?".
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
	rest, shown := without(s, args)
	s = section.ReplaceAllStringFunc(s, func(in string) string {
		for _, m := range place.FindAllStringSubmatch(in, -1) {
			if arg, _ := argument(args, m[2]); arg == "" {
				return ""
			}
		}
		return in[1 : len(in)-1]
	})
	s = form.ReplaceAllStringFunc(s, func(in string) string {
		switch in {
		case "{}":
			return ""
		case "{*}":
			return strings.Join(rest, ", ")
		}
		return fill(lang, in, args)
	})
	if shown {
		return s
	}
	return withRest(s, rest)
}

// fill is what stands at the place in.
func fill(lang, in string, args []string) string {
	m := place.FindStringSubmatch(in)
	arg, there := argument(args, m[2])
	prefix, isCode := strings.CutSuffix(m[1], "=")
	switch {
	case !there || isCode && arg == "":
		return "?"
	case !isCode:
		return arg
	case m[3] != "": // what follows the argument is the code's
		n, _ := strconv.Atoi(m[2])
		return Text(lang, prefix+arg, args[n+1:]...)
	}
	return Text(lang, prefix+arg)
}

// Note is one line of the journal in lang: what it is about, and the sentence.
func Note(lang, subject, code string, args []string) string {
	return strings.TrimPrefix(subject+": "+Text(lang, code, args...), ": ")
}

var (
	form    = regexp.MustCompile(`\{[^{}]*\}`)
	place   = regexp.MustCompile(`\{([a-z.-]*=)?(\d+)(\+?)\}`)
	section = regexp.MustCompile(`<[^<>]*>`)
)

// without gives the arguments that have no place in s; shown says that s lists
// or drops them itself.
func without(s string, args []string) (rest []string, shown bool) {
	placed := make([]bool, len(args))
	for _, m := range place.FindAllStringSubmatch(s, -1) {
		n, _ := strconv.Atoi(m[2])
		for i := n; i < len(args) && (i == n || m[3] != ""); i++ {
			placed[i] = true
		}
	}
	for i, a := range args {
		if !placed[i] && a != "" {
			rest = append(rest, a)
		}
	}
	return rest, strings.Contains(s, "{*}") || strings.Contains(s, "{}")
}

func argument(args []string, n string) (arg string, there bool) {
	if i, _ := strconv.Atoi(n); i < len(args) {
		return args[i], true
	}
	return "", false
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

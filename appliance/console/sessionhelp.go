package console

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"komainu/appliance/say"
)

// complete answers Tab with the rest of the word that is meant, as far as only
// one can be, and "?" with what may stand at the cursor.
func (s *Session) complete(line string, pos int, key rune) (string, int, bool) {
	before := line[:pos]
	if key != '\t' && key != '?' {
		return "", 0, false
	}
	words, err := split(before)
	words, piped := afterBar(words)
	if err != nil || len(words) > 0 && strings.HasPrefix(words[len(words)-1], "--") {
		return line, pos, key == '\t' // in quotes or an option "?" is a character
	}
	part := ""
	if before != "" && !strings.HasSuffix(before, " ") {
		if len(words) == 0 { // the bar itself
			return line, pos, key == '\t'
		}
		part, words = words[len(words)-1], words[:len(words)-1]
	}
	all := s.following(words, part)
	if piped {
		all = pipeHints(words, part)
	}
	var choices []string
	for _, h := range all {
		if !h.form {
			choices = append(choices, h.word)
		}
	}
	more := strings.TrimPrefix(common(choices), part)
	if len(choices) == 1 {
		more += " "
	}
	if key == '\t' && more != "" && len(choices) > 0 {
		return before + more + line[pos:], pos + len(more), true
	}
	// The editor shows it above the line and repeats the line.
	s.Screen.editor.show(strings.ReplaceAll(s.hints(all), "\n", "\r\n"))
	return line, pos, true
}

// hint is a word that may follow; form: what stands for any word, "GROUP".
type hint struct {
	word, help string
	form       bool
}

// completeMost bounds how long a person waits for Tab.
const completeMost = 300 * time.Millisecond

func (s *Session) following(words []string, part string) []hint {
	if !s.editing {
		return s.follow(words, part)
	}
	own := s.follow(append([]string{editMode}, words...), part)
	others := slices.DeleteFunc(s.follow(words, part), func(h hint) bool {
		return slices.ContainsFunc(own, func(o hint) bool { return o.word == h.word })
	})
	return append(own, others...)
}

// follow is following without a mode.
func (s *Session) follow(words []string, part string) []hint {
	next := s.Commands
	for i, w := range words {
		if k := slices.IndexFunc(next, func(c Command) bool { return len(c.Path) == i }); k >= 0 {
			return s.arguments(&next[k], words[i:], part)
		}
		full, err := expand(w, wordsAt(next, i))
		if err != nil {
			return nil
		}
		next = slices.DeleteFunc(slices.Clone(next), func(c Command) bool { return c.Path[i] != full })
	}
	if k := slices.IndexFunc(next, func(c Command) bool { return len(c.Path) == len(words) }); k >= 0 {
		return s.arguments(&next[k], nil, part)
	}
	var all []hint
	for _, w := range wordsAt(next, len(words)) {
		if !strings.HasPrefix(w, part) {
			continue
		}
		var help []string
		for _, c := range next {
			if c.Path[len(words)] == w {
				help = append(help, c.Path[len(c.Path)-1])
				if len(c.Path) == len(words)+1 {
					help[len(help)-1] = say.Text(s.Lang, c.Help)
				}
			}
		}
		all = append(all, hint{word: w, help: strings.Join(help, " ")})
	}
	return all
}

// arguments is what may stand behind the arguments before.
func (s *Session) arguments(c *Command, before []string, part string) []hint {
	n := len(before)
	if m := len(c.Args); n >= m && m > 0 && c.Args[m-1].Rest {
		n = m - 1
	}
	if n >= len(c.Args) {
		return []hint{{word: c.form(), form: true}}
	}
	values := c.Args[n].Values
	if c.Args[n].Complete != nil && s.Role >= c.Role {
		ctx, cancel := context.WithTimeout(s.Screen.context(), completeMost)
		defer cancel()
		in := s.invocation(s.Run)
		in.Role, in.Args, in.Out = s.Role, before, io.Discard
		values = c.Args[n].Complete(ctx, in)
	}
	var all []hint
	for _, v := range values {
		if strings.HasPrefix(v, part) {
			all = append(all, hint{word: v})
		}
	}
	if c.Args[n].Values == nil && len(all) == 0 {
		return []hint{{word: c.Args[n].Name, form: true}}
	}
	return all
}

// afterBar gives the words behind the last bar.
func afterBar(words []string) (rest []string, piped bool) {
	for i := len(words) - 1; i >= 0; i-- {
		if words[i] == bar {
			return words[i+1:], true
		}
	}
	return words, false
}

func pipeHints(words []string, part string) []hint {
	if len(words) > 0 {
		if words[0] == "count" {
			return nil
		}
		return []hint{{word: "TEXT", form: true}}
	}
	var all []hint
	for _, w := range pipeWords() {
		if strings.HasPrefix(w, part) {
			all = append(all, hint{word: w})
		}
	}
	return all
}

// hints lists all, words only where they would fill more than a page.
func (s *Session) hints(all []hint) string {
	text := hints(all)
	if n := s.Screen.lines; n == 0 || strings.Count(text, "\n") < n-1 {
		return text
	}
	var words []string
	for _, h := range all {
		words = append(words, h.word)
	}
	return "  " + strings.Join(wrap(strings.Join(words, " "), screen-2), "\n  ") + "\n"
}

func hints(all []hint) string {
	var s sheet
	for _, h := range all {
		s.add("  "+h.word, h.help)
	}
	return s.text()
}

// common is the longest beginning of all words.
func common(words []string) string {
	if len(words) == 0 {
		return ""
	}
	c := words[0]
	for _, w := range words[1:] {
		for !strings.HasPrefix(w, c) {
			c = c[:len(c)-1]
		}
	}
	return c
}

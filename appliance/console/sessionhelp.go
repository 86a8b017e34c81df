package console

import (
	"slices"
	"strings"

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
	if err != nil || len(words) > 0 && strings.HasPrefix(words[len(words)-1], "--") {
		return line, pos, key == '\t' // in quotes or an option "?" is a character
	}
	part := ""
	if before != "" && !strings.HasSuffix(before, " ") {
		part, words = words[len(words)-1], words[:len(words)-1]
	}
	all := s.following(words, part)
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
	if _, err := s.Screen.editor.Write([]byte(hints(all))); err != nil {
		s.Screen.fail(err)
	}
	return line, pos, true
}

// hint is a word that may follow; form: what stands for any word, "GROUP".
type hint struct {
	word, help string
	form       bool
}

func (s *Session) following(words []string, part string) []hint {
	next := s.Commands
	for i, w := range words {
		if k := slices.IndexFunc(next, func(c Command) bool { return len(c.Path) == i }); k >= 0 {
			return next[k].hints(len(words)-i, part)
		}
		full, err := expand(w, wordsAt(next, i))
		if err != nil {
			return nil
		}
		next = slices.DeleteFunc(slices.Clone(next), func(c Command) bool { return c.Path[i] != full })
	}
	if k := slices.IndexFunc(next, func(c Command) bool { return len(c.Path) == len(words) }); k >= 0 {
		return next[k].hints(0, part)
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

// hints is what may stand at argument n.
func (c *Command) hints(n int, part string) []hint {
	if n >= len(c.Args) {
		return []hint{{word: c.form(), form: true}}
	}
	if c.Args[n].Values == nil {
		return []hint{{word: c.Args[n].Name, form: true}}
	}
	var all []hint
	for _, v := range c.Args[n].Values {
		if strings.HasPrefix(v, part) {
			all = append(all, hint{word: v})
		}
	}
	return all
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

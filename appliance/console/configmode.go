package console

import (
	"slices"

	"komainu/appliance/control"
)

// editMode is the first word of the commands that stand alone in `configure`.
const editMode = "configure"

// moded turns what was typed into words that mean a command: in `configure`,
// its own words stand without the first one, and win over the others. A line
// that only enters or leaves the mode is done here, and nothing is left.
func (s *Session) moded(argv []string) []string {
	if len(argv) == 0 {
		return argv
	}
	if !s.editing {
		full, err := expand(argv[0], wordsAt(s.Commands, 0))
		if len(argv) == 1 && err == nil && full == editMode && s.Role >= control.Field {
			s.editing = true
			return nil
		}
		return argv
	}
	if full, err := expand(argv[0], wordsAt(s.Commands, 0)); err == nil && full == "exit" && len(argv) == 1 {
		s.editing = false
		return nil
	}
	if full, err := expand(argv[0], s.editWords()); err == nil && !(full == "show" && len(argv) > 1 && argv[1] != bar && argv[1] != "set" && argv[1] != "--json") {
		return slices.Concat([]string{editMode, full}, argv[1:])
	}
	return argv
}

// editWords are the words of `configure`.
func (s *Session) editWords() []string {
	inside := slices.DeleteFunc(slices.Clone(s.Commands), func(c Command) bool { return c.Path[0] != editMode || len(c.Path) < 2 })
	return wordsAt(inside, 1)
}

func (s *Session) prompt() string {
	if s.editing {
		return s.Prompt + "# "
	}
	return s.Prompt + "> "
}

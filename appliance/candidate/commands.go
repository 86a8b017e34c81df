package candidate

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"komainu/appliance/control"
)

// Commands are the "set" lines that make the same configuration out of an empty
// one, words quoted as the console reads them. Comments aren't in them. Errors:
// an *control.Error, also for what no line can say, such as tables in [[tables]]
// that have no name.
func Commands(text string) ([]string, error) {
	all, err := parse(text)
	if err != nil {
		return nil, err
	}
	var lines []string
	seen := map[string]bool{}
	for _, e := range all {
		words := []string{"set"}
		if e.table != "" {
			words = append(words, e.table)
		}
		if e.array {
			words = append(words, e.name)
		}
		id := strings.Join(words, "\x00")
		if e.nested || seen[id] || e.array && e.name == "" || e.table != "" && e.array != slices.Contains(arrays(), e.table) {
			return nil, unsayable(strings.Join(words[1:], " "))
		}
		seen[id] = true
		w := writer{table: e.table}
		for _, p := range e.parts {
			for _, k := range p.keys {
				if e.table == "" && slices.Contains(arrays(), k.path[0]) {
					return nil, unsayable(k.path[0])
				}
				if e.array && len(k.path) == 1 && k.path[0] == nameKey(e.table) {
					continue
				}
				if err := w.add(words, k.path, k.raw); err != nil {
					return nil, err
				}
			}
		}
		if len(w.lines) == 0 && e.table != "" { // nothing in it, and yet there
			if !e.array {
				return nil, unsayable(e.table)
			}
			w.lines = append(w.lines, words)
		}
		for _, l := range w.lines {
			s, err := spoken(l)
			if err != nil {
				return nil, err
			}
			lines = append(lines, s)
		}
	}
	return lines, nil
}

func unsayable(what string) error {
	return &control.Error{Code: "candidate-no-set", Args: []string{what}}
}

// writer collects the lines of one table.
type writer struct {
	table string
	lines [][]string
}

func (w *writer) add(words, path []string, raw string) error {
	put := func(raw string) {
		w.lines = append(w.lines, append(slices.Concat(words, path), shown(raw)))
	}
	switch v := decode(raw).(type) {
	case map[string]any:
		if len(v) == 0 {
			put("{}")
		}
		for _, k := range pairs(raw, 0) {
			if err := w.add(words, slices.Concat(path, k.path), k.raw); err != nil {
				return err
			}
		}
	case []any:
		items := inner(raw, 0)
		if !isList(w.table, path) || len(items) == 0 || !plainItems(v) {
			raw, err := oneLine(v)
			if err != nil {
				return err
			}
			put(raw)
			return nil
		}
		for i := range items {
			raw, err := oneLine(v[i])
			if err != nil {
				return err
			}
			put(raw)
		}
	default:
		raw, err := oneLine(v)
		if err != nil {
			return err
		}
		put(raw)
	}
	return nil
}

// plainItems: every value is another, and none a list itself.
func plainItems(v []any) bool {
	for i := range v {
		if _, list := v[i].([]any); list {
			return false
		}
		for j := range i {
			if reflect.DeepEqual(v[i], v[j]) {
				return false
			}
		}
	}
	return true
}

// oneLine is a value in one line of TOML; keys of tables are sorted.
func oneLine(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return quoted(v), nil
	case bool, int64:
		return fmt.Sprint(v), nil
	case float64:
		s := fmt.Sprint(v)
		if !strings.ContainsAny(s, ".eEnN") {
			s += ".0"
		}
		if !number.MatchString(s) {
			return "", unsayable(s)
		}
		return s, nil
	case []any:
		all := make([]string, len(v))
		for i := range v {
			s, err := oneLine(v[i])
			if err != nil {
				return "", err
			}
			all[i] = s
		}
		return "[" + strings.Join(all, ", ") + "]", nil
	case map[string]any:
		var all []string
		for k, in := range v {
			s, err := oneLine(in)
			if err != nil {
				return "", err
			}
			all = append(all, word(k)+" = "+s)
		}
		slices.Sort(all)
		if len(all) == 0 {
			return "{}", nil
		}
		return "{ " + strings.Join(all, ", ") + " }", nil
	case time.Time:
		return "", unsayable(v.String())
	}
	return "", unsayable(fmt.Sprint(v))
}

// shown is a string as a person would type it where that means the same.
func shown(raw string) string {
	s, ok := decode(raw).(string)
	if ok && s != "" && value(s) == raw && !strings.ContainsRune(raw, '\\') && !strings.HasPrefix(s, "-") && s != "?" && s != "help" {
		return s
	}
	return raw
}

// spoken joins words so that the console splits them alike.
func spoken(words []string) (string, error) {
	all := make([]string, len(words))
	for i, w := range words {
		plain := strings.IndexFunc(w, func(r rune) bool {
			return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune(`"'|`, r)
		}) < 0
		switch {
		case strings.ContainsFunc(w, unicode.IsControl):
			return "", unsayable(strings.Join(words[1:], " "))
		case plain && w != "":
			all[i] = w
		case !strings.Contains(w, `'`):
			all[i] = `'` + w + `'`
		case !strings.Contains(w, `"`):
			all[i] = `"` + w + `"`
		default:
			all[i] = `'` + strings.ReplaceAll(w, `'`, `'"'"'`) + `'`
		}
	}
	return strings.Join(all, " "), nil
}

// same tells whether two values as written mean the same.
func same(a, b string) bool { return reflect.DeepEqual(decode(a), decode(b)) }

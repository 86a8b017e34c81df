package say

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

func TestRows(t *testing.T) {
	place := regexp.MustCompile(`\{[^{}]*\}`)
	known := regexp.MustCompile(`^\{(|\*|([a-z.-]*=)?\d\+?)\}$`)
	places := func(s string) []string {
		p := place.FindAllString(s, -1)
		slices.Sort(p)
		return slices.Compact(p)
	}
	seen := map[string]bool{}
	for _, d := range domains() {
		for code, r := range d {
			if seen[code] {
				t.Errorf("%s: two rows", code)
			}
			seen[code] = true
			if r[0] == "" || r[1] == "" {
				t.Errorf("%s: a language is missing", code)
			}
			if !slices.Equal(places(r[0]), places(r[1])) {
				t.Errorf("%s: placeholders %v and %v", code, places(r[0]), places(r[1]))
			}
			for _, s := range r {
				for _, p := range places(s) {
					if !known.MatchString(p) {
						t.Errorf("%s: %s is no form of a place", code, p)
					}
				}
				if strings.Count(s, "<") != strings.Count(s, ">") {
					t.Errorf("%s: a section that doesn't end", code)
				}
			}
			if strings.ContainsFunc(r[0], func(c rune) bool { return c > unicode.MaxASCII }) {
				t.Errorf("%s: English beyond ASCII: a serial terminal may not show it", code)
			}
		}
	}
}

// TestSorted reads the sources: entries are sorted and stand on one line each,
// so that two works that add rows don't collide.
func TestSorted(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			m, ok := lit.Type.(*ast.MapType)
			if !ok {
				return true
			}
			if v, ok := m.Value.(*ast.Ident); !ok || v.Name != "row" {
				return true
			}
			last, line := "", 0
			for _, e := range lit.Elts {
				key := e.(*ast.KeyValueExpr).Key.(*ast.BasicLit)
				at := fset.Position(key.Pos())
				if key.Value < last || at.Line == line {
					t.Errorf("%s: %s is not in order, or not on a line of its own", at, key.Value)
				}
				last, line = key.Value, at.Line
			}
			return false
		})
	}
}

func TestText(t *testing.T) {
	for _, c := range []struct {
		lang, code string
		args       []string
		want       string
	}{
		{"en", "standby-copying", []string{"41"}, "copying the database, 41 % done"},
		{"ja", "standby-copying", []string{"41"}, "データベースを複写中（41 %）"},
		{"fr", "none", nil, "none"},
		{"en", "none", []string{"unexpected"}, "none (unexpected)"},
		{"en", "caught-up", []string{"dropped"}, "all of the data centre's log is here: nothing is lost"},
		{"en", "verdict.no-answer", []string{"main", "alt"}, "no answer on any line: main, alt"},
		{"ja", "verdict.primary-down", []string{"resident", "stopped"}, "データセンターのデータベース resident：停止"},
		{"en", "phase-local-read", []string{"verdict.no-answer", "main", "alt"}, "clients read here, no writes: no answer on any line: main, alt"},
		{"en", "phase-local-read", []string{""}, "clients read here, no writes"},
		{"en", "ordered-write", []string{"sato", ""}, "writing ordered by sato"},
		{"en", "standby-copying", nil, "copying the database, ? % done"},
		{"ja", "never-heard-of", []string{"a", "b"}, "never-heard-of (a, b)"},
		{"en", "", nil, ""},
		{"en", "usage-unknown", []string{"{1}", "x"}, "{1} is no command; these exist: x"},
	} {
		if got := Text(c.lang, c.code, c.args...); got != c.want {
			t.Errorf("%s %s: got %q, want %q", c.lang, c.code, got, c.want)
		}
	}
	if !Known("none") || Known("never-heard-of") || !slices.Contains(Codes(), "none") {
		t.Error("Known or Codes")
	}
	if got := Note("en", "hinata-cho/resident", "server-copy-failed", []string{"disk-full", "/data"}); got != "hinata-cho/resident: copying: no space left: /data: free some" {
		t.Error(got)
	}
}

package console

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"komainu/appliance/control"
)

func TestKeys(t *testing.T) {
	for in, want := range map[string]string{
		"show\r":                  "show\r",
		"a\r\nb\nc\r\rd\n\n":      "a\rb\rc\r\rd\r\r",
		"ab\x03c":                 "ab\x03c",
		"日向":                      "日向",
		"\xe6\x97a\x80\xffb\x00c": "abc",
		"\x1b[A\x1b[3~\x1bOD":     "\x1b[A\x1b[3~\x1b[D",
		"\x1bx\x1b\x1b[Ay":        "x\x1b[Ay",
		"\x1b[200~a":              "a",
		"\x1b[1;2;3;4;5;6;7ok":    "k", // too long for a key, up to its end
		"\x1b[12\x03\x1b[1\rz":    "\x03\rz",
	} {
		var k keys
		var got []byte
		for i := range len(in) {
			got = append(got, k.feed(in[i])...)
		}
		if string(got) != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte("\x1b[1;3C\xe3\x81\x82\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var k keys
		for _, c := range in {
			out := k.feed(c)
			if len(out) > escapeMost || len(k.part) > escapeMost {
				t.Errorf("%q: %q, holds %q", in, out, k.part)
			}
		}
	})
}

func TestSplit(t *testing.T) {
	for in, want := range map[string][]string{
		"":                        nil,
		"  show \t status ":       {"show", "status"},
		`a --reason "line  down"`: {"a", "--reason", "line  down"},
		`a 'b "c"'d ""`:           {"a", `b "c"d`, ""},
	} {
		if got, err := split(in); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	var e *control.Error
	if _, err := split(`a "b`); !errors.As(err, &e) || e.Code != "usage-quote" {
		t.Errorf("open quote: %v", err)
	}
}

func TestComplete(t *testing.T) {
	s := &Session{Console: Console{Commands: append(Show(), Service()...), Lang: "en"}}
	for in, want := range map[string]string{
		"sh":                     "show ",
		"s":                      "s",
		"show s":                 "show s",
		"show st":                "show status ",
		"service sw":             "service switch ",
		"serv switch resident l": "serv switch resident local ",
		"show status x":          "show status x",
		"nonsense x":             "nonsense x",
	} {
		s.Screen = NewScreen(silent{}, 0)
		line, pos, ok := s.complete(in, len(in), '\t')
		if line != want || pos != len(want) || !ok {
			t.Errorf("%q became %q, %d, %v", in, line, pos, ok)
		}
	}
	if _, _, ok := s.complete("a", 1, 'b'); ok {
		t.Error("a letter was taken for Tab")
	}
	if got := hints(s.following([]string{"service", "switch"}, "")); got != "  GROUP\n" {
		t.Errorf("arguments: %q", got)
	}
	if got := hints(s.following(nil, "")); !strings.Contains(got, "service  hold open release switch write") {
		t.Errorf("words: %s", got)
	}
}

// silent is a terminal that nobody reads or types at.
type silent struct{ Terminal }

func (silent) Write(b []byte) (int, error) { return len(b), nil }

package candidate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"

	"komainu/appliance/control"
)

// words splits as the console does, for lines without pipes.
func words(line string) []string {
	var all []string
	var w strings.Builder
	quote, started := rune(0), false
	for _, r := range line + " " {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			w.WriteRune(r)
		case r == '"' || r == '\'':
			quote, started = r, true
		case r != ' ':
			w.WriteRune(r)
			started = true
		case started:
			all = append(all, w.String())
			w.Reset()
			started = false
		}
	}
	return all
}

const plain = `# the file
schema = 1

[site]                 # where
name = "hinata-cho"

# the line
[[interface]]
name = "wan"
address = ["10.20.7.2/29"] # ours
mtu = 1500

[[interface]]
name = "office"
address = "192.168.50.1/24"

[ntp]
upstream = [   # three
  "10.1.0.5",  # a
  "10.1.0.6",  # b
]
holdover = { stratum = 10, max = "72h" }
`

// TestEdit shows what each line changes.
func TestEdit(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{`set interface wan mtu 1400`, "- mtu = 1500\n+ mtu = 1400"},
		{`set interface wan address 2001:db8::2/64`, `- address = ["10.20.7.2/29"] # ours` + "\n" + `+ address = ["10.20.7.2/29", "2001:db8::2/64"] # ours`},
		{`set interface wan address 10.20.7.2/29`, ""},
		{`set interface office address 192.168.50.1/24`, ""},
		{`set interface office address fd00::1/64`, `- address = "192.168.50.1/24"` + "\n" + `+ address = ["192.168.50.1/24", "fd00::1/64"]`},
		{`set interface office gateway 192.168.50.9`, `+ gateway = ["192.168.50.9"]`},
		{`set site label 日向町`, `+ label = "日向町"`},
		{`set site name '"123"'`, `- name = "hinata-cho"` + "\n" + `+ name = "123"`},
		{`set schema 2`, "- schema = 1\n+ schema = 2"},
		{`set interface alt on eth1`, "+ [[interface]]\n" + `+ name = "alt"` + "\n" + `+ on = "eth1"` + "\n+"},
		{`set health listen wan:8443`, "+\n+ [health]\n" + `+ listen = ["wan:8443"]`},
		{`set ntp holdover bound 50ms`, `- holdover = { stratum = 10, max = "72h" }` + "\n" + `+ holdover = { stratum = 10, max = "72h", bound = "50ms" }`},
		{`set ntp rate burst 3`, `+ rate = { burst = 3 }`},
		{`set ntp upstream 10.1.0.7`, `-   "10.1.0.6",  # b` + "\n" + `+   "10.1.0.6", "10.1.0.7",  # b`},
		{`set ntp upstream '{ address = "a", nts = true }'`, `-   "10.1.0.6",  # b` + "\n" + `+   "10.1.0.6", { address = "a", nts = true },  # b`},
		{`no interface wan address 10.20.7.2/29`, `- address = ["10.20.7.2/29"] # ours`},
		{`no interface wan mtu`, `- mtu = 1500`},
		{`no interface wan mtu 1500`, `- mtu = 1500`},
		{`no ntp upstream 10.1.0.5`, `-   "10.1.0.5",  # a`},
		{`no ntp holdover max`, `- holdover = { stratum = 10, max = "72h" }` + "\n" + `+ holdover = { stratum = 10 }`},
		{`no ntp holdover`, `- holdover = { stratum = 10, max = "72h" }`},
		{`no interface wan`, "- # the line\n- [[interface]]\n- name = \"wan\"\n- address = [\"10.20.7.2/29\"] # ours\n- mtu = 1500\n-"},
		{`no schema`, `- schema = 1`},
		{`set interface wan`, ""},
		{`set interface wan mtu size 3`, "candidate-conflict"},
		{`set interface wan mtu`, "candidate-words"},
		{`set interface`, "candidate-name"},
		{`set interface ""`, "candidate-words"},
		{`no interface`, "candidate-name"},
		{`no interface wan mtu 1400`, "candidate-missing"},
		{`no interface lan`, "candidate-missing"},
		{`no interface wan name`, "candidate-words"},
	} {
		w := words(c.line)
		var got string
		var err error
		if w[0] == "set" {
			got, err = Set(plain, w[1:])
		} else {
			got, err = Delete(plain, w[1:])
		}
		if err != nil {
			got = fmt.Sprintf("%v", code(err))
		} else {
			var changed []string
			for _, e := range edits(split(plain), split(got)) {
				if e.mark != ' ' {
					changed = append(changed, strings.TrimRight(string(e.mark)+" "+e.line, " "))
				}
			}
			got = strings.Join(changed, "\n")
		}
		if got != c.want {
			t.Errorf("%s\n%s\nwant\n%s", c.line, got, c.want)
		}
	}
}

func TestFromNothing(t *testing.T) {
	text := ""
	for _, l := range []string{"interface wan address 10.20.7.2/29", "site name a", "schema 1", "interface wan mtu 1400", "interface lan on eth1", "service db probe kind postgres", "service db probe every 1s"} {
		var err error
		if text, err = Set(text, strings.Fields(l)); err != nil {
			t.Fatal(l, err)
		}
	}
	if want := `schema = 1

[[interface]]
name = "wan"
address = ["10.20.7.2/29"]
mtu = 1400

[[interface]]
name = "lan"
on = "eth1"

[site]
name = "a"

[[service]]
name = "db"
probe = { kind = "postgres", every = "1s" }
`; text != want {
		t.Errorf("got\n%s", text)
	}
}

func TestBroken(t *testing.T) {
	for _, text := range []string{"a = ", "[x\n", "schema = 1\nmtu　= 3\n"} {
		if _, err := Set(text, []string{"a", "1"}); code(err) != "candidate-syntax" {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// plainData is text's data; one value alone is as good as a list of it.
func plainData(t *testing.T, text string) map[string]any {
	t.Helper()
	var all map[string]any
	if err := toml.Unmarshal([]byte(text), &all); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for name, in := range all {
		tables, _ := in.([]any)
		if one, ok := in.(map[string]any); ok {
			tables = []any{one}
		}
		for _, e := range tables {
			if m, ok := e.(map[string]any); ok {
				for k, v := range m {
					if _, list := v.([]any); !list && isList(name, []string{k}) {
						m[k] = []any{v}
					}
				}
			}
		}
	}
	return all
}

// rebuilt makes the text that its commands make.
func rebuilt(t *testing.T, text string) string {
	t.Helper()
	lines, err := Commands(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	out := ""
	for _, l := range lines {
		if out, err = Set(out, words(l)[1:]); err != nil {
			t.Fatalf("%s: %v", l, err)
		}
	}
	return out
}

func TestCommandsRebuild(t *testing.T) {
	names, err := filepath.Glob("../config/testdata/*.toml")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(name) == "bad.toml" {
			continue // it has two groups of one name, for the check to refuse
		}
		if d := cmp.Diff(plainData(t, string(b)), plainData(t, rebuilt(t, string(b)))); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		text := random(r)
		if d := cmp.Diff(plainData(t, text), plainData(t, rebuilt(t, text))); d != "" {
			t.Fatalf("%s\n%s", text, d)
		}
	}
}

// TestDeleteUndoesSet: a new table or key that goes again leaves nothing behind.
func TestDeleteUndoesSet(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		text := random(r)
		for _, w := range [][]string{{"interface", "brand-new", "mtu", "1"}, {"site", "brand-new", "1"}, {"site", "brand", "new", "x"}} {
			with, err := Set(text, w)
			if err != nil {
				t.Fatal(err)
			}
			out := w[:len(w)-1]
			if w[0] == "interface" {
				out = w[:2]
			}
			got, err := Delete(with, out)
			if err != nil || plainText(got) != plainText(text) {
				t.Fatalf("%q: %v\n%s", w, err, Compare(text, got))
			}
		}
	}
}

func plainText(s string) string {
	return strings.Join(slices.DeleteFunc(split(s), func(l string) bool { return l == "" }), "\n")
}

// random is a configuration with everything that TOML lets stand in one.
func random(r *rand.Rand) string {
	scalars := []string{"1", "-7", "0.5", "2.0", "true", "false", `"true"`, `"12"`, `"1.5"`, `'[1]'`, `"{}"`, `""`, `"a b"`, `"it's \"so\""`, `'C:\x'`, `"日向町 役場"`, `"a|b"`, `"--x"`, `"line\nline"`, "\"\"\"a\n\"b\"\n\"\"\"", `"?"`, `'''x'y'''`}
	one := func() string { return scalars[r.IntN(len(scalars))] }
	var some func(depth int) string
	some = func(depth int) string {
		n := r.IntN(4)
		switch k := r.IntN(8); {
		case k == 0 && depth > 0:
			var all []string
			for i := range n {
				all = append(all, fmt.Sprintf("k%d = %s", i, some(depth-1)))
			}
			return "{ " + strings.Join(all, ", ") + " }"
		case k == 1 && depth > 0:
			all := "[ # list, of [\n"
			for range n {
				all += "  " + some(depth-1) + " , # one\n"
			}
			return all + "]"
		}
		return one()
	}
	keys := []string{"address", "gateway", "mtu", `"odd key"`, "a.b", "a.c", "probe", "upstream", "label"}
	var b strings.Builder
	table := func(header string, skip string) {
		b.WriteString(header)
		for _, k := range keys {
			if r.IntN(2) == 0 && k != skip {
				fmt.Fprintf(&b, "%s = %s%s\n", k, some(2), []string{"", " # note"}[r.IntN(2)])
			}
		}
		b.WriteString([]string{"", "\n", "\n# note [x]\n"}[r.IntN(3)])
	}
	b.WriteString("# file\n\nschema = 1\n")
	table("\n[site]\nname = 'x'\n", "")
	for i := range 3 {
		table(fmt.Sprintf("[[interface]]\nname = \"i %d\"\n", i), "")
		if i == 1 {
			table("[interface.sub]\nx = 1\n", "")
		}
	}
	table("[ntp]\nz = 3\n", "")
	return b.String()
}

func TestCompare(t *testing.T) {
	after, err := Set(plain, words("interface wan mtu 1400"))
	if err != nil {
		t.Fatal(err)
	}
	if after, err = Set(after, words("ntp holdover bound 50ms")); err != nil {
		t.Fatal(err)
	}
	if after, err = Set(after, words("interface alt on eth1")); err != nil {
		t.Fatal(err)
	}
	want := `[[interface]] wan
  name = "wan"
  address = ["10.20.7.2/29"] # ours
- mtu = 1500
+ mtu = 1400

  [[interface]]

  address = "192.168.50.1/24"

+ [[interface]]
+ name = "alt"
+ on = "eth1"
+
  [ntp]
  upstream = [   # three

[ntp]
    "10.1.0.6",  # b
  ]
- holdover = { stratum = 10, max = "72h" }
+ holdover = { stratum = 10, max = "72h", bound = "50ms" }
`
	if got := Compare(plain, after); got != want {
		t.Errorf("got\n%s", got)
	}
	if got := Compare(plain, plain); got != "" {
		t.Error(got)
	}
	if got := Compare("", "a = 1\n"); got != "+ a = 1\n" {
		t.Error(got)
	}
}

func FuzzEdit(f *testing.F) {
	f.Add(plain, "interface wan address x")
	f.Fuzz(func(t *testing.T, text, line string) {
		for _, do := range []func(string, []string) (string, error){Set, Delete} {
			if got, err := do(text, words(line)); err == nil && check(got) != nil {
				t.Errorf("%q %q became %q", text, line, got)
			}
		}
		_, _ = Commands(text)
	})
}

func code(err error) string {
	var e *control.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return fmt.Sprint(err)
}

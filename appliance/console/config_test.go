package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"komainu/appliance/control"
	"komainu/appliance/say"
	"komainu/drivers/stick"
)

// revisionsKeeper is a fake keeper of configurations in the supervisor.
type revisionsKeeper struct {
	texts     []string // of revision 1 and up
	revisions []control.Revision
	mine      map[string]control.Candidate
	refuse    error
}

func newKeeper(text string) *revisionsKeeper {
	return &revisionsKeeper{texts: []string{text}, mine: map[string]control.Candidate{},
		revisions: []control.Revision{{Number: 1, At: noon, By: "setup", Runs: true}}}
}

func (k *revisionsKeeper) add(text, by, comment string, back float64) control.Revision {
	for i := range k.revisions {
		k.revisions[i].Runs = false
	}
	k.texts = append(k.texts, text)
	r := control.Revision{Number: len(k.texts), At: noon.Add(time.Duration(len(k.texts)) * time.Minute), By: by, Comment: comment, BackS: back, Runs: true}
	k.revisions = append(k.revisions, r)
	return r
}

func (k *revisionsKeeper) last() *control.Revision { return &k.revisions[len(k.revisions)-1] }

func (k *revisionsKeeper) serve(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	serve(t, &control.Server{Socket: filepath.Join(dir, "pid1.sock"), Routes: []control.Route{
		{Pattern: "GET " + control.ConfigPath, Handle: func(_ context.Context, r *control.Request) (any, error) {
			n := len(k.texts)
			if q := r.Query("rev"); q != "" {
				_, _ = fmt.Sscan(q, &n)
			}
			if n > len(k.texts) || n == 0 {
				return nil, &control.Error{Code: "config-no-revision", Args: []string{fmt.Sprint(n)}, Status: http.StatusNotFound}
			}
			return control.ConfigText{Revision: k.revisions[n-1], Text: k.texts[n-1]}, nil
		}},
		{Pattern: "GET " + control.HistoryPath, Handle: func(context.Context, *control.Request) (any, error) {
			all := []control.Revision{}
			for i := range k.revisions {
				all = append(all, k.revisions[len(k.revisions)-1-i])
			}
			return all, nil
		}},
		{Pattern: "POST " + control.CommitPath, Handle: func(_ context.Context, r *control.Request) (any, error) {
			var o control.CommitOrder
			if err := r.Decode(&o); err != nil {
				return nil, err
			}
			if k.refuse != nil {
				return nil, k.refuse
			}
			if len(k.texts) > 0 && k.texts[len(k.texts)-1] == o.Text {
				return control.Committed{Revision: *k.last(), Unchanged: true}, nil
			}
			return control.Committed{Revision: k.add(o.Text, o.By, o.Comment, o.ConfirmS), Changes: []string{"eth0: mtu 1500 -> 1400"}, Restarted: []string{"agent"}}, nil
		}},
		{Pattern: "POST " + control.ConfirmPath, Handle: func(context.Context, *control.Request) (any, error) {
			if k.last().BackS == 0 {
				return nil, &control.Error{Code: "config-none-waits"}
			}
			k.last().BackS = 0
			return control.Committed{Revision: *k.last()}, nil
		}},
		{Pattern: "POST " + control.RollbackPath, Handle: func(_ context.Context, r *control.Request) (any, error) {
			var o control.RollbackOrder
			if err := r.Decode(&o); err != nil {
				return nil, err
			}
			return control.Committed{Revision: k.add(k.texts[max(o.Revision, 1)-1], o.By, "rollback 1", 0)}, nil
		}},
		{Pattern: "GET " + control.CandidatePath, Handle: func(_ context.Context, r *control.Request) (any, error) {
			return k.mine[r.Query("user")], nil
		}},
		{Pattern: "POST " + control.CandidatePath, Handle: func(_ context.Context, r *control.Request) (any, error) {
			var o control.CandidateOrder
			if err := r.Decode(&o); err != nil {
				return nil, err
			}
			delete(k.mine, o.User)
			if !o.Discard {
				k.mine[o.User] = control.Candidate{Text: o.Text, Base: o.Base, Exists: true, At: noon}
			}
			return k.mine[o.User], nil
		}},
	}})
	return dir
}

const wan = "schema = 1\n\n[[interface]]\nname = \"wan\"\naddress = [\"10.20.7.2/29\"] # ours\nmtu = 1500\n"

// types is a session of sato that shows what keys do.
func types(t *testing.T, dir, lang string, role control.Role, keys string) string {
	t.Helper()
	return typesWith(t, dir, lang, role, keys, func(string, func(string) error) error { return stick.ErrNone })
}

// typesWith is types where use is a stick.
func typesWith(t *testing.T, dir, lang string, role control.Role, keys string, use func(run string, do func(root string) error) error) string {
	t.Helper()
	term := &typist{keys: keys}
	s := &Session{Console: Console{Commands: append(Revisions(), lines(3)...), Run: dir, Lang: lang, User: "sato", Stick: use}, Screen: NewScreen(term, forever), Role: role, Prompt: "hinata-cho"}
	s.Screen.Size(0, 0)
	if err := s.Loop(t.Context()); err != nil {
		t.Error(err)
	}
	return term.shown()
}

func TestConfigure(t *testing.T) {
	for _, lang := range say.Languages() {
		k := newKeeper(wan)
		dir := k.serve(t)
		golden(t, "configure-"+lang, types(t, dir, lang, control.Admin, strings.ReplaceAll(`compare
configure
set interface wan mtu 1400
set interface wan address １０．２０．７．３/29
set site label "日向町"
no interface wan address 10.20.7.2/29
compare
show
show set
show history
set interface wan
no interface lan
set interface wan mtu size 3
lines
commit-confirm 5 "other mtu"
show history
commit
confirm
confirm
show config set
set interface wan mtu 1400
commit
commit
exit
rollback 1
show config
show config 9
show config x
compare 1 2
compare 1
save
exit
`, "\n", "\r")))
	}
}

func TestConfirmTime(t *testing.T) {
	for word, want := range map[string]time.Duration{"1": time.Minute, "1440": 24 * time.Hour, "10s": 10 * time.Second, "86400s": 24 * time.Hour,
		"0": 0, "9s": 0, "1441": 0, "-1": 0, "99999999999999999999": 0, "s": 0, "5m": 0, "": 0} {
		if got, err := confirmTime(word); got != want || err == nil != (want > 0) {
			t.Errorf("%q: %v %v", word, got, err)
		}
	}
}

func TestCommitRefused(t *testing.T) {
	k := newKeeper(wan)
	dir := k.serve(t)
	k.refuse = &control.Error{Code: "config-invalid", Args: []string{"komainu.toml:5:12: [１] is full-width\nkomainu.toml:9:1: unknown key"}}
	got := types(t, dir, "en", control.Admin, "configure\rset interface wan mtu １\rcommit\rexit\rexit\r")
	if !strings.Contains(got, "nothing was changed:\nkomainu.toml:5:12: [１] is full-width\nkomainu.toml:9:1: unknown key\n") || !strings.Contains(k.mine["sato"].Text, `mtu = "１"`) {
		t.Error(got, k.mine)
	}
	k.refuse = nil
	k.add(wan+"# theirs\n", "suzuki", "", 0)
	got = types(t, dir, "en", control.Admin, "commit\rexit\r")
	if !strings.Contains(got, "revision 2 runs now, by suzuki, ") || !strings.Contains(got, "compare 1") {
		t.Error(got)
	}
}

// TestFieldEngineer may change the network where it undoes itself, nothing else.
func TestFieldEngineer(t *testing.T) {
	k := newKeeper(wan)
	dir := k.serve(t)
	got := types(t, dir, "en", control.Field, "configure\rset interface wan mtu 1400\rcommit\rcommit-confirm\rconfirm\rset user sato role admin\rcommit-confirm\rrollback 1\rdiscard\rexit\rexit\r")
	if len(k.texts) != 2 || k.mine["sato"].Exists || strings.Count(got, "only an administrator may change [user]") != 1 {
		t.Errorf("%d revisions\n%s", len(k.texts), got)
	}
	got = types(t, dir, "en", control.Field, "configure set interface wan mtu 1300\rcommit-confirm\rrollback\rexit\r")
	if len(k.texts) != 4 {
		t.Errorf("what waits was not taken back\n%s", got)
	}
	if got := types(t, dir, "en", control.Viewer, "configure set schema 2\rconfigure\rset schema 2\rexit\r"); strings.Contains(got, "# ") || strings.Contains(k.mine["sato"].Text, "schema = 2") {
		t.Error(got)
	}
}

func TestLoad(t *testing.T) {
	for _, c := range []struct{ name, paste, want, shows string }{
		{"toml", "\ufeffschema = 2\r\n\t[site]\r\nname =\t\"a\"\r\n.\r\n", "schema = 2\n[site]\nname =\"a\"\n", "3 lines read"},
		{"set lines", "# from another box\rset schema 3\rno interface wan mtu\r\r.\r", strings.NewReplacer("= 1\n", "= 3\n", "mtu = 1500\n", "").Replace(wan), "4 lines read"},
		{"bad set line", "set schema 3\rset interface\r.\r", "", "line 2: which interface?"},
		{"long line", "schema = 1\r" + strings.Repeat("x", 10000) + "\rlines\r.\r", "", "line 2 is longer than 1024 bytes"},
		{"wide", "schema = 1\r［site］\r.\r", "schema = 1\n［site］\n", "2 lines read"},
		{"empty", ".\r", "", "nothing stands there"},
		{"^C", "schema = 1\r\x03", "", "broken off"},
	} {
		k := newKeeper(wan)
		dir := k.serve(t)
		got := types(t, dir, "en", control.Field, "configure\rload terminal\r"+c.paste+"exit\rexit\r")
		if k.mine["sato"].Text != c.want || !strings.Contains(got, c.shows) || strings.Contains(got, "line 3") {
			t.Errorf("%s: %q\n%s", c.name, k.mine["sato"].Text, got)
		}
	}
	for line, want := range map[string]string{"configure\rload usb:x.toml\rexit": "no stick is plugged in", "configure\rload x.toml\rexit": "take `load terminal`",
		"copy config usb:": "no stick is plugged in", "copy config usb:a/b": "no name of a file", "copy config x": "x is no place"} {
		k := newKeeper(wan)
		if got := types(t, k.serve(t), "en", control.Field, line+"\rexit\r"); !strings.Contains(strings.ReplaceAll(got, "\n", " "), want) || k.mine["sato"].Text != "" {
			t.Errorf("%s: %q\n%s", line, k.mine["sato"].Text, got)
		}
	}
}

// TestConfigureOneShot: the same commands without a session, and for machines.
func TestConfigureOneShot(t *testing.T) {
	k := newKeeper(wan)
	dir := k.serve(t)
	do := func(line string) (int, string) {
		var out strings.Builder
		c := &Console{Commands: Revisions(), Run: dir, Lang: "en", User: "root", Role: control.Admin, Out: &out, Err: &out, In: strings.NewReader("schema = 5\r\n")}
		code := c.Main(t.Context(), strings.Fields(line))
		return code, out.String()
	}
	for _, line := range []string{"configure set interface wan mtu 1400 --json", "configure show --json", "configure show set --json", "compare --json", "commit-confirm 3 --json", "confirm --json", "configure load terminal --json", "commit five --json", "rollback 1 --json", "show history --json", "show config --json", "show config set --json", "show config saved --json"} {
		if code, got := do(line); code != 0 || !json.Valid([]byte(got)) {
			t.Errorf("%s: %d\n%s", line, code, got)
		}
	}
	if len(k.texts) != 4 || k.texts[2] != "schema = 5\n" || k.revisions[2].Comment != "five" {
		t.Error(k.texts, k.revisions)
	}
	if code, got := do("configure"); code != 0 || !strings.Contains(got, "configure set WORDS...") {
		t.Errorf("%d %s", code, got)
	}
}

// TestSaved: what waits for a confirmation isn't what a restart brings back.
func TestSaved(t *testing.T) {
	k := newKeeper(wan)
	dir := k.serve(t)
	k.add("schema = 2\n", "sato", "", 60)
	k.revisions[0].Outcome = ""
	if got := types(t, dir, "en", control.Viewer, "show config saved\rexit\r"); !strings.Contains(got, "mtu = 1500") {
		t.Error(got)
	}
}

// TestCompleteInConfigure: Tab knows the mode's own words and the others.
func TestCompleteInConfigure(t *testing.T) {
	s := &Session{Console: Console{Commands: Revisions(), Lang: "en"}, Screen: NewScreen(silent{}, 0), Role: control.Admin, editing: true}
	for in, want := range map[string]string{"se": "set ", "dis": "discard ", "rollb": "rollback ", "show hi": "show history ", "lo": "load ", "show s": "show set "} {
		if line, _, _ := s.complete(in, len(in), '\t'); line != want {
			t.Errorf("%q became %q", in, line)
		}
	}
}

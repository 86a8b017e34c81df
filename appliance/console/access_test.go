package console

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"komainu/appliance/accounts"
	"komainu/appliance/control"
)

// TestAccess is a transcript of people, secrets and records; answers are what
// is typed where it isn't shown.
func TestAccess(t *testing.T) {
	dir := t.TempDir()
	f := AccessFiles{State: dir, Run: dir, Config: filepath.Join(dir, "komainu.toml"), Users: func() ([]accounts.User, error) {
		return []accounts.User{{Name: "sato", Role: "field", Password: "secret:sato"}, {Name: "ito", Role: "viewer"}}, nil
	}}
	if err := os.WriteFile(f.Config, []byte("key = \"secret:vpn\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var answers []string
	say := func(role control.Role, line string, typed ...string) string {
		t.Helper()
		answers = typed
		var out bytes.Buffer
		c := Console{Commands: Access(f), Lang: "en", User: "sato", Role: role, Out: &out, Err: &out}
		if typed != nil {
			c.Ask = func(context.Context, string) (string, error) {
				word := answers[0]
				answers = answers[1:]
				return word, nil
			}
		}
		c.Main(t.Context(), strings.Fields(line))
		return strings.TrimSpace(out.String())
	}
	for _, x := range []struct {
		role  control.Role
		line  string
		typed []string
		want  string
	}{
		{control.Admin, "secret list", nil, "no secrets"},
		{control.Admin, "secret set vpn", nil, "this command asks for a secret"},
		{control.Admin, "secret set vpn", []string{"hush", "hosh"}, "the two differ"},
		{control.Admin, "secret set vpn", []string{"", ""}, "nothing was typed"},
		{control.Admin, "secret set vpn", []string{"hush", "hush"}, "secret:vpn kept"},
		{control.Admin, "secret set vp", []string{"hush", "hush"}, "secret:vp kept"},
		{control.Admin, "secret set a/b", []string{"hush", "hush"}, "a/b can't name a secret"},
		{control.Admin, "secret delete vpn", nil, "the configuration refers to secret:vpn"},
		{control.Admin, "secret delete vp", nil, "secret:vp deleted"},
		{control.Admin, "secret delete vp", nil, "there is no secret:vp"},
		{control.Field, "user password", []string{"short", "short"}, "a password has 8 to 128"},
		{control.Field, "user password", []string{"correct horse", "correct horse"}, "password of sato set"},
		{control.Field, "user password ito", []string{"correct horse", "correct horse"}, "user sato may not"},
		{control.Admin, "user password ito", []string{"correct horse", "correct horse"}, "the configuration gives ito no password"},
		{control.Admin, "user password kato", nil, "kato has no account"},
		{control.Operator, "show audit", nil, "nothing is recorded yet"},
		{control.Operator, "show audit 0", nil, "0"},
	} {
		if got := say(x.role, x.line, x.typed...); !strings.HasPrefix(got, x.want) {
			t.Errorf("%s: %q, want %q", x.line, got, x.want)
		}
	}
	e := accounts.Entry{Time: time.Date(2026, 11, 22, 13, 5, 0, 0, time.Local), User: "sato", Terminal: "ttyS0", Operation: "show status", Words: "sh st \x1b[2J", Result: "ok"}
	if err := (accounts.Log{State: dir}).Note(e); err != nil {
		t.Fatal(err)
	}
	if got := say(control.Operator, "show audit 5"); got != "2026-11-22 13:05:00  sato  ttyS0  ok  sh st ?[2J" {
		t.Errorf("%q", got)
	}
	leave, err := accounts.Enter(dir, accounts.Present{User: "sato", Role: "field", Terminal: "ttyS0", Since: e.Time})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := leave(); err != nil {
			t.Error(err)
		}
	}()
	const users = `logged in
  sato  field engineer; ttyS0; since 2026-11-22 13:05:00
may log in
  ito   viewer; neither password nor key: can't log in
  sato  field engineer; password`
	if got := say(control.Viewer, "show users"); got != users {
		t.Error(got)
	}
}

package accounts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"komainu/appliance/control"
	"komainu/drivers/files"
	"komainu/ntp/instant"
)

func TestPassword(t *testing.T) {
	p := Hash("correct horse")
	q, err := ParsePassword(p.String())
	if err != nil || !cmp.Equal(p, q) || !q.right("correct horse") || q.right("correct horsf") {
		t.Errorf("%v, %v", q, err)
	}
	for _, s := range []string{
		"", "x", "$argon2i$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$" + strings.Repeat("A", 43),
		"$argon2id$v=19$m=99999999,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$" + strings.Repeat("A", 43),
		"$argon2id$v=19$m=19456,t=999,p=1$AAAAAAAAAAAAAAAAAAAAAA$" + strings.Repeat("A", 43),
		"$argon2id$v=19$m=1,t=1,p=4$AAAAAAAAAAAAAAAAAAAAAA$" + strings.Repeat("A", 43),
		"$argon2id$v=19$m=19456,t=2,p=1$AAAA$" + strings.Repeat("A", 43),
		"$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAA",
		"$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA",
	} {
		if _, err := ParsePassword(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

// TestForeignPHC reads what another program made of "password", with the salt
// "somesalt" (the test vectors of the reference implementation of Argon2).
func TestForeignPHC(t *testing.T) {
	p, err := ParsePassword("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")
	if err != nil || !p.right("password") || p.right("passwore") {
		t.Error(err)
	}
}

// TestStrangersTakeAsLong: nobody learns from the time whether a name has an account.
func TestStrangersTakeAsLong(t *testing.T) {
	h := Hash("correct horse")
	known := &Account{Password: &h}
	span := func(a *Account) time.Duration {
		best := time.Hour
		for range 5 {
			began := time.Now()
			a.Right("a guess")
			best = min(best, time.Since(began))
		}
		return best
	}
	a, b := span(known), span(nil)
	if a > 3*b || b > 3*a {
		t.Errorf("%v and %v", a, b)
	}
}

func TestGuard(t *testing.T) {
	g, now := &Guard{}, instant.Instant(1)
	for i := range 9 {
		if d := g.Attempt(now, "a", true, ""); d != 0 {
			t.Errorf("an hour later: %v", d)
		}
		want := min(time.Minute, time.Second<<i)
		if d := g.names["a"].wait(now); d != want {
			t.Errorf("waits %v, want %v", d, want)
		}
		now = now.Add(time.Hour)
	}
	g.Right("a", "")
	g.Attempt(now, "a", true, "")
	if d := g.Attempt(now, "a", true, ""); d != time.Second || g.Attempt(now, "b", true, "") != 0 {
		t.Errorf("after the right one: %v", d)
	}
}

// TestGuardFlood: guesses at once queue up; random names and places take a
// bounded place and don't make an account's strikes forgotten.
func TestGuardFlood(t *testing.T) {
	g, now := &Guard{}, instant.Instant(1)
	last := time.Duration(-1)
	for range 7 {
		d := g.Attempt(now, "admin", true, "")
		if d <= last {
			t.Errorf("two guesses at once: %v after %v", d, last)
		}
		last = d
	}
	for i := range 5 * strikesMost {
		g.Attempt(now, fmt.Sprint("x", i), false, fmt.Sprint("10.", i))
	}
	if len(g.names) > strikesMost+1 || len(g.places) > strikesMost {
		t.Errorf("%d names, %d places", len(g.names), len(g.places))
	}
	if g.Attempt(now, "admin", true, "") != delayMost {
		t.Error("admin's strikes are forgotten")
	}
}

func TestPeople(t *testing.T) {
	dir := t.TempDir()
	hash := Hash("configured")
	phc := hash.String()
	if err := (files.Secrets{Dir: filepath.Join(dir, "secrets")}).Put("sato", []byte(phc)); err != nil {
		t.Fatal(err)
	}
	broken := false
	k := &Keeper{Disk: NewDisk(), Book: Book{State: dir, Users: func() ([]User, error) {
		if broken {
			return nil, errors.New("no such table")
		}
		return []User{
			{Name: "admin", Role: "viewer", Password: "secret:missing"},
			{Name: "sato", Role: "admin", Password: "secret:sato", Keys: []string{"garbage"}},
			{Name: "ito", Role: "viewer"},
			{Name: "odd", Role: "king"},
		}, nil
	}}}
	p, err := k.People()
	if err != nil || p.Nobody() || len(p.All()) != 3 {
		t.Errorf("%+v, %v", p.All(), err)
	}
	if err := k.SetAdmin(Hash("made here")); err != nil {
		t.Fatal(err)
	}
	if err := k.Book.SetLocal("sato", control.Viewer, Hash("old")); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		p, err := k.People()
		if err != nil {
			t.Fatal(err)
		}
		switch here, there := p.FindHere("admin"), p.Find("admin"); {
		case here.Role != control.Admin || !here.Right("made here"):
			t.Errorf("%s: the administrator is locked out: %+v", when, here)
		case there.Role != control.Viewer || there.Right("made here"):
			t.Errorf("%s: the configuration doesn't count: %+v", when, there)
		case !p.FindHere("sato").Right("configured") || p.FindHere("sato").Role != control.Admin:
			t.Errorf("%s: sato is %+v", when, p.FindHere("sato"))
		}
	}
	check("in order")
	broken = true
	check("with a configuration that broke")
	if err := os.WriteFile(k.Book.UsersFile(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	check("with a damaged file too")
	if _, err := k.Book.Read(); err == nil {
		t.Error("the damage isn't told")
	}
}

func TestSetPassword(t *testing.T) {
	b := Book{State: t.TempDir(), Users: func() ([]User, error) {
		return []User{{Name: "sato", Role: "field", Password: "secret:sato"}, {Name: "ito", Role: "viewer"}}, nil
	}}
	set := func(name string) error {
		p, err := b.Read()
		if err != nil {
			t.Fatal(err)
		}
		return b.SetPassword(*p.Find(name), Hash("new word"))
	}
	if err := set("sato"); err != nil {
		t.Error(err)
	}
	if err := set("ito"); !errors.Is(err, ErrNoPassword) {
		t.Error(err)
	}
	if p, _ := b.Read(); !p.Find("sato").Right("new word") {
		t.Error("not kept")
	}
	if st, err := os.Stat(filepath.Join(b.State, "secrets", "sato")); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st, err)
	}
}

// TestLog: many at once, over several files.
func TestLog(t *testing.T) {
	l := Log{State: t.TempDir(), most: 2000}
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 20 {
				if err := l.Note(Entry{User: "sato", Terminal: "ttyS0", Operation: "show status", Words: fmt.Sprint(g, i), Result: "ok"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	got, err := l.Last(1000)
	if err != nil || len(got) != 80 || got[0].Name != "sato" {
		t.Errorf("%d, %v", len(got), err)
	}
	if got, err := l.Last(3); err != nil || len(got) != 3 {
		t.Errorf("%v, %v", got, err)
	}
	line, err := os.ReadFile(l.path())
	if err != nil || !strings.Contains(string(line), `"user":"sato","name":"sato","terminal":"ttyS0","operation":"show status","words":"`) {
		t.Errorf("%s, %v", line, err)
	}
	for range 3000 / 20 {
		if err := l.Note(Entry{User: "sato", Operation: strings.Repeat("x", 200)}); err != nil {
			t.Fatal(err)
		}
	}
	names, err := filepath.Glob(l.path() + "*")
	if err != nil || len(names) != auditFiles+1 { // and the lock
		t.Errorf("%q, %v", names, err)
	}
}

func TestInside(t *testing.T) {
	run := t.TempDir()
	if all, err := Inside(run); err != nil || all != nil {
		t.Error(all, err)
	}
	p := Present{User: "sato", Role: "field", Terminal: "ttyS0", Since: time.Unix(1, 0).UTC()}
	leave, err := Enter(run, p)
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(insideDir(run), "left.json") // by a process that was killed
	if err := os.WriteFile(left, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := Inside(run); err != nil || !cmp.Equal(all, []Present{p}) {
		t.Error(all, err)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("left over")
	}
	if err := leave(); err != nil {
		t.Error(err)
	}
	if all, err := Inside(run); err != nil || all != nil {
		t.Error(all, err)
	}
}

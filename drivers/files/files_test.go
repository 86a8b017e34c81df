package files

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReplace(t *testing.T) {
	p := filepath.Join(t.TempDir(), "f")
	for _, want := range []string{"one", "", "three"} {
		if err := Replace(p, []byte(want), 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(p)
		if err != nil || string(got) != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
	st, err := os.Stat(p)
	if err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	onlyFile(t, p)
}

func TestReplaceFailureLeavesTheOldFile(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(p, "child"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Replace(p, []byte("x"), 0o600); err == nil {
		t.Error("replaced a folder that isn't empty")
	}
	onlyFile(t, p)
	if err := Replace(filepath.Join(dir, "absent", "f"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// onlyFile demands that no temporary file is left beside p.
func onlyFile(t *testing.T, p string) {
	t.Helper()
	all, err := os.ReadDir(filepath.Dir(p))
	if err != nil || len(all) != 1 || all[0].Name() != filepath.Base(p) {
		t.Errorf("folder holds %v, %v", all, err)
	}
}

func TestJSON(t *testing.T) {
	p := filepath.Join(t.TempDir(), "term.json")
	type state struct{ Term int }
	var got state
	if err := ReadJSON(p, 1, &got); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := ReplaceJSON(p, 2, state{7}); err != nil {
		t.Fatal(err)
	}
	if err := ReadJSON(p, 2, &got); err != nil || got.Term != 7 {
		t.Errorf("got %v, %v", got, err)
	}
	var v *VersionError
	if err := ReadJSON(p, 3, &got); !errors.As(err, &v) || v.Got != 2 {
		t.Errorf("other version: %v", err)
	}
	if err := os.WriteFile(p, []byte(`{"ver`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ReadJSON(p, 2, &got); err == nil || !strings.Contains(err.Error(), p) {
		t.Errorf("damaged file: %v", err)
	}
}

func TestJournal(t *testing.T) {
	p := filepath.Join(t.TempDir(), "j")
	read := func(want ...string) {
		t.Helper()
		got, err := ReadJournal[string](p)
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	write := func(s string) {
		t.Helper()
		if err := Append(p, s); err != nil {
			t.Fatal(err)
		}
	}
	tear := func(s string) {
		t.Helper()
		f, err := os.OpenFile(p, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(s); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	read()
	tear(`"never rep`)
	read()
	write("a")
	write("日向町\nline two")
	read("a", "日向町\nline two")
	tear(`"torn ` + strings.Repeat("x", 10000)) // longer than one block of wholeLines
	read("a", "日向町\nline two")
	write("b")
	read("a", "日向町\nline two", "b")
	tear("damaged\n")
	if _, err := ReadJournal[string](p); err == nil || !strings.Contains(err.Error(), "line 4") {
		t.Errorf("damaged line: %v", err)
	}
}

func TestLock(t *testing.T) {
	p := filepath.Join(t.TempDir(), "lock")
	if os.Getenv("LOCK_PATH") != "" {
		_, err := Lock(os.Getenv("LOCK_PATH"))
		var held *HeldError
		if !errors.As(err, &held) || held.PID != os.Getppid() {
			t.Fatalf("got %v, want held by %d", err, os.Getppid())
		}
		return
	}
	l, err := Lock(p)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(os.Args[0], "-test.run=^TestLock$")
	c.Env = append(os.Environ(), "LOCK_PATH="+p)
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = Lock(p)
	if err != nil {
		t.Fatal("after release: ", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestSecrets(t *testing.T) {
	s := Secrets{t.TempDir()}
	p := filepath.Join(s.Dir, "box")
	if err := os.WriteFile(p, []byte("k e y\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Resolve("secret:box"); err != nil || string(got) != "k e y" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := os.Symlink(p, filepath.Join(s.Dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.Dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"box", "secret:", "secret:../box", "secret:a/b", "secret:.box", "secret:none", "secret:link", "secret:dir"} {
		if _, err := s.Resolve(ref); !errors.Is(err, ErrSecret) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if err := os.Chmod(p, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve("secret:box"); err == nil || !strings.Contains(err.Error(), "chmod 0600") {
		t.Errorf("wide mode: %v", err)
	}
}

// TestSecretsKept: what is put is resolved, listed without content, deleted.
func TestSecretsKept(t *testing.T) {
	s := Secrets{Dir: filepath.Join(t.TempDir(), "secrets")}
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Error(all, err)
	}
	for _, content := range []string{"first", "the second\n"} {
		if err := s.Put("vpn-psk", []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := s.Resolve("secret:vpn-psk"); err != nil || string(b) != "the second" {
		t.Errorf("%q, %v", b, err)
	}
	if all, err := s.List(); err != nil || len(all) != 1 || all[0].Name != "vpn-psk" || all[0].Bytes != 11 {
		t.Error(all, err)
	}
	for _, name := range []string{"", "../x", ".x", "a/b"} {
		if err := s.Put(name, []byte("x")); !errors.Is(err, ErrSecret) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := s.Put("x", nil); !errors.Is(err, ErrSecret) {
		t.Error(err)
	}
	if err := s.Delete("vpn-psk"); err != nil {
		t.Error(err)
	}
	if err := s.Delete("vpn-psk"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

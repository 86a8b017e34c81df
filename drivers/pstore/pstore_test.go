package pstore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTake(t *testing.T) {
	dir := t.TempDir()
	if s, err := Take(filepath.Join(dir, "none")); s != "" || err != nil {
		t.Errorf("no pstore: %q, %v", s, err)
	}
	for name, text := range map[string]string{
		"dmesg-efi_pstore-1700000001001": "Panic#1 Part1\nc\npanic\n",
		"dmesg-efi_pstore-1700000002001": "Panic#1 Part2\na\nb\n",
		"console-ramoops-0":              "other\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := Take(dir); s != "a\nb\nc\npanic\n" || err != nil {
		t.Errorf("got %q, %v", s, err)
	}
	if s, err := Take(dir); s != "" || err != nil {
		t.Errorf("not removed: %q, %v", s, err)
	}
	big := strings.Repeat("0123456789\n", 10<<10)
	if err := os.WriteFile(filepath.Join(dir, "dmesg-ramoops-0"), []byte(big), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Take(dir); len(s) > KeepBytes || len(s) < KeepBytes-11 || s[0] != '0' || err != nil {
		t.Errorf("got %d bytes, %v", len(s), err)
	}
}

func TestSave(t *testing.T) {
	dir := t.TempDir()
	write := func(path string, b []byte) error { return os.WriteFile(path, b, 0o600) }
	for range 12 {
		if _, err := Save(dir, "x", write); err != nil {
			t.Fatal(err)
		}
	}
	have, err := saved(dir)
	if err != nil || len(have) != Keep || have[0] != 8 || have[4] != 12 {
		t.Errorf("got %v, %v", have, err)
	}
	if got := Tail("a\nb\nc\n", 2); got != "b\nc" {
		t.Errorf("got %q", got)
	}
}

func TestCause(t *testing.T) {
	for dump, want := range map[string]string{
		"": "", "<6>[    1.0] all is well\n": "",
		"<1>[    2.0] BUG: kernel NULL pointer dereference\n<1>[    2.1] Oops: 0002\n":                                   "<1>[    2.0] BUG: kernel NULL pointer dereference",
		"<4>[    2.0] Oops: 0002\n<0>[    2.5] Kernel panic - not syncing: sysrq triggered crash\n<4>[    2.6] RAX: 0\n": "<0>[    2.5] Kernel panic - not syncing: sysrq triggered crash",
	} {
		if got := Cause(dump); got != want {
			t.Errorf("%q: %q, want %q", dump, got, want)
		}
	}
}

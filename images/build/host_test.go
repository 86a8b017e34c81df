package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"komainu/images/bundle"
)

// TestHostSameBytes builds the image twice, from the same packages but in folders
// of their own, and compares all that comes out: once with the parts that the
// last `make image` has kept, where it has, and once from nothing.
func TestHostSameBytes(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the image")
	}
	for _, program := range []string{"dpkg-deb", "apt-get", "depmod", "zstd"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s: run make setup-image", program)
		}
	}
	t.Chdir("../..")
	t.Setenv("SOURCE_DATE_EPOCH", "1793264700")
	t.Setenv("GIT_DIR", t.TempDir()) // a commit in between would be another input
	cache, err := filepath.Abs("out/image")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(cache, "debs"), 0o755); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := bundle.GenerateKey(dir, "test", ""); err != nil {
		t.Fatal(err)
	}
	// A small program: its compression is what takes the time.
	program := filepath.Join(dir, "program")
	if err := goBuild(t.Context(), program, "./images/root/testdata/probe"); err != nil {
		t.Fatal(err)
	}
	var said []string
	once := func(name string, keep []string) (results map[string]string) {
		out := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Join(out, "image"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, file := range keep {
			if err := os.Symlink(file, filepath.Join(out, "image", filepath.Base(file))); err != nil {
				t.Fatal(err)
			}
		}
		o := options{out: out, keys: dir, program: program, version: "1.2.3", tell: func(s string) { said = append(said, s) }}
		if err := build(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(out, "digests"))
		if err != nil {
			t.Fatal(err)
		}
		results = make(map[string]string)
		for line := range strings.Lines(string(text)) {
			sum, file, _ := strings.Cut(strings.TrimSpace(line), "  ")
			results[file] = sum
		}
		return results
	}
	packages := filepath.Join(cache, "debs")
	a, b := once("a", append(kept(t, cache), packages)), once("b", []string{packages})
	for _, file := range []string{"komainu.efi", "komainu.img", "komainu-1.2.3.kmb", "sbom.json"} {
		if a[file] == "" || a[file] != b[file] {
			t.Errorf("%s: digests %q and %q", file, a[file], b[file])
		}
	}
	keys, err := bundle.PublicKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, "b", "komainu-1.2.3.kmb"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := bundle.Verify(f, keys); err != nil {
		t.Error(err)
	}
	image, err := os.Stat(filepath.Join(dir, "b", "komainu.efi"))
	if err != nil {
		t.Fatal(err)
	}
	if image.Size() > 60e6 {
		t.Errorf("komainu.efi has %d bytes, more than 60 MB", image.Size())
	}
	if t.Failed() {
		t.Log(strings.Join(said, "\n"))
	}
}

func kept(t *testing.T, cache string) (all []string) {
	t.Helper()
	for _, pattern := range []string{"userland-*", "base-*.zst"} {
		some, err := filepath.Glob(filepath.Join(cache, pattern))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, some...)
	}
	return all
}

func TestAddition(t *testing.T) {
	host := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(host, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	f, err := addition(host + ":/bin/tool:755")
	if err != nil || f.Path != "/bin/tool" || f.Mode != 0o755 || f.Source != host {
		t.Errorf("%+v, %v", f, err)
	}
	if f, err = addition(host + ":/etc/x"); err != nil || f.Mode != 0o640 {
		t.Errorf("%+v, %v", f, err)
	}
	for _, bad := range []string{host, host + ":relative", host + ":/x:9", host + ":/x:1:2", "gone:/x"} {
		if _, err := addition(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestDescribe(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1793264700") // 2026-10-29 09:05 UTC
	b, err := describe(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if b.Version != "2026.10.29.905" || b.Unix != 1793264700 {
		t.Errorf("%+v", b)
	}
	if _, err := describe(t.Context(), "1.02"); err == nil {
		t.Error("a version with a leading zero was taken")
	}
}

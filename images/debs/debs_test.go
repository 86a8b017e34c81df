package debs

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTable(t *testing.T) {
	names := Names()
	if !slices.IsSorted(names) || len(names) != len(slices.Compact(slices.Clone(names))) {
		t.Error("the table isn't sorted, or names a package twice")
	}
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) == 1 {
			t.Errorf("%s: why?", f[0])
		}
	}
}

// archive is a folder of packages with an apt-get and an apt-cache before it,
// which a file named "down" makes fail.
type archive struct {
	t   *testing.T
	dir string
}

func newArchive(t *testing.T) *archive {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("no dpkg-deb")
	}
	a := &archive{t, t.TempDir()}
	a.script("apt-get", `
case "$2" in
update) exit 1 ;;
--print-uris) shift 3; for n; do f=$(ls | grep "^${n}_") || continue; echo "'http://x/$f' $f 1 SHA256:0"; done ;;
download) shift 2; for n; do cp -p ${n}_* "$here"; done ;;
esac`)
	a.script("apt-cache", `echo "  Depends: linux-image-6.1.0-9-amd64"`)
	t.Setenv("PATH", a.dir+":"+os.Getenv("PATH"))
	return a
}

func (a *archive) script(name, text string) {
	text = "#!/bin/sh\nhere=$(pwd)\ncd " + a.dir + "\n[ ! -e down ] || { echo E: no network >&2; exit 100; }\n" + text + "\n"
	if err := os.WriteFile(filepath.Join(a.dir, name), []byte(text), 0o755); err != nil {
		a.t.Fatal(err)
	}
}

// put makes a version of a package, an hour younger than the one before.
func (a *archive) put(name, version string, hour int) {
	a.t.Helper()
	tree := filepath.Join(a.t.TempDir(), "tree")
	for file, text := range map[string]string{
		"DEBIAN/control":      "Package: " + name + "\nVersion: " + version + "\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n",
		"usr/share/x/version": version,
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, file)), 0o755); err != nil {
			a.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, file), []byte(text), 0o644); err != nil {
			a.t.Fatal(err)
		}
	}
	old, err := filepath.Glob(filepath.Join(a.dir, name+"_*"))
	if err != nil {
		a.t.Fatal(err)
	}
	for _, f := range old {
		if err := os.Remove(f); err != nil {
			a.t.Fatal(err)
		}
	}
	deb := filepath.Join(a.dir, name+"_"+version+"_all.deb")
	if out, err := exec.Command("dpkg-deb", "--build", "-z0", tree, deb).CombinedOutput(); err != nil {
		a.t.Fatalf("%v: %s", err, out)
	}
	when := time.Unix(1e9, 0).Add(time.Duration(hour) * time.Hour)
	if err := os.Chtimes(deb, when, when); err != nil {
		a.t.Fatal(err)
	}
}

func (a *archive) fetch(dir string) (versions []string, said string) {
	a.t.Helper()
	var told []string
	got, err := Fetch(a.t.Context(), dir, []string{"b", Kernel}, func(s string) { told = append(told, s) })
	if err != nil {
		a.t.Fatal(err)
	}
	for _, p := range got {
		text, err := os.ReadFile(filepath.Join(p.Tree, "usr/share/x/version"))
		if err != nil {
			a.t.Fatal(err)
		}
		if string(text) != p.Version || len(p.SHA256) != 64 {
			a.t.Errorf("%s says version %s, digest %q; its tree %s", p.Name, p.Version, p.SHA256, text)
		}
		versions = append(versions, p.Name+" "+p.Version)
	}
	return versions, strings.Join(told, "\n")
}

func TestFetch(t *testing.T) {
	a := newArchive(t)
	dir := t.TempDir()
	a.put("b", "1.9", 1)
	a.put("linux-image-6.1.0-9-amd64", "6.1.9", 1)
	check := func(want, mustSay string) {
		t.Helper()
		got, said := a.fetch(dir)
		if diff := cmp.Diff([]string{want, "linux-image-6.1.0-9-amd64 6.1.9"}, got); diff != "" {
			t.Error(diff)
		}
		if !strings.Contains(said, mustSay) || mustSay == "" && said != "" {
			t.Errorf("said %q, want %q in it", said, mustSay)
		}
	}
	check("b 1.9", "fetching 2 packages")
	check("b 1.9", "") // nothing to do
	a.put("b", "1.10", 2)
	check("b 1.10", "fetching 1 packages: b")

	// No answer: the newest of what is there, by time and not by name.
	if err := os.WriteFile(filepath.Join(a.dir, "down"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	check("b 1.10", "NOTICE")
	if _, err := Fetch(t.Context(), t.TempDir(), []string{"b"}, func(string) {}); err == nil || !strings.Contains(err.Error(), "no network") {
		t.Errorf("nothing there and no network: %v", err)
	}
}

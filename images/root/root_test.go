package root

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"

	"komainu/images/debs"
	"komainu/images/layout"
)

// packageOf makes the tree of a package from path and content; "-> x" is a link.
func packageOf(t *testing.T, files map[string]string) debs.Package {
	t.Helper()
	tree := t.TempDir()
	for p, text := range files {
		name := filepath.Join(tree, p)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			err = os.Symlink(target, name)
		} else {
			err = os.WriteFile(name, []byte(text), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return debs.Package{Name: "p", Tree: tree}
}

func paths(files []File) []string {
	var out []string
	for _, f := range files {
		out = append(out, f.Group+" "+f.Path)
	}
	slices.Sort(out)
	return out
}

func TestChoose(t *testing.T) {
	all, _, err := index([]debs.Package{packageOf(t, map[string]string{
		"bin/dash": "x", "usr/bin/tool": "-> ../../sbin/real", "sbin/real": "x",
		"lib/a/one.so": "x", "usr/lib/a/two.so": "x", "usr/lib/a/deep/three.so": "x",
		"usr/bin/lost": "-> /nowhere",
	})})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, table string
		want        []string
		err         string
	}{
		{"of a merged /usr", "g usr/bin/dash", []string{"g usr/bin/dash"}, ""},
		{"a link brings its end", "g usr/bin/tool", []string{"g usr/bin/tool", "g usr/sbin/real"}, ""},
		{"pattern", "g usr/lib/a/*.so", []string{"g usr/lib/a/one.so", "g usr/lib/a/two.so"}, ""},
		{"below, and not", "g usr/lib/a/**\ng !usr/lib/a/deep/**", []string{"g usr/lib/a/one.so", "g usr/lib/a/two.so"}, ""},
		{"the first group has it", "g usr/bin/dash\nh usr/bin/*sh", []string{"g usr/bin/dash"}, ""},
		{"nothing fits", "g usr/bin/gone", nil, "no package brings usr/bin/gone"},
		{"a link to nothing", "g usr/bin/lost", nil, "usr/bin/lost leads to nowhere"},
		{"no pattern", "g", nil, "not a group and a pattern"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files, err := choose(all, c.table)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, paths(files)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLibraries(t *testing.T) {
	program, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Skip("no /bin/sh to look into")
	}
	content := map[string]string{"bin/dash": string(program)}
	build := func() ([]File, error) {
		all, _, err := index([]debs.Package{packageOf(t, content)})
		if err != nil {
			t.Fatal(err)
		}
		return withLibraries(all, []File{all["usr/bin/dash"]})
	}
	_, err = build()
	if err == nil || !strings.Contains(err.Error(), "/usr/bin/dash needs libc.so.6") || !strings.Contains(err.Error(), "images/debs/packages") {
		t.Fatalf("without a library: %v", err)
	}
	content["lib64/ld-linux-x86-64.so.2"] = "-> /lib/x86_64-linux-gnu/ld.so"
	content["lib/x86_64-linux-gnu/ld.so"] = "x"
	content["lib/x86_64-linux-gnu/libc.so.6"] = "x"
	files, err := build()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{" usr/bin/dash", " usr/lib/x86_64-linux-gnu/ld.so", " usr/lib/x86_64-linux-gnu/libc.so.6", " usr/lib64/ld-linux-x86-64.so.2"}
	if diff := cmp.Diff(want, paths(files)); diff != "" {
		t.Error(diff)
	}
}

func TestModules(t *testing.T) {
	p := packageOf(t, map[string]string{
		"modules.dep":     "kernel/a-card.ko: kernel/lib.ko\nkernel/lib.ko:\nkernel/late.ko:\nkernel/other.ko: kernel/lib.ko\n",
		"modules.alias":   "# x\nalias pci:v0001* a_card\nalias pci:v0002* other\n",
		"modules.softdep": "softdep a_card pre: late crc\nsoftdep other post: a_card\n",
		"modules.builtin": "kernel/crc.ko\n",
	})
	files, names, err := modules(p.Tree, "6.1", "# cards\na-c* crc\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a_card", "late", "lib"}, names); diff != "" {
		t.Error(diff)
	}
	got := make(map[string]string)
	for _, f := range files {
		got[f.Path] = string(f.Data)
	}
	want := map[string]string{
		"usr/lib/modules/6.1/kernel/a-card.ko": "", "usr/lib/modules/6.1/kernel/late.ko": "", "usr/lib/modules/6.1/kernel/lib.ko": "",
		"usr/lib/modules/6.1/modules.dep":     "kernel/a-card.ko: kernel/lib.ko\nkernel/lib.ko:\nkernel/late.ko:\n",
		"usr/lib/modules/6.1/modules.alias":   "alias pci:v0001* a_card\n",
		"usr/lib/modules/6.1/modules.softdep": "softdep a_card pre: late crc\n",
		"usr/lib/modules/6.1/modules.builtin": "kernel/crc.ko\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, _, err := modules(p.Tree, "6.1", "gone\n"); err == nil || !strings.Contains(err.Error(), "no module gone") {
		t.Errorf("a module that the kernel lost: %v", err)
	}
}

func TestFinish(t *testing.T) {
	files, err := finish([]File{text("etc/a", "x"), text("usr/bin/b", "x")}, []File{{Path: "/bin/b", Data: []byte("mine"), Mode: 0o755}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"added usr/bin/b", "system etc", "system etc/a", "system usr", "system usr/bin"}, paths(files)); diff != "" {
		t.Error(diff)
	}
	if _, err := finish([]File{text("etc/a", "x"), text("etc/a", "y")}, nil); err == nil {
		t.Error("two files of one path were taken")
	}
	if _, err := finish([]File{{Path: "a", Source: t.TempDir()}}, nil); err == nil {
		t.Error("a folder was taken for a file")
	}
}

func TestInitramfs(t *testing.T) {
	ours, err := own(Config{Program: "/bin/sh", Keys: keys(t)}, layout.Build{Version: "1.2"})
	if err != nil {
		t.Fatal(err)
	}
	files, err := finish(append(ours, static...), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := Root{Files: files, Build: layout.Build{Unix: 1e9}, packaged: 9e8}
	for name, write := range map[string]func(*bytes.Buffer) error{
		"base": func(b *bytes.Buffer) error { return r.WriteBase(b) },
		"top":  func(b *bytes.Buffer) error { return r.WriteTop(b) },
	} {
		var one, two bytes.Buffer
		if err := write(&one); err != nil {
			t.Fatal(err)
		}
		if err := write(&two); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(one.Bytes(), two.Bytes()) {
			t.Errorf("%s differs from itself", name)
		}
		records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(one.Bytes())))
		if err != nil {
			t.Fatal(err)
		}
		var has []string
		inodes := make(map[uint64]bool)
		for _, rec := range records {
			has = append(has, rec.Name)
			if inodes[rec.Ino] {
				t.Errorf("%s: two files of inode %d", name, rec.Ino)
			}
			inodes[rec.Ino] = true
		}
		program := slices.Contains(has, "usr/bin/komainu")
		if program != (name == "top") || slices.Contains(has, "dev/console") == program {
			t.Errorf("%s holds %v", name, has)
		}
	}
	if _, err := own(Config{Keys: t.TempDir()}, layout.Build{}); err == nil {
		t.Error("an image without a key was taken")
	}
	if !fs.ValidPath("usr" + layout.Program) {
		t.Error(layout.Program)
	}
}

func keys(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "one.pub"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

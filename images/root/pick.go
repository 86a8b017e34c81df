package root

import (
	"debug/elf"
	_ "embed" // files.txt
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"komainu/images/debs"
)

//go:embed files.txt
var fileTable string

// tree maps each path of all packages, of a merged /usr, to its file.
type tree map[string]File

// merged is p as it is called where /bin, /sbin, /lib and /lib64 are links to
// /usr/bin and so on: packages of Debian 12 use both.
func merged(p string) string {
	p = strings.TrimPrefix(path.Clean("/"+p), "/")
	switch top, _, _ := strings.Cut(p, "/"); top {
	case "bin", "sbin", "lib", "lib64":
		return "usr/" + p
	}
	return p
}

// index lists what the packages hold. The kernel's modules have their own rules.
// It also says when the newest file was made.
func index(packages []debs.Package) (tree, int64, error) {
	all := make(tree)
	var newest int64
	for _, p := range packages {
		err := filepath.WalkDir(p.Tree, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(p.Tree, name)
			if err != nil {
				return err
			}
			if d.IsDir() {
				if rel == "lib/modules" || rel == "usr/share/doc" {
					return fs.SkipDir
				}
				return nil
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			newest = max(newest, info.ModTime().Unix())
			f := File{Path: merged(rel), Mode: info.Mode(), Source: name, Package: p.Name}
			if f.Mode&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
				f.Mode = f.Mode.Perm() // nobody here needs to become root
			}
			if f.Mode.Type() == fs.ModeSymlink {
				f.Source = ""
				if f.Link, err = os.Readlink(name); err != nil {
					return err
				}
			}
			all[f.Path] = f
			return nil
		})
		if err != nil {
			return nil, 0, fmt.Errorf("package %s: %w", p.Name, err)
		}
	}
	return all, newest, nil
}

// target is the path that the link f leads to.
func (f File) target() string {
	if path.IsAbs(f.Link) {
		return merged(f.Link)
	}
	return merged(path.Join(path.Dir(f.Path), f.Link))
}

// choose returns the files that the table names, with what their links lead to.
func choose(all tree, table string) ([]File, error) {
	chosen := make(map[string]string) // path to group
	var errs []error
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		if len(f) != 2 {
			return nil, fmt.Errorf("files.txt: %q is not a group and a pattern", strings.TrimSpace(line))
		}
		pattern, without := strings.CutPrefix(f[1], "!")
		n := 0
		for p := range all {
			if !matches(pattern, p) {
				continue
			}
			n++
			switch _, taken := chosen[p]; {
			case without && chosen[p] == f[0]:
				delete(chosen, p)
			case !without && !taken:
				chosen[p] = f[0]
			}
		}
		if n == 0 && !without {
			errs = append(errs, fmt.Errorf("no package brings %s, which files.txt names: a line of images/debs/packages is missing, or Debian moved the file", pattern))
		}
	}
	var files []File
	for p, group := range chosen {
		f, err := all.follow(p, group, func(f File) {
			if _, ok := chosen[f.Path]; !ok {
				files = append(files, f)
			}
		})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		files = append(files, f)
	}
	sortFiles(files)
	files = slices.CompactFunc(files, func(a, b File) bool { return a.Path == b.Path })
	return files, errors.Join(errs...)
}

// follow returns the file at p, and calls also for what its links lead to.
func (all tree) follow(p, group string, also func(File)) (File, error) {
	f, ok := all[p]
	if !ok {
		return File{}, fmt.Errorf("no package brings %s", p)
	}
	f.Group = group
	for next := f; next.Mode.Type() == fs.ModeSymlink; {
		t := next.target()
		if next, ok = all[t]; !ok {
			return File{}, fmt.Errorf("%s leads to %s, which no package brings", p, t)
		}
		next.Group = group
		also(next)
	}
	return f, nil
}

func matches(pattern, p string) bool {
	if below, ok := strings.CutSuffix(pattern, "/**"); ok {
		return strings.HasPrefix(p, below+"/")
	}
	ok, err := path.Match(pattern, p)
	return ok && err == nil
}

// libraryPath is where Debian's loader looks without a cache of ours.
var libraryPath = []string{"usr/lib/x86_64-linux-gnu", "usr/lib"}

// withLibraries adds what the programs and libraries among files link against,
// and their loader. The host's loader is never run.
func withLibraries(all tree, files []File) ([]File, error) {
	have := make(map[string]bool)
	for _, f := range files {
		have[f.Path] = true
	}
	var errs []error
	for i := 0; i < len(files); i++ { // grows
		needs, err := linked(files[i])
		if err != nil {
			return nil, err
		}
		for _, need := range needs {
			p, ok := all.find(need.names, have)
			if !ok {
				errs = append(errs, fmt.Errorf("/%s needs %s, which no package brings: images/debs/packages lacks a line", files[i].Path, need.what))
				continue
			}
			if have[p] {
				continue
			}
			add := func(f File) {
				if !have[f.Path] {
					have[f.Path] = true
					files = append(files, f)
				}
			}
			f, err := all.follow(p, files[i].Group, add)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			add(f)
		}
	}
	return files, errors.Join(errs...)
}

// need is one library: what it is called, and where it may be.
type need struct {
	what  string
	names []string
}

// find returns the first of names that a package brings.
func (all tree) find(names []string, have map[string]bool) (string, bool) {
	for _, p := range names {
		if _, ok := all[p]; ok || have[p] {
			return p, true
		}
	}
	return "", false
}

// linked returns what the ELF file f says it needs; nothing if it is none.
func linked(f File) ([]need, error) {
	if f.Source == "" || !f.Mode.IsRegular() {
		return nil, nil
	}
	r, err := os.Open(f.Source)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	magic := make([]byte, len(elf.ELFMAG))
	if _, err := r.ReadAt(magic, 0); err != nil || string(magic) != elf.ELFMAG {
		return nil, nil //nolint:nilerr // shorter than the magic: no ELF file
	}
	e, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Source, err)
	}
	var needs []need
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			b := make([]byte, p.Filesz)
			if _, err := p.ReadAt(b, 0); err != nil {
				return nil, fmt.Errorf("%s: read its loader: %w", f.Source, err)
			}
			name := merged(strings.TrimRight(string(b), "\x00"))
			needs = append(needs, need{name, []string{name}})
		}
	}
	var dirs []string
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		paths, err := e.DynString(tag)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Source, err)
		}
		for _, list := range paths {
			for _, dir := range filepath.SplitList(list) {
				dirs = append(dirs, merged(strings.ReplaceAll(dir, "$ORIGIN", "/"+path.Dir(f.Path))))
			}
		}
	}
	libraries, err := e.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Source, err)
	}
	for _, name := range libraries {
		n := need{what: name}
		for _, dir := range append(slices.Clone(dirs), libraryPath...) {
			n.names = append(n.names, dir+"/"+name)
		}
		needs = append(needs, n)
	}
	return needs, nil
}

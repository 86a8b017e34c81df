// Package root chooses what goes into the image's file system and writes it as
// an initramfs: files of Debian packages with the libraries that they need,
// kernel modules with what they depend on, our program, the emergency shell's
// commands and the few files of /etc. The tables files.txt, modules.txt and
// commands.go say what is chosen. It changes nothing on the host and needs no
// root. Start reading at Build.
package root

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"komainu/images/debs"
	"komainu/images/layout"
)

// A File is one entry of the image.
type File struct {
	Path   string      // without the leading slash, of a merged /usr
	Mode   fs.FileMode // type and permissions
	UID    int         // owner and group
	Source string      // on the host; empty: Data
	Data   []byte
	Link   string // of a symbolic link
	Major  int    // of a device node
	Minor  int
	Group  string // what it is there for: postgres, charon, modules, ...

	Package  string // of Debian, that it comes from
	volatile bool   // another in the next build though the packages are the same
}

// Config says what Build builds.
type Config struct {
	Packages []debs.Package // of debs.Fetch(debs.Names())
	Program  string         // our static binary on the host
	Keys     string         // folder on the host with NAME.pub
	Build    layout.Build   // Kernel is filled in
	Add      []File         // more files, which replace others of the same path
	Cache    string         // folder for what takes long to build
	Tell     func(string)   // progress
}

// A Root is the chosen file system.
type Root struct {
	Files   []File // sorted by path, folders before what they hold
	Kernel  string // vmlinuz on the host
	Build   layout.Build
	Modules []string // names of the modules, sorted

	packaged int64 // when the newest of the packages' files was made, s since 1970
}

// Build chooses the files. An error names the table to change.
func Build(ctx context.Context, cfg Config) (Root, error) {
	i := slices.IndexFunc(cfg.Packages, func(p debs.Package) bool { return strings.HasPrefix(p.Name, "linux-image-") })
	if i < 0 {
		return Root{}, errors.New("no kernel among the packages")
	}
	release, err := cfg.Packages[i].Release()
	if err != nil {
		return Root{}, err
	}
	r := Root{Kernel: filepath.Join(cfg.Packages[i].Tree, "boot/vmlinuz-"+release), Build: cfg.Build}
	r.Build.Kernel = release

	all, newest, err := index(cfg.Packages)
	if err != nil {
		return Root{}, err
	}
	r.packaged = newest
	files, err := choose(all, fileTable)
	if err != nil {
		return Root{}, err
	}
	if files, err = withLibraries(all, files); err != nil {
		return Root{}, err
	}
	mods, names, err := modules(filepath.Join(cfg.Packages[i].Tree, "lib/modules", release), release, moduleTable)
	if err != nil {
		return Root{}, err
	}
	r.Modules = names
	files = append(files, mods...)
	shell, commands, err := userland(ctx, cfg.Cache, cfg.Tell)
	if err != nil {
		return Root{}, err
	}
	files = append(files, shellFiles(shell, commands, files)...)
	ours, err := own(cfg, r.Build)
	if err != nil {
		return Root{}, err
	}
	files = append(files, ours...)
	files = append(files, static...)
	r.Files, err = finish(files, cfg.Add)
	return r, err
}

// shellFiles puts the emergency shell's commands into bbin, with links in bin
// where nothing else has the name.
func shellFiles(program string, commands []string, have []File) []File {
	taken := make(map[string]bool)
	for _, f := range have {
		taken[f.Path] = true
	}
	files := []File{{Path: "bbin/bb", Mode: 0o755, Source: program, Group: "shell"}}
	for _, name := range commands {
		files = append(files, File{Path: "bbin/" + name, Mode: fs.ModeSymlink | 0o777, Link: "bb", Group: "shell"})
		if !taken["usr/bin/"+name] && !taken["usr/sbin/"+name] {
			files = append(files, File{Path: "usr/bin/" + name, Mode: fs.ModeSymlink | 0o777, Link: "/bbin/bb", Group: "shell"})
		}
	}
	return files
}

// own are our program with its links, the keys, and what the box knows of its build.
func own(cfg Config, build layout.Build) ([]File, error) {
	about, err := json.MarshalIndent(build, "", "\t")
	if err != nil {
		return nil, err
	}
	files := []File{
		{Path: "usr" + layout.Program, Mode: 0o755, Source: cfg.Program},
		{Path: "init", Mode: fs.ModeSymlink | 0o777, Link: layout.Program},
		{Path: "usr/sbin/modprobe", Mode: fs.ModeSymlink | 0o777, Link: layout.Program},
		{Path: strings.TrimPrefix(layout.BuildFile, "/"), Mode: 0o644, Data: append(about, '\n')},
	}
	keys, err := filepath.Glob(filepath.Join(cfg.Keys, "*.pub"))
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no public key NAME.pub in %s: the box could never be updated", cfg.Keys)
	}
	for _, key := range keys {
		files = append(files, File{Path: strings.TrimPrefix(layout.Keys, "/") + "/" + filepath.Base(key), Mode: 0o644, Source: key})
	}
	for i := range files {
		files[i].Group, files[i].volatile = "komainu", true
	}
	return files, nil
}

// finish sorts, adds the folders that are missing, and refuses two files of one path.
func finish(files, add []File) ([]File, error) {
	byPath := make(map[string]File)
	for _, f := range files {
		if _, ok := byPath[f.Path]; ok {
			return nil, fmt.Errorf("two parts of the image bring /%s", f.Path)
		}
		byPath[f.Path] = f
	}
	for _, f := range add {
		f.Path, f.Group, f.volatile = merged(f.Path), "added", true
		byPath[f.Path] = f
	}
	for p := range byPath {
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			if _, ok := byPath[dir]; !ok {
				byPath[dir] = File{Path: dir, Mode: fs.ModeDir | 0o755, Group: "system"}
			}
		}
	}
	out := make([]File, 0, len(byPath))
	for _, f := range byPath {
		out = append(out, f)
	}
	sortFiles(out)
	for _, f := range out {
		if f.Source == "" || f.Mode.Type() != 0 {
			continue
		}
		info, err := os.Stat(f.Source)
		if err != nil {
			return nil, fmt.Errorf("/%s of the image: %w", f.Path, err)
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("/%s of the image: %s is not a file", f.Path, f.Source)
		}
	}
	return out, nil
}

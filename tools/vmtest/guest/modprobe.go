package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"komainu/tools/vmtest/job"
	"komainu/tools/vmtest/modules"
)

// moduleLink leads to all modules once the host's root is mounted.
const moduleLink = "/all-modules"

// loader loads modules from one folder.
type loader struct {
	dir  string
	deps modules.Deps
}

func newLoader(dir string) (*loader, error) {
	f, err := os.Open(job.DepFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	deps, err := modules.ReadDeps(f)
	if err != nil {
		return nil, err
	}
	return &loader{dir, deps}, nil
}

// load loads modules by name with all that they need. Names that are not
// modules are built in: the host has checked that.
func (l *loader) load(names []string) error {
	files, _ := l.deps.Files(names...)
	for _, file := range files {
		if err := insert(filepath.Join(l.dir, file)); err != nil {
			return err
		}
	}
	return nil
}

func insert(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("load module: %w", err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", file, err)
	}
	return nil
}

// modprobe is what the kernel calls: modprobe -q -- NAME, where NAME is an
// alias such as crypto-crc32c or a module. Of several modules for one alias
// one is enough (others may need a processor feature that is not there).
func modprobe(args []string) error {
	var name string
	for _, a := range args {
		if !strings.HasPrefix(a, "-") {
			name = a
			break
		}
	}
	dir := moduleLink
	if _, err := os.Stat(dir); err != nil {
		dir = job.ModuleRoot
	}
	l, err := newLoader(dir)
	if err != nil {
		return err
	}
	if files, _ := l.deps.Files(name); len(files) > 0 {
		return l.load([]string{name})
	}
	f, err := os.Open(job.AliasFile)
	if err != nil {
		return err
	}
	defer f.Close()
	names, err := modules.Resolve(f, name)
	if err != nil {
		return err
	}
	errs := []error{fmt.Errorf("modprobe: nothing is called %s", name)}
	loaded := false
	for _, n := range names {
		if err := l.load([]string{n}); err != nil {
			errs = append(errs, err)
		} else {
			loaded = true
		}
	}
	if loaded {
		return nil
	}
	return errors.Join(errs...)
}

// Package kmod loads kernel modules: by name, by an alias of the kernel, for
// the devices that are there (ColdPlug) and for those that come (Run). It reads
// what depmod wrote beside the modules (modules.dep(5)). Which modules exist is
// the image's decision; it never unloads one. Start reading at Loader.
package kmod

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrUnknown says that no module and no alias has the name asked for: the
// usual answer for a device without a driver in the image.
var ErrUnknown = errors.New("no such module")

// Loader loads modules of one folder, one at a time. It is safe for concurrent use.
type Loader struct {
	dir     string
	deps    Deps
	builtin map[string]bool
	soft    map[string]softdep
	aliases []byte

	mu     sync.Mutex
	done   map[string]error // by file: nil is loaded
	known  map[string]error // by name or alias: what Load said
	insert func(file string) error
}

// softdep are names of modules that should be loaded before and behind another.
type softdep struct{ pre, post []string }

// Open reads the index of dir, /lib/modules/RELEASE. Only modules.dep has to be there.
func Open(dir string) (*Loader, error) {
	l := &Loader{dir: dir, done: make(map[string]error), known: make(map[string]error), insert: insert}
	f, err := os.Open(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("index of the kernel's modules: %w", err)
	}
	defer f.Close()
	if l.deps, err = ReadDeps(f); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	if l.aliases, err = optional(dir, "modules.alias"); err != nil {
		return nil, err
	}
	builtin, err := optional(dir, "modules.builtin")
	if err != nil {
		return nil, err
	}
	l.builtin = make(map[string]bool)
	for line := range strings.Lines(string(builtin)) {
		l.builtin[Name(strings.TrimSpace(line))] = true
	}
	soft, err := optional(dir, "modules.softdep")
	if err != nil {
		return nil, err
	}
	l.soft = readSoft(string(soft))
	return l, nil
}

// Release is the name of the running kernel, as in /lib/modules/RELEASE.
func Release() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

func optional(dir, name string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// readSoft reads modules.softdep: "softdep NAME pre: A B post: C".
func readSoft(text string) map[string]softdep {
	soft := make(map[string]softdep)
	in := bufio.NewScanner(strings.NewReader(text))
	for in.Scan() {
		f := strings.Fields(in.Text())
		if len(f) < 3 || f[0] != "softdep" {
			continue
		}
		d, to := soft[Name(f[1])], ""
		for _, w := range f[2:] {
			switch {
			case w == "pre:" || w == "post:":
				to = w
			case to == "pre:":
				d.pre = append(d.pre, w)
			case to == "post:":
				d.post = append(d.post, w)
			}
		}
		soft[Name(f[1])] = d
	}
	return soft
}

// Load loads what name stands for, a module or an alias, with all that it
// needs; what is loaded or built in is fine. Of several modules for one alias
// one has to load: others may need a processor feature that isn't there. The
// answer is remembered, so a device that comes and goes costs nothing.
// ErrUnknown: nothing is called that.
func (l *Loader) Load(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err, ok := l.known[name]
	if !ok {
		err = l.load(name)
		l.known[name] = err
	}
	return err
}

func (l *Loader) load(name string) error {
	if _, ok := l.deps[Name(name)]; ok {
		return l.loadModule(Name(name), true)
	}
	if l.builtin[Name(name)] {
		return nil
	}
	var errs []error
	loaded := false
	for _, n := range Resolve(l.aliases, name) {
		switch err := l.loadModule(Name(n), true); {
		case err == nil:
			loaded = true
		case !errors.Is(err, ErrUnknown):
			errs = append(errs, err)
		}
	}
	switch {
	case loaded:
		return nil
	case errs == nil:
		return fmt.Errorf("%q: %w", name, ErrUnknown)
	}
	return errors.Join(errs...)
}

// loadModule loads one module; soft dependencies of soft dependencies are left
// out: depmod doesn't hold them free of cycles.
func (l *Loader) loadModule(name string, soft bool) error {
	if l.builtin[name] {
		return nil
	}
	files, missing := l.deps.Files(name)
	if missing != nil {
		return fmt.Errorf("%q: %w", name, ErrUnknown)
	}
	if soft {
		l.loadSoft(l.soft[name].pre)
	}
	for _, file := range files {
		err, tried := l.done[file]
		if !tried {
			err = l.insert(filepath.Join(l.dir, file))
			l.done[file] = err
		}
		if err != nil {
			return err
		}
	}
	if soft {
		l.loadSoft(l.soft[name].post)
	}
	return nil
}

// loadSoft loads what another module can do without.
func (l *Loader) loadSoft(names []string) {
	for _, n := range names {
		_ = l.loadModule(Name(n), false) // soft: allowed to be missing or to fail
	}
}

// insert is finit_module(2) of an uncompressed module.
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

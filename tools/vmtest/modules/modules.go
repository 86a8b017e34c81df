// Package modules reads what depmod wrote, modules.dep and modules.alias (see
// kmod's modules.dep(5)), and says which files to load in which order.
package modules

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Deps maps a module's name to its file and the files that it needs.
type Deps map[string]entry

type entry struct {
	file  string
	needs []string // as depmod orders them: the last is loaded first
}

// Name is a module's name: dashes and underscores are the same to the kernel.
func Name(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// ReadDeps reads modules.dep.
func ReadDeps(r io.Reader) (Deps, error) {
	deps := make(Deps)
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		file, needs, ok := strings.Cut(in.Text(), ":")
		if !ok {
			return nil, fmt.Errorf("modules.dep: %q has no colon", in.Text())
		}
		deps[Name(file)] = entry{file, strings.Fields(needs)}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("read modules.dep: %w", err)
	}
	return deps, nil
}

// Files returns the files of the named modules with all that they need, in
// loading order, each once. Names that modules.dep doesn't know come back in
// missing: they are built in, or don't exist.
func (d Deps) Files(names ...string) (files, missing []string) {
	seen := make(map[string]bool)
	add := func(file string) {
		if !seen[file] {
			seen[file] = true
			files = append(files, file)
		}
	}
	for _, name := range names {
		e, ok := d[Name(name)]
		if !ok {
			missing = append(missing, name)
			continue
		}
		for _, need := range slices.Backward(e.needs) {
			add(need)
		}
		add(e.file)
	}
	return files, missing
}

// Resolve returns the names of the modules that answer to alias in
// modules.alias, where aliases are shell patterns.
func Resolve(r io.Reader, alias string) ([]string, error) {
	var names []string
	in := bufio.NewScanner(r)
	for in.Scan() {
		f := strings.Fields(in.Text())
		if len(f) != 3 || f[0] != "alias" {
			continue
		}
		if ok, err := path.Match(f[1], alias); err == nil && ok {
			names = append(names, f[2])
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("read modules.alias: %w", err)
	}
	return names, nil
}

package kmod

import (
	"bufio"
	"bytes"
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

// Resolve returns the names of the modules that answer to alias in text, a
// modules.alias, where aliases are shell patterns.
func Resolve(text []byte, alias string) []string {
	var names []string
	for line := range bytes.Lines(text) {
		pattern, ok := bytes.CutPrefix(line, []byte("alias "))
		// Most start with another letter.
		if !ok || alias == "" || len(pattern) == 0 || pattern[0] != alias[0] && 'a' <= pattern[0] && pattern[0] <= 'z' {
			continue
		}
		end := bytes.LastIndexByte(pattern, ' ') // a pattern may hold spaces
		if end < 0 || !matches(pattern[:end], alias) {
			continue
		}
		names = append(names, string(bytes.TrimSpace(pattern[end:])))
	}
	return names
}

// matches is fnmatch(3) without flags, but dash and underscore are the same
// outside of brackets, as to modprobe. Tens of thousands of patterns pass here
// for one question of the kernel: nothing is allocated.
func matches(pattern []byte, s string) bool {
	star, again := -1, 0 // where to go on when the rest doesn't fit
	p, i := 0, 0
	for i < len(s) {
		if p < len(pattern) && pattern[p] == '*' {
			star, again = p, i
			p++
			continue
		}
		if next, ok := matchOne(pattern, p, s[i]); ok {
			p, i = next, i+1
			continue
		}
		if star < 0 {
			return false
		}
		again++
		p, i = star+1, again
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchOne fits one character to the pattern at p, and says where it goes on.
func matchOne(pattern []byte, p int, c byte) (next int, ok bool) {
	if p == len(pattern) {
		return p, false
	}
	switch pattern[p] {
	case '?':
		return p + 1, true
	case '[':
		end := bytes.IndexByte(pattern[p:], ']')
		if end < 0 {
			return p, false
		}
		return p + end + 1, inSet(pattern[p+1:p+end], c)
	}
	return p + 1, dashed(pattern[p]) == dashed(c)
}

func inSet(set []byte, c byte) bool {
	negated := len(set) > 0 && (set[0] == '!' || set[0] == '^')
	if negated {
		set = set[1:]
	}
	for len(set) > 0 {
		low, high := set[0], set[0]
		set = set[1:]
		if len(set) > 1 && set[0] == '-' {
			high, set = set[1], set[2:]
		}
		if low <= c && c <= high {
			return !negated
		}
	}
	return negated
}

func dashed(c byte) byte {
	if c == '-' {
		return '_'
	}
	return c
}

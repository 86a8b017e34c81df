// Package pstore takes what a dying kernel left where memory survives a reset
// (kernel: Documentation/ABI/testing/pstore). A machine without it is normal.
// Start reading at Take.
package pstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Dir is where the kernel shows its records.
const Dir = "/sys/fs/pstore"

// Bounds of what is kept.
const (
	Keep      = 5        // dumps
	KeepBytes = 64 << 10 // the last bytes of each
)

// Take reads the dump in dir, the records dmesg-*, removes them (which frees
// the room for the next one) and gives its last KeepBytes bytes in the order in
// which the kernel printed them; empty: there is none. What can't be read is
// removed all the same and told by the error, beside what could be.
func Take(dir string) (string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "dmesg-*"))
	if err != nil || len(names) == 0 {
		return "", err
	}
	// A dump is cut into parts, the last lines in Part1; backends number the
	// files upwards with them: dmesg-efi_pstore-172000000001001 is part 1.
	slices.SortFunc(names, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(b, a)
	})
	var all strings.Builder
	var errs []error
	for _, name := range names {
		b, err := os.ReadFile(name)
		errs = append(errs, err, os.Remove(name))
		_, body, ok := strings.Cut(string(b), "\n") // "Panic#1 Part1"
		if !ok {
			body = string(b)
		}
		all.WriteString(body)
	}
	text := tail(all.String(), KeepBytes)
	if err := errors.Join(errs...); err != nil {
		return text, fmt.Errorf("take the kernel's last lines: %w", err)
	}
	return text, nil
}

// Save keeps a dump as dir/crash-N.txt, numbered upwards; older ones beyond
// Keep are removed. write makes the file durable.
func Save(dir, text string, write func(path string, data []byte) error) (string, error) {
	have, err := saved(dir)
	if err != nil {
		return "", err
	}
	n := 1
	if len(have) > 0 {
		n = have[len(have)-1] + 1
	}
	path := crashFile(dir, n)
	if err := write(path, []byte(text)); err != nil {
		return "", fmt.Errorf("keep the kernel's last lines: %w", err)
	}
	have = append(have, n)
	for _, old := range have[:max(0, len(have)-Keep)] {
		if err := os.Remove(crashFile(dir, old)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return path, fmt.Errorf("remove an old dump: %w", err)
		}
	}
	return path, nil
}

func crashFile(dir string, n int) string {
	return filepath.Join(dir, "crash-"+strconv.Itoa(n)+".txt")
}

// saved are the numbers of the kept dumps, lowest first.
func saved(dir string) ([]int, error) {
	names, err := filepath.Glob(filepath.Join(dir, "crash-*.txt"))
	if err != nil {
		return nil, err
	}
	var all []int
	for _, name := range names {
		s := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), "crash-"), ".txt")
		if n, err := strconv.Atoi(s); err == nil && n > 0 {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all, nil
}

// Cause is the line of a dump that says why the kernel gave up, which stands
// before the registers: the panic's, else that of the first fault; "" without one.
func Cause(dump string) string {
	fault := ""
	for line := range strings.Lines(dump) {
		switch line = strings.TrimSpace(line); {
		case strings.Contains(line, "Kernel panic - not syncing"): // kernel/panic.c
			return line
		case fault == "" && (strings.Contains(line, "BUG: ") || strings.Contains(line, "Oops: ")):
			fault = line
		}
	}
	return fault
}

// Tail is the last n whole lines of text.
func Tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// tail is the last n bytes, from the beginning of a line if one begins there.
func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	s = s[len(s)-n:]
	if _, rest, ok := strings.Cut(s, "\n"); ok {
		return rest
	}
	return s
}

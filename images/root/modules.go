package root

import (
	"bytes"
	_ "embed" // modules.txt
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"komainu/drivers/kmod"
	"komainu/images/layout"
)

//go:embed modules.txt
var moduleTable string

// modules returns the modules that the table names with what they depend on,
// and the indexes cut down to them. dir is the kernel's lib/modules/RELEASE.
// The files keep Debian's signatures: under secure boot nothing else loads.
func modules(dir, release, table string) (files []File, names []string, err error) {
	text, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, nil, err
	}
	deps, err := kmod.ReadDeps(bytes.NewReader(text))
	if err != nil {
		return nil, nil, err
	}
	builtin, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, nil, err
	}
	in := make(map[string]bool)
	for line := range strings.Lines(string(builtin)) {
		in[kmod.Name(strings.TrimSpace(line))] = true
	}
	wanted, err := expand(table, text, in)
	if err != nil {
		return nil, nil, err
	}
	soft, err := os.ReadFile(filepath.Join(dir, "modules.softdep"))
	if err != nil {
		return nil, nil, err
	}
	wanted = withSoft(wanted, soft)
	chosen, _ := deps.Files(wanted...) // what is missing now is built in

	into := strings.TrimPrefix(merged(layout.Modules), "/") + "/" + release + "/"
	have := make(map[string]bool)
	for _, file := range chosen {
		name := kmod.Name(file)
		have[name] = true
		names = append(names, name)
		files = append(files, File{Path: into + file, Mode: 0o644, Source: filepath.Join(dir, file), Group: "modules", Package: "linux-image-" + release})
	}
	slices.Sort(names)
	for _, cut := range []struct {
		file string
		keep func(line string) bool
	}{
		{"modules.dep", func(line string) bool {
			file, _, _ := strings.Cut(line, ":")
			return have[kmod.Name(file)]
		}},
		{"modules.alias", func(line string) bool {
			f := strings.Fields(line)
			return len(f) > 2 && f[0] == "alias" && have[f[len(f)-1]]
		}},
		{"modules.softdep", func(line string) bool {
			f := strings.Fields(line)
			return len(f) > 1 && f[0] == "softdep" && have[kmod.Name(f[1])]
		}},
		{"modules.builtin", func(string) bool { return true }},
	} {
		text, err := os.ReadFile(filepath.Join(dir, cut.file))
		if err != nil {
			return nil, nil, err
		}
		var out strings.Builder
		for line := range strings.Lines(string(text)) {
			if cut.keep(line) {
				out.WriteString(line)
			}
		}
		files = append(files, File{Path: into + cut.file, Mode: 0o644, Data: []byte(out.String()), Group: "modules"})
	}
	return files, names, nil
}

// expand returns the modules that the table names. A name that fits neither a
// module nor anything built in is an error: else a card would go missing with
// the next kernel and nobody would know.
func expand(table string, dep []byte, builtin map[string]bool) ([]string, error) {
	var all []string
	for line := range strings.Lines(string(dep)) {
		file, _, _ := strings.Cut(line, ":")
		all = append(all, kmod.Name(file))
	}
	var names []string
	var errs []error
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		for _, pattern := range strings.Fields(line) {
			pattern = strings.ReplaceAll(pattern, "-", "_")
			n := len(names)
			for _, name := range all {
				if ok, err := path.Match(pattern, name); ok && err == nil {
					names = append(names, name)
				}
			}
			if n == len(names) && !builtin[pattern] {
				errs = append(errs, fmt.Errorf("the kernel has no module %s, which modules.txt names", pattern))
			}
		}
	}
	return names, errors.Join(errs...)
}

// withSoft adds what modules.softdep wants beside the named ones.
func withSoft(names []string, text []byte) []string {
	soft := make(map[string][]string)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "softdep" {
			for _, w := range f[2:] {
				if !strings.HasSuffix(w, ":") { // pre: and post:
					soft[kmod.Name(f[1])] = append(soft[kmod.Name(f[1])], w)
				}
			}
		}
	}
	out := slices.Clone(names)
	for i := 0; i < len(out); i++ { // grows
		for _, more := range soft[out[i]] {
			if name := kmod.Name(more); !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

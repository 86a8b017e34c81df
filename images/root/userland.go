package root

import (
	"context"
	"crypto/sha256"
	_ "embed" // commands.go
	"encoding/hex"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/u-root/gobusybox/src/pkg/bb"
	"github.com/u-root/gobusybox/src/pkg/golang"
	"github.com/u-root/uio/ulog"
)

//go:embed commands.go
var commandFile []byte

// commandPackages lists the import paths of commands.go.
func commandPackages() ([]string, error) {
	f, err := parser.ParseFile(token.NewFileSet(), "commands.go", commandFile, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, spec := range f.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		paths = append(paths, p)
	}
	return paths, nil
}

// userland returns the program that holds the commands of the emergency shell;
// its name when it is called says which one. It takes a minute to build and
// stays in cache until the list, its modules or Go change. The working
// directory must lie in our module.
func userland(ctx context.Context, cache string, progress func(string)) (file string, commands []string, err error) {
	if cache, err = filepath.Abs(cache); err != nil { // what builds it runs elsewhere
		return "", nil, err
	}
	packages, err := commandPackages()
	if err != nil {
		return "", nil, err
	}
	for _, p := range packages {
		commands = append(commands, filepath.Base(p))
	}
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", nil, fmt.Errorf("find our module: %w", err)
	}
	sum := sha256.New()
	sum.Write(commandFile)
	sum.Write([]byte(runtime.Version()))
	for _, name := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(string(mod)), name))
		if err != nil {
			return "", nil, fmt.Errorf("build the emergency shell's commands from within the module: %w", err)
		}
		sum.Write(b)
	}
	file = filepath.Join(cache, "userland-"+hex.EncodeToString(sum.Sum(nil)[:8]))
	if _, err := os.Stat(file); err == nil {
		return file, commands, nil
	}
	progress(fmt.Sprintf("building %d commands of the emergency shell, once, about a minute", len(commands)))
	source, err := os.MkdirTemp("", "userland-")
	if err != nil {
		return "", nil, err
	}
	defer os.RemoveAll(source)
	part := filepath.Join(cache, filepath.Base(source)+".part") // another build may make one at the same time
	err = bb.BuildBusybox(ulog.Null, &bb.Opts{
		Env:          golang.Default(golang.DisableCGO(), golang.WithGOOS("linux"), golang.WithGOARCH("amd64")),
		GenSrcDir:    source,
		CommandPaths: packages,
		BinaryPath:   part,
		GoBuildOpts:  &golang.BuildOpts{EnableInlining: true},
	})
	if err != nil {
		return "", nil, fmt.Errorf("build the emergency shell's commands: %w", err)
	}
	old, err := filepath.Glob(filepath.Join(cache, "userland-*[0-9a-f]"))
	if err != nil {
		return "", nil, err
	}
	for _, f := range old {
		if err := os.Remove(f); err != nil {
			return "", nil, err
		}
	}
	return file, commands, os.Rename(part, file)
}

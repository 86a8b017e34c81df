package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed" // modules.txt
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"komainu/drivers/kmod"
	"komainu/images/debs"
)

// kernel is an unpacked Debian kernel package.
type kernel struct {
	release string // as uname -r prints it
	image   string // vmlinuz
	modules string // the folder with modules.dep
}

// fetchKernel returns the kernel that the distribution's meta package names
// today, and makes dir. The packages lie where the builder of the image has them.
func fetchKernel(ctx context.Context, dir string) (kernel, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return kernel{}, err
	}
	got, err := debs.Fetch(ctx, filepath.Join(filepath.Dir(dir), "image/debs"), []string{debs.Kernel}, func(s string) { fmt.Println("vmtest:", s) })
	if err != nil {
		return kernel{}, err
	}
	release, err := got[0].Release()
	if err != nil {
		return kernel{}, err
	}
	return kernel{
		release: release,
		image:   filepath.Join(got[0].Tree, "boot/vmlinuz-"+release),
		modules: filepath.Join(got[0].Tree, "lib/modules", release),
	}, nil
}

// output runs a command and returns what it prints; its complaints go into the error.
func output(ctx context.Context, dir string, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // what is built for the guest has to be static
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", strings.Join(argv, " "), err, out.Bytes(), errs.Bytes())
	}
	return out.String(), nil
}

// bootModules are what it takes to mount the host's root and to be heard.
var bootModules = []string{"9p", "9pnet_virtio", "overlay", "virtio_console", "virtio_pci"}

//go:embed modules.txt
var moduleList string

// moduleNames returns the modules for before and after the host's root is
// mounted. One that is neither a module nor built in is an error: a list that
// quietly loads less would make tests skip.
func moduleNames(k kernel) (boot, later []string, err error) {
	for line := range strings.Lines(moduleList) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			later = append(later, line)
		}
	}
	deps, err := readDeps(k)
	if err != nil {
		return nil, nil, err
	}
	builtin, err := os.Open(filepath.Join(k.modules, "modules.builtin"))
	if err != nil {
		return nil, nil, err
	}
	defer builtin.Close()
	in := make(map[string]bool)
	for s := bufio.NewScanner(builtin); s.Scan(); {
		in[kmod.Name(s.Text())] = true
	}
	_, missing := deps.Files(append(append([]string{}, bootModules...), later...)...)
	for _, name := range missing {
		if !in[name] {
			return nil, nil, fmt.Errorf("kernel %s has no module %s", k.release, name)
		}
	}
	return bootModules, later, nil
}

func readDeps(k kernel) (kmod.Deps, error) {
	f, err := os.Open(filepath.Join(k.modules, "modules.dep"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return kmod.ReadDeps(f)
}

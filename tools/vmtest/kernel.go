package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed" // modules.txt
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"komainu/drivers/kmod"
)

// kernel is an unpacked Debian kernel package.
type kernel struct {
	release string // as uname -r prints it
	image   string // vmlinuz
	modules string // the folder with modules.dep
}

// fetchKernel returns the kernel that the distribution's meta package names
// today, and downloads it unless it is there. The version is never pinned: the
// archive drops old ones. Without an answer from apt the newest one that is
// there has to do.
func fetchKernel(ctx context.Context, dir string) (kernel, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return kernel{}, err
	}
	name, err := kernelPackage(ctx)
	if err != nil {
		have, gerr := filepath.Glob(filepath.Join(dir, "linux-image-*", "lib/modules/*/modules.dep"))
		if gerr != nil || len(have) == 0 {
			return kernel{}, err
		}
		name, _, _ = strings.Cut(strings.TrimPrefix(have[len(have)-1], dir+"/"), "/")
	}
	k := kernel{release: strings.TrimPrefix(name, "linux-image-")}
	root := filepath.Join(dir, name)
	k.image = filepath.Join(root, "boot/vmlinuz-"+k.release)
	k.modules = filepath.Join(root, "lib/modules", k.release)
	if _, err := os.Stat(root); err == nil {
		return k, nil
	}
	fmt.Printf("vmtest: fetching %s, once\n", name)
	part, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		return kernel{}, err
	}
	defer os.RemoveAll(part)
	if err := download(ctx, part, name); err != nil {
		return kernel{}, err
	}
	deb, err := filepath.Glob(filepath.Join(part, name+"_*.deb"))
	if err != nil || len(deb) != 1 {
		return kernel{}, fmt.Errorf("apt-get download %s left %d packages: %w", name, len(deb), err)
	}
	tree := filepath.Join(part, "root")
	for _, argv := range [][]string{
		{"dpkg-deb", "-x", deb[0], tree},
		{"depmod", "-b", tree, k.release}, // the package leaves it to the machine that installs it
	} {
		if _, err := output(ctx, part, argv...); err != nil {
			return kernel{}, err
		}
	}
	// One rename: whoever finds the folder finds it whole. Another run that was
	// quicker is as good.
	if err := os.Rename(tree, root); err != nil && !errors.Is(err, os.ErrExist) {
		return kernel{}, err
	}
	return k, nil
}

// download gets one package; if apt doesn't know where, it asks anew once.
func download(ctx context.Context, dir, name string) error {
	_, err := output(ctx, dir, "apt-get", "-q", "download", name)
	if err == nil || os.Getuid() != 0 {
		return err
	}
	if _, uerr := output(ctx, dir, "apt-get", "-q", "update"); uerr != nil {
		return errors.Join(err, uerr)
	}
	_, err = output(ctx, dir, "apt-get", "-q", "download", name)
	return err
}

// kernelPackage resolves linux-image-amd64 to the package that it depends on.
func kernelPackage(ctx context.Context) (string, error) {
	text, err := output(ctx, "", "apt-cache", "depends", "--important", "linux-image-amd64")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: linux-image-"); ok {
			return "linux-image-" + name, nil
		}
	}
	return "", errors.New("apt knows no linux-image-amd64: run apt-get update as root; only Debian's kernel is supported")
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

// Package debs fetches Debian packages with apt-get and unpacks them, without
// installing them and without root. It takes the version that the archive names
// today: the archive drops old ones, so a pinned version would break the next
// clone. Start reading at Fetch.
package debs

import (
	"context"
	"crypto/sha256"
	_ "embed" // packages
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Kernel is the meta package that stands for Debian's current kernel.
const Kernel = "linux-image-amd64"

// Package is one unpacked package.
type Package struct {
	Name    string
	Version string
	SHA256  string // of the .deb, hexadecimal
	Tree    string // folder that holds its files
}

//go:embed packages
var table string

// Names are the packages of the image, as the table "packages" lists them.
func Names() []string {
	var names []string
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) > 0 && f[0] != "#" {
			names = append(names, f[0])
		}
	}
	return names
}

// Fetch downloads what dir doesn't hold yet and unpacks it there. The result has
// the order of names; the package of Kernel is the one that it depends on. If
// apt can't say what is current or can't get it, the newest that is in dir has
// to do, and tell is called with a sentence that says so. tell is called for
// downloads too. Several programs may fetch into one dir at the same time.
func Fetch(ctx context.Context, dir string, names []string, tell func(string)) ([]Package, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	files, err := current(ctx, dir, names, tell)
	if err != nil && os.Getuid() == 0 {
		// A list that is too old names files which the archive no longer has.
		tell("asking the package archive what is current")
		if _, uerr := run(ctx, dir, "apt-get", "-q", "update"); uerr != nil {
			err = errors.Join(err, uerr)
		} else {
			files, err = current(ctx, dir, names, tell)
		}
	}
	if err != nil {
		old, cerr := cached(dir, names)
		if cerr != nil {
			return nil, errors.Join(err, cerr)
		}
		tell("NOTICE: the package archive can't be asked; the newest packages in " + dir + " have to do: " + err.Error())
		files = old
	}
	packages := make([]Package, len(files))
	for i, file := range files {
		if packages[i], err = unpack(ctx, dir, file); err != nil {
			return nil, err
		}
	}
	return packages, nil
}

// current returns the files that apt would take, which lie in dir afterwards.
func current(ctx context.Context, dir string, names []string, tell func(string)) ([]string, error) {
	wanted := make([]string, len(names))
	for i, name := range names {
		wanted[i] = name
		if name == Kernel {
			var err error
			if wanted[i], err = kernelPackage(ctx); err != nil {
				return nil, err
			}
		}
	}
	part, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(part)
	// In an empty folder: apt-get says nothing of what is there already.
	text, err := run(ctx, part, append([]string{"apt-get", "-q", "--print-uris", "download"}, wanted...)...)
	if err != nil {
		return nil, err
	}
	file := make(map[string]string) // by package
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) >= 3 && strings.HasSuffix(f[1], ".deb") {
			name, _, _ := strings.Cut(f[1], "_")
			file[name] = f[1]
		}
	}
	files := make([]string, len(wanted))
	var missing []string
	for i, name := range wanted {
		if files[i] = file[name]; files[i] == "" {
			return nil, fmt.Errorf("apt-get names no file for package %s", name)
		}
		if _, err := os.Stat(filepath.Join(dir, files[i])); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return files, nil
	}
	tell(fmt.Sprintf("fetching %d packages: %s", len(missing), strings.Join(missing, " ")))
	if _, err := run(ctx, part, append([]string{"apt-get", "-q", "download"}, missing...)...); err != nil {
		return nil, err
	}
	got, err := filepath.Glob(filepath.Join(part, "*.deb"))
	if err != nil {
		return nil, err
	}
	for _, deb := range got {
		if err := os.Rename(deb, filepath.Join(dir, filepath.Base(deb))); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// kernelPackage resolves Kernel to the package that it depends on.
func kernelPackage(ctx context.Context) (string, error) {
	text, err := run(ctx, "", "apt-cache", "depends", "--important", Kernel)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: linux-image-"); ok {
			return "linux-image-" + name, nil
		}
	}
	return "", fmt.Errorf("apt knows no %s: run apt-get update as root; only Debian's kernel is supported", Kernel)
}

// cached returns the newest file in dir for each name, by the archive's time,
// which apt keeps.
func cached(dir string, names []string) ([]string, error) {
	files := make([]string, len(names))
	for i, name := range names {
		pattern := name + "_*.deb"
		if name == Kernel {
			pattern = "linux-image-[0-9]*_*.deb"
		}
		have, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		var newest os.FileInfo
		for _, file := range have {
			info, err := os.Stat(file)
			if err != nil {
				return nil, err
			}
			if newest == nil || info.ModTime().After(newest.ModTime()) {
				newest = info
			}
		}
		if newest == nil {
			return nil, fmt.Errorf("package %s is not in %s", name, dir)
		}
		files[i] = newest.Name()
	}
	return files, nil
}

// unpack unpacks dir/file beside it, unless that was done.
func unpack(ctx context.Context, dir, file string) (Package, error) {
	deb := filepath.Join(dir, file)
	name, rest, _ := strings.Cut(strings.TrimSuffix(file, ".deb"), "_")
	version, _, ok := strings.Cut(rest, "_")
	if !ok {
		return Package{}, fmt.Errorf("%s is not named NAME_VERSION_ARCHITECTURE.deb", deb)
	}
	p := Package{Name: name, Version: strings.ReplaceAll(version, "%3a", ":"), Tree: strings.TrimSuffix(deb, ".deb")}
	f, err := os.Open(deb)
	if err != nil {
		return Package{}, err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return Package{}, fmt.Errorf("read %s: %w", deb, err)
	}
	p.SHA256 = hex.EncodeToString(sum.Sum(nil))
	if _, err := os.Stat(p.Tree); err == nil {
		return p, nil
	}
	part, err := os.MkdirTemp(dir, "unpack-")
	if err != nil {
		return Package{}, err
	}
	defer os.RemoveAll(part)
	tree := filepath.Join(part, "tree")
	if _, err := run(ctx, "", "dpkg-deb", "-x", deb, tree); err != nil {
		return Package{}, fmt.Errorf("%w; if the file is damaged, remove it", err)
	}
	releases, err := filepath.Glob(filepath.Join(tree, "lib/modules/*"))
	if err != nil {
		return Package{}, err
	}
	for _, r := range releases { // a kernel leaves this to the machine that installs it
		if _, err := run(ctx, "", "depmod", "-b", tree, filepath.Base(r)); err != nil {
			return Package{}, err
		}
	}
	// One rename: whoever finds the folder finds it whole. Another run that was
	// quicker is as good.
	if err := os.Rename(tree, p.Tree); err != nil && !errors.Is(err, os.ErrExist) {
		return Package{}, err
	}
	return p, nil
}

// Release is the release of the kernel that p holds, as uname -r prints it.
func (p Package) Release() (string, error) {
	release, ok := strings.CutPrefix(p.Name, "linux-image-")
	if !ok {
		return "", fmt.Errorf("package %s is no kernel", p.Name)
	}
	return release, nil
}

// run runs a command and returns what it prints; its complaints go into the error.
func run(ctx context.Context, dir string, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", strings.Join(argv, " "), err, out.String(), errs.String())
	}
	return out.String(), nil
}

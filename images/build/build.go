package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"komainu/images/debs"
	"komainu/images/layout"
	"komainu/images/root"
	"komainu/images/uki"
)

type options struct {
	out, version, keys, program string

	add  []root.File
	tell func(string)
}

// Files of the package systemd-boot-efi.
const (
	bootFolder = "usr/lib/systemd/boot/efi/"
	stubFile   = bootFolder + "linuxx64.efi.stub"
	loaderFile = bootFolder + "systemd-bootx64.efi"
)

func build(ctx context.Context, o options) error {
	work := filepath.Join(o.out, "image")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(work, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("wait for another build: %w", err)
	}
	about, err := describe(ctx, o.version)
	if err != nil {
		return err
	}
	if err := developmentKey(&o); err != nil {
		return err
	}
	if o.program == "" {
		o.tell("building komainu")
		o.program = filepath.Join(work, "komainu")
		if err := goBuild(ctx, o.program, "./appliance"); err != nil {
			return err
		}
	}
	packages, err := debs.Fetch(ctx, filepath.Join(work, "debs"), debs.Names(), o.tell)
	if err != nil {
		return err
	}
	r, err := root.Build(ctx, root.Config{
		Packages: packages, Program: o.program, Keys: o.keys, Build: about,
		Add: o.add, Cache: work, Tell: o.tell,
	})
	if err != nil {
		return err
	}
	stub, err := fromPackage(packages, bootPackage, stubFile)
	if err != nil {
		return err
	}
	loader, err := fromPackage(packages, bootPackage, loaderFile)
	if err != nil {
		return err
	}
	image, err := compose(ctx, work, r, stub, o.tell)
	if err != nil {
		return err
	}
	bill, err := billOfMaterials(ctx, r, packages)
	if err != nil {
		return err
	}
	return write(o, r, results{image: image, loader: loader, bill: bill})
}

func fromPackage(packages []debs.Package, name, file string) ([]byte, error) {
	for _, p := range packages {
		if p.Name == name {
			return os.ReadFile(filepath.Join(p.Tree, file))
		}
	}
	return nil, fmt.Errorf("images/debs/packages lacks %s, which brings %s", name, file)
}

// compose makes the unified kernel image. The initramfs and the kernel stay in
// work for those who start them without firmware.
func compose(ctx context.Context, work string, r root.Root, stub []byte, tell func(string)) ([]byte, error) {
	base, err := pack(ctx, work, "base", r.WriteBase, tell)
	if err != nil {
		return nil, err
	}
	top, err := pack(ctx, work, "top", r.WriteTop, tell)
	if err != nil {
		return nil, err
	}
	initrd := append(base, top...)
	if err := replace(filepath.Join(work, "initramfs.zst"), initrd); err != nil {
		return nil, err
	}
	kernel, err := os.ReadFile(r.Kernel)
	if err != nil {
		return nil, err
	}
	if err := replace(filepath.Join(work, "vmlinuz"), kernel); err != nil {
		return nil, err
	}
	var image bytes.Buffer
	err = uki.Write(&image, stub, uki.Sections{
		OSRelease: uki.OSRelease(r.Build), Cmdline: root.Cmdline, Uname: r.Build.Kernel, Initrd: initrd, Linux: kernel,
	})
	return image.Bytes(), err
}

// pack writes a part of the initramfs and compresses it, unless the last build
// compressed the same bytes. Level 19 is the best whose window (8 MiB) costs a
// small box no memory to speak of; one thread, so that the bytes don't depend on
// the machine.
func pack(ctx context.Context, work, name string, write func(io.Writer) error, tell func(string)) ([]byte, error) {
	raw := filepath.Join(work, name+".cpio")
	f, err := os.Create(raw)
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	err = write(io.MultiWriter(f, sum))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	packed := filepath.Join(work, name+"-"+hex.EncodeToString(sum.Sum(nil)[:8])+".zst")
	if b, err := os.ReadFile(packed); err == nil {
		return b, nil
	}
	old, err := filepath.Glob(filepath.Join(work, name+"-*.zst"))
	if err != nil {
		return nil, err
	}
	for _, file := range old {
		if err := os.Remove(file); err != nil {
			return nil, err
		}
	}
	tell("compressing " + raw)
	cmd := exec.CommandContext(ctx, "zstd", "-q", "-f", "--single-thread", "--no-check", "-19", "-o", packed+".part", raw)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("zstd: %w: %s", err, out)
	}
	if err := os.Rename(packed+".part", packed); err != nil {
		return nil, err
	}
	return os.ReadFile(packed)
}

// describe says what is being built, from the commit. SOURCE_DATE_EPOCH
// outranks its time (reproducible-builds.org).
func describe(ctx context.Context, version string) (layout.Build, error) {
	b := layout.Build{Machine: layout.Machine}
	out, gitErr := exec.CommandContext(ctx, "git", "log", "-1", "--format=%ct %H").Output()
	if gitErr == nil {
		if _, err := fmt.Sscan(string(out), &b.Unix, &b.Commit); err != nil {
			return b, fmt.Errorf("git log printed %q: %w", out, err)
		}
	}
	switch epoch := os.Getenv("SOURCE_DATE_EPOCH"); {
	case epoch != "":
		unix, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return b, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
		b.Unix = unix
	case gitErr != nil:
		return b, fmt.Errorf("the time of the commit is unknown, set SOURCE_DATE_EPOCH: %w", gitErr)
	}
	if version == "" {
		t := time.Unix(b.Unix, 0).UTC()
		version = fmt.Sprintf("%d.%d.%d.%d", t.Year(), t.Month(), t.Day(), 100*t.Hour()+t.Minute())
	}
	var err error
	b.Version, err = layout.ParseVersion(version)
	return b, err
}

// goBuild builds a static program whose bytes depend on the source and on Go only.
func goBuild(ctx context.Context, out, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1")
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, b)
	}
	return nil
}

// addition reads HOSTFILE:/path[:mode]; without a mode, that of the host's file.
func addition(s string) (root.File, error) {
	part := strings.Split(s, ":")
	if len(part) < 2 || len(part) > 3 || !strings.HasPrefix(part[1], "/") {
		return root.File{}, fmt.Errorf("want HOSTFILE:/path[:mode], not %q", s)
	}
	info, err := os.Stat(part[0])
	if err != nil {
		return root.File{}, err
	}
	f := root.File{Path: part[1], Source: part[0], Mode: info.Mode().Perm(), Group: "added"}
	if len(part) == 3 {
		mode, err := strconv.ParseUint(part[2], 8, 9)
		if err != nil {
			return root.File{}, fmt.Errorf("mode %q of %s: want 3 octal digits", part[2], part[1])
		}
		f.Mode = fs.FileMode(mode)
	}
	return f, nil
}

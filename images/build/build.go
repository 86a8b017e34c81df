package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

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

// stubFile is of the package systemd-boot-efi.
const stubFile = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"

func build(ctx context.Context, o options) error {
	work := filepath.Join(o.out, "image")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	about, err := describe(ctx, o.version)
	if err != nil {
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
	image, err := compose(ctx, work, r, o.tell)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(o.out, "komainu.efi"), image, 0o644); err != nil {
		return err
	}
	o.tell(fmt.Sprintf("komainu.efi: version %s, kernel %s, %.1f MB", r.Build.Version, r.Build.Kernel, float64(len(image))/1e6))
	return nil
}

// compose makes the unified kernel image. The initramfs stays in work for those
// who start the kernel without firmware.
func compose(ctx context.Context, work string, r root.Root, tell func(string)) ([]byte, error) {
	initramfs := filepath.Join(work, "initramfs")
	f, err := os.Create(initramfs)
	if err != nil {
		return nil, err
	}
	if err := r.WriteInitramfs(f); err != nil {
		_ = f.Close() // the first error counts
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	packed, err := compress(ctx, initramfs, tell)
	if err != nil {
		return nil, err
	}
	initrd, err := os.ReadFile(packed)
	if err != nil {
		return nil, err
	}
	kernel, err := os.ReadFile(r.Kernel)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(work, "vmlinuz"), kernel, 0o644); err != nil {
		return nil, err
	}
	stub, err := os.ReadFile(stubFile)
	if err != nil {
		return nil, fmt.Errorf("the boot stub is of the package systemd-boot-efi: %w", err)
	}
	var image bytes.Buffer
	err = uki.Write(&image, stub, uki.Sections{
		OSRelease: uki.OSRelease(r.Build), Cmdline: root.Cmdline, Uname: r.Build.Kernel, Initrd: initrd, Linux: kernel,
	})
	return image.Bytes(), err
}

// compress packs file with the best that the kernel unpacks, on one thread, so
// that the bytes don't depend on the machine. The window is as large as what the
// kernel takes (128 MiB).
func compress(ctx context.Context, file string, tell func(string)) (string, error) {
	tell("packing the initramfs, about a minute")
	packed := file + ".zst"
	cmd := exec.CommandContext(ctx, "zstd", "-q", "-f", "--single-thread", "--no-check", "-19", "-o", packed, file)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("zstd: %w: %s", err, out)
	}
	return packed, nil
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

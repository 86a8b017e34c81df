package boxes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"

	"github.com/u-root/u-root/pkg/cpio"

	"komainu/drivers/kmod"
	"komainu/images/debs"
	"komainu/images/disk"
	"komainu/images/layout"
	"komainu/images/uki"
)

// stub is what a unified kernel image begins with, of Debian's package
// systemd-boot-efi.
const stub = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// trivialBuild is what a trivial image says about itself.
var trivialBuild = layout.Build{Version: "1", Machine: layout.Machine}

// drivers of a trivial image that is to be more than measured.
var drivers = []string{"virtio_pci", "virtio_blk", "virtio_net", "i6300esb"}

// Trivial writes a unified kernel image that holds the image's kernel and a PID 1
// that only answers on the console (tools/boxes/trivial): what the real image's
// start is compared with. With drivers it also has virtio's disks and network
// cards, and the watchdog.
func Trivial(ctx context.Context, name string, withDrivers bool) error {
	if err := trivial(ctx, name, withDrivers); err != nil {
		return fmt.Errorf("make a trivial image: %w", err)
	}
	return nil
}

func trivial(ctx context.Context, name string, withDrivers bool) error {
	root, err := Repository()
	if err != nil {
		return err
	}
	packages, err := debs.Fetch(ctx, filepath.Join(root, "out/image/debs"), []string{debs.Kernel}, func(string) {})
	if err != nil {
		return err
	}
	release, err := packages[0].Release()
	if err != nil {
		return err
	}
	linux := filepath.Join(packages[0].Tree, "boot/vmlinuz-"+release)
	program := name + ".init"
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./tools/boxes/trivial")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build ./tools/boxes/trivial: %w\n%s", err, out)
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	records := []cpio.Record{cpio.CharDev("dev/console", 0o600, 5, 1), cpio.StaticFile("init", string(binary), 0o755)}
	if withDrivers {
		more, err := driverRecords(filepath.Join(packages[0].Tree, "lib/modules", release))
		if err != nil {
			return err
		}
		records = append(records, more...)
	}
	var initrd bytes.Buffer
	w := cpio.Newc.Writer(&initrd)
	if err := errors.Join(cpio.WriteRecordsAndDirs(w, records), cpio.WriteTrailer(w)); err != nil {
		return err
	}
	kernel, err := os.ReadFile(linux)
	if err != nil {
		return err
	}
	head, err := os.ReadFile(stub)
	if err != nil {
		return fmt.Errorf("%w: install the package systemd-boot-efi", err)
	}
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	err = uki.Write(out, head, uki.Sections{
		OSRelease: uki.OSRelease(trivialBuild),
		Cmdline:   "console=ttyS0 panic=-1 quiet", Uname: release, Initrd: initrd.Bytes(), Linux: kernel,
	})
	return errors.Join(err, out.Close(), os.Remove(program))
}

// driverRecords are the modules in loading order, which their names give.
func driverRecords(dir string) ([]cpio.Record, error) {
	f, err := os.Open(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	deps, err := kmod.ReadDeps(f)
	if err != nil {
		return nil, err
	}
	files, missing := deps.Files(drivers...)
	if len(missing) > 0 {
		return nil, fmt.Errorf("the kernel in %s has no modules %v", dir, missing)
	}
	var records []cpio.Record
	for i, file := range files {
		body, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return nil, err
		}
		records = append(records, cpio.StaticFile(fmt.Sprintf("modules/%02d-%s", i, path.Base(file)), string(body), 0o644))
	}
	return records, nil
}

// WriteEFIDisk makes the image of a disk as the appliance's own, but with one
// program only, at the path that firmware starts by itself.
func WriteEFIDisk(name, program string) error {
	body, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("make a disk that starts a program: %w", err)
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("make a disk that starts %s: %w", program, err)
	}
	err = disk.Write(f, trivialBuild, []disk.File{{Path: layout.Loader, Data: body}})
	return errors.Join(err, f.Close())
}

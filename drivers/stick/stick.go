// Package stick writes files to a USB stick that somebody has plugged in, and
// reads them: it finds it, mounts it, has them written through to it, and lets it
// go. It never touches a disk that is in use or that holds a system. Start
// reading at Use.
package stick

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"komainu/drivers/blockdev"
)

// ErrNone is wrapped when there is no stick, ErrRoom when a stick is too full.
var (
	ErrNone = errors.New("no USB stick is plugged in")
	ErrRoom = errors.New("not enough room")
)

// espType is the partition type of what firmware starts systems from (UEFI
// 2.10, 5.3.3): such a stick isn't for files.
const espType = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"

// Devices are the partitions of removable and USB disks that files may be
// written to, or the disk itself where it has none. mounts is the text of
// /proc/self/mountinfo: a disk of which anything is mounted is left alone.
func Devices(root blockdev.Root, mounts []byte) ([]string, error) {
	disks, err := root.List()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, d := range disks {
		if d.ReadOnly || !d.Removable && d.Bus != "usb" || inUse(root, d, mounts) {
			continue
		}
		if d, err = root.Look(d); err != nil {
			continue // it can't be read, so nothing can be written to it
		}
		if slices.ContainsFunc(d.Partitions, func(p blockdev.Partition) bool { return p.Type == espType }) {
			continue
		}
		if len(d.Partitions) == 0 && d.Content == "vfat" {
			all = append(all, filepath.Join(root.Dev, d.Name))
		}
		for _, p := range d.Partitions {
			if p.Content == "vfat" {
				all = append(all, filepath.Join(root.Dev, p.Name))
			}
		}
	}
	return all, nil
}

// inUse: proc(5), the third field of a line is the device's number.
func inUse(root blockdev.Root, d blockdev.Disk, mounts []byte) bool {
	base := filepath.Join(root.Sys, "block", strings.ReplaceAll(d.Name, "/", "!"))
	numbers, _ := filepath.Glob(filepath.Join(base, "*", "dev")) // the pattern is good
	for _, name := range append(numbers, filepath.Join(base, "dev")) {
		number, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for line := range bytes.Lines(mounts) {
			if f := bytes.Fields(line); len(f) > 2 && bytes.Equal(f[2], bytes.TrimSpace(number)) {
				return true
			}
		}
	}
	return false
}

// Use mounts the first stick that can be below the folder run, hands its root
// over, and unmounts it after everything is on it. Without a stick ErrNone is
// wrapped.
func Use(run string, do func(root string) error) error { return use(run, 0, do) }

func use(run string, flags uintptr, do func(root string) error) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("look for a stick: %w", err)
	}
	devices, err := Devices(blockdev.Root{Sys: "/sys", Dev: "/dev"}, mounts)
	if err != nil {
		return fmt.Errorf("look for a stick: %w", err)
	}
	errs := []error{ErrNone}
	for _, dev := range devices {
		mounted := false
		err := on(dev, run, flags, func(root string) error {
			mounted = true
			return do(root)
		})
		if mounted {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// on uses one device. flags are mount(2)'s, beyond those of any stick.
func on(dev, run string, flags uintptr, do func(root string) error) (err error) {
	dir, err := os.MkdirTemp(run, "stick-")
	if err != nil {
		return fmt.Errorf("use stick %s: %w", dev, err)
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	if err := unix.Mount(dev, dir, "vfat", flags|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "umask=077,utf8=1"); err != nil {
		return fmt.Errorf("mount stick %s: %w", dev, err)
	}
	defer func() {
		if uerr := unix.Unmount(dir, 0); uerr != nil { // without MNT_DETACH it writes all first
			err = errors.Join(err, fmt.Errorf("unmount stick %s: %w", dev, uerr), unix.Unmount(dir, unix.MNT_DETACH))
		}
	}()
	return do(dir)
}

// Room fails with ErrRoom where less than so many bytes are free.
func Room(root string, bytes int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return fmt.Errorf("room on the stick: %w", err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < bytes { //nolint:gosec // far below 2^63
		return fmt.Errorf("%w: %d MB are free, %d are needed", ErrRoom, free/1e6, (bytes+1e6-1)/1e6)
	}
	return nil
}

// Write makes a file that isn't there yet and has fill write it; it is on the
// stick when Write returns. A file that failed stays as far as it came.
func Write(root, name string, fill func(*os.File) error) error {
	f, err := os.OpenFile(filepath.Join(root, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make a file: %w", err)
	}
	if err := errors.Join(fill(f), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

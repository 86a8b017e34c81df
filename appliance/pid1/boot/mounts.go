package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"komainu/images/layout"
)

const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

type mountPoint struct {
	source, target, kind string
	flags                uintptr
	data                 string
	// needs is a folder without which this is left out: firmware that isn't UEFI.
	needs string
}

// kernelMounts are the kernel's file systems, in order.
var kernelMounts = []mountPoint{
	{source: "proc", target: "/proc", kind: "proc", flags: quiet},
	{source: "sysfs", target: "/sys", kind: "sysfs", flags: quiet},
	{source: "devtmpfs", target: "/dev", kind: "devtmpfs", flags: unix.MS_NOSUID, data: "mode=0755"},
	{source: "devpts", target: "/dev/pts", kind: "devpts", flags: unix.MS_NOSUID | unix.MS_NOEXEC, data: "ptmxmode=0666,mode=0620,gid=5"},
	{source: "shm", target: "/dev/shm", kind: "tmpfs", flags: quiet, data: "mode=1777"}, // PostgreSQL's dynamic shared memory
	{source: "run", target: "/run", kind: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=0755,size=25%"},
	{source: "tmp", target: "/tmp", kind: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=1777,size=25%"},
	{source: "cgroup2", target: "/sys/fs/cgroup", kind: "cgroup2", flags: quiet, data: "nsdelegate"},
	{source: "pstore", target: "/sys/fs/pstore", kind: "pstore", flags: quiet, needs: "/sys/fs/pstore"},
}

// efivars needs a module, so it comes after the loader.
var efivars = mountPoint{source: "efivarfs", target: "/sys/firmware/efi/efivars", kind: "efivarfs", flags: quiet, needs: "/sys/firmware/efi/efivars"}

// mountAll mounts what it can and returns what it couldn't, joined.
func mountAll(mounts ...mountPoint) error {
	var errs []error
	for _, m := range mounts {
		if m.needs != "" {
			if _, err := os.Stat(m.needs); err != nil {
				continue
			}
		} else if err := os.MkdirAll(m.target, 0o755); err != nil {
			errs = append(errs, fmt.Errorf("mount point: %w", err))
			continue
		}
		// EBUSY: the very same one is there.
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil && !errors.Is(err, unix.EBUSY) {
			errs = append(errs, fmt.Errorf("mount %s on %s: %w", m.kind, m.target, err))
		}
	}
	return errors.Join(errs...)
}

// devLinks are what programs expect beside the kernel's devices.
func devLinks() error {
	var errs []error
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink(to, filepath.Join("/dev", name)); err != nil && !errors.Is(err, os.ErrExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// controllers lets units have their own limits (Documentation/admin-guide/cgroup-v2.rst).
func controllers() error {
	if err := os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+memory +pids"), 0); err != nil {
		return fmt.Errorf("enable limits of units: %w", err)
	}
	return nil
}

// folder is one that has to be there, with its owner.
type folder struct {
	path string
	mode os.FileMode
	uid  int
}

var (
	runFolders = []folder{
		{layout.Run, 0o755, 0},
		{"/run/lock", 0o755, 0},
		{"/run/postgresql", 0o755, layout.PostgresID},
	}
	dataFolders = []folder{
		{layout.DataMount, 0o755, 0},
		{filepath.Dir(layout.Config), 0o750, 0},
		{layout.State, 0o755, 0},
		{layout.State + "/secrets", 0o700, 0},
		{layout.State + "/log", 0o750, 0},
		{Databases, 0o755, layout.PostgresID},
	}
)

// Databases holds the clusters, one folder each, as the configuration places them
// by default; their daemon's user owns it.
const Databases = layout.State + "/databases"

func makeFolders(all []folder) error {
	var errs []error
	for _, f := range all {
		err := os.MkdirAll(f.path, f.mode)
		if err == nil {
			err = errors.Join(os.Chown(f.path, f.uid, f.uid), os.Chmod(f.path, f.mode))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

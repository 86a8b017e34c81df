package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"

	"komainu/tools/vmtest/job"
)

const (
	hostRoot = "/host" // the host's root, read-only
	root     = "/root" // the same with an overlay: where the tests run
)

type mountPoint struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

func mountAll(mounts []mountPoint) error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return fmt.Errorf("mount point: %w", err)
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
		}
	}
	return nil
}

// kernelMounts are the kernel's own file systems below a root.
func kernelMounts(at string) []mountPoint {
	return []mountPoint{
		{"devtmpfs", at + "/dev", "devtmpfs", 0, ""},
		{"devpts", at + "/dev/pts", "devpts", 0, "ptmxmode=0666"},
		{"shm", at + "/dev/shm", "tmpfs", 0, "mode=1777"},
		{"proc", at + "/proc", "proc", 0, ""},
		{"sysfs", at + "/sys", "sysfs", 0, ""},
		{"cgroup2", at + "/sys/fs/cgroup", "cgroup2", 0, ""},
		{"bpf", at + "/sys/fs/bpf", "bpf", 0, ""},
	}
}

func mountKernel() error {
	var early []mountPoint
	for _, m := range kernelMounts("") {
		if m.kind != "cgroup2" && m.kind != "bpf" {
			early = append(early, m)
		}
	}
	return mountAll(early)
}

// mountHost builds the root of the tests. /run is empty, as after a boot:
// sockets and locks of the host's daemons must not be seen.
func mountHost(plan job.Plan) error {
	err := mountAll([]mountPoint{
		{job.Tag, hostRoot, "9p", unix.MS_RDONLY, "trans=virtio,version=9p2000.L,msize=262144,cache=loose"},
		{"tmpfs", "/rw", "tmpfs", 0, ""},
	})
	if err != nil {
		return err
	}
	for _, dir := range []string{"/rw/upper", "/rw/work"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := mountAll([]mountPoint{{
		"overlay", root, "overlay", 0, "lowerdir=" + hostRoot + ",upperdir=/rw/upper,workdir=/rw/work",
	}}); err != nil {
		return err
	}
	if err := mountAll(append(kernelMounts(root),
		mountPoint{"tmpfs", root + "/run", "tmpfs", 0, "mode=755"},
		// For tests that call the host's modprobe.
		mountPoint{hostRoot + plan.ModuleDir, filepath.Join(root, "usr/lib/modules", plan.Release), "", unix.MS_BIND, ""},
	)); err != nil {
		return err
	}
	for _, dir := range []string{"lock", "netns", "postgresql"} {
		if err := os.MkdirAll(filepath.Join(root, "run", dir), 0o777); err != nil {
			return err
		}
	}
	return unix.Sethostname([]byte("vmtest"))
}

func loopbackUp() error {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return err
	}
	conn, err := rtnetlink.Dial(nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Link.Set(&rtnetlink.LinkMessage{
		Index: uint32(lo.Index), Flags: unix.IFF_UP, Change: unix.IFF_UP,
	}); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

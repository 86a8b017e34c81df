package cgroup

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHostGroup: one that forks for ever is bounded and ended at once.
func TestHostGroup(t *testing.T) {
	if os.Getenv("KOMAINU_VM") == "" {
		t.Skip("needs the guest of tools/vmtest: it mounts cgroup2 with all controllers")
	}
	root := t.TempDir()
	if err := unix.Mount("cgroup2", root, "cgroup2", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	g, err := Make(root, "komainu-test", "bomb")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Limit(64<<20, 20); err != nil {
		t.Fatal(err)
	}
	dir, err := g.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("/bin/sh", "-c", "trap '' TERM; for i in 1 2 3 4 5 6 7 8 9 10; do setsid sh -c 'while :; do sleep 100 & done' & done; wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); ; {
		b, err := os.ReadFile(filepath.Join(g.dir, "pids.events"))
		if err == nil && field(b, "max") > 0 {
			break
		}
		if time.Since(start) > 20*time.Second {
			t.Fatal("the limit wasn't met: ", string(b), err)
		}
		time.Sleep(10 * time.Millisecond) // the kernel's file
	}
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	ctx, done := context.WithTimeout(t.Context(), time.Minute)
	defer done()
	if err := g.WaitEmpty(ctx); err != nil {
		t.Fatal(err)
	}
	if empty, err := g.Empty(); err != nil || !empty {
		t.Error(empty, err)
	}
	if n, err := g.OOMs(); err != nil || n != 0 {
		t.Error(n, err)
	}
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
}

func TestField(t *testing.T) {
	b := []byte("low 1\noom 3\noom_kill 2\n")
	if n := field(b, "oom_kill"); n != 2 {
		t.Error(n)
	}
	if n := field(b, "none"); n != 0 {
		t.Error(n)
	}
}

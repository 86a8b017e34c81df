package update

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// privately runs f on a thread with mounts of its own.
func privately(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			t.Errorf("unshare: %v", err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Errorf("make mounts private: %v", err)
			return
		}
		f()
	}()
	<-done
}

// TestHostFullAndReadOnly: nothing is left of an attempt that doesn't fit, and
// each has its sentence.
func TestHostFullAndReadOnly(t *testing.T) {
	b := newBench(t)
	b.job.Order.Source = filepath.Join(t.TempDir(), "x.kmb")
	write(t, b.job.Order.Source, b.pack(t, b.manifest("2"), "good")) // 2.7 MB
	privately(t, func() {
		if err := unix.Mount("tmpfs", b.root, "tmpfs", 0, "size=3m"); err != nil {
			t.Error(err)
			return
		}
		if err := os.MkdirAll(filepath.Join(b.root, "EFI/Linux"), 0o700); err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(filepath.Join(b.root, "EFI/Linux/komainu-1.efi"), nil, 0o600); err != nil {
			t.Error(err)
		}
		if got := b.do(t, nil); got != "efi-full" || b.images(t) != "1" {
			t.Errorf("no room: %s, %s", got, b.images(t))
		}
		if err := unix.Mount("", b.root, "", unix.MS_REMOUNT, "size=8m"); err != nil {
			t.Error(err)
		}
		grew := false
		got := b.do(t, func(l line) error { // somebody else fills it meanwhile
			if l.Step == "image-step-write" && !grew {
				grew = true
				return os.WriteFile(filepath.Join(b.root, "core"), make([]byte, 7<<20), 0o600)
			}
			return nil
		})
		left, _ := os.ReadDir(filepath.Join(b.root, "EFI/Linux"))
		if got != "efi-full" || len(left) != 1 {
			t.Errorf("full in the middle: %s, %v", got, left)
		}
		if err := os.Remove(filepath.Join(b.root, "core")); err != nil {
			t.Error(err)
		}
		if err := unix.Mount("", b.root, "", unix.MS_REMOUNT|unix.MS_RDONLY, "size=8m"); err != nil {
			t.Error(err)
		}
		if got := b.do(t, nil); got != "efi-read-only" || b.images(t) != "1" {
			t.Errorf("read-only: %s, %s", got, b.images(t))
		}
		b.job.Remount = true
		if got := b.do(t, nil); got != "image-step-installed" || b.images(t) != "2+3 1" {
			t.Errorf("made writable: %s, %s", got, b.images(t))
		}
		if err := os.WriteFile(filepath.Join(b.root, "x"), nil, 0o600); err == nil {
			t.Error("it stayed writable")
		}
	})
}

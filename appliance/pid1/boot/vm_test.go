package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/blockdev"
	"komainu/drivers/uevents"
	"komainu/images/disk"
	"komainu/images/layout"
)

// TestMain also is PID 1's part of a boot, in mount and name spaces of its own.
func TestMain(m *testing.M) {
	if guid, ok := os.LookupEnv("BOOT_FROM"); ok {
		os.Exit(bootOnce(guid))
	}
	os.Exit(m.Run())
}

// seen is what one boot came to.
type seen struct {
	Found Found
	Kept  string            // what keepFile held before this boot wrote it
	Modes map[string]string // of folders on the data partition
	Mount string            // of it
	Name  string            // of the host
	Said  []string
	Event bool // the task behind the boot saw one of the disk
}

const keepFile = layout.State + "/keep"

func bootOnce(guid string) int {
	var s seen
	b := Early(Options{
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), BootPartition: func() string { return guid }, Wait: 200 * time.Millisecond,
		Say: func(code string, args ...string) { s.Said = append(s.Said, code) },
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.Found = b.Rest(ctx)
	kept, err := os.ReadFile(keepFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		panic(err)
	}
	s.Kept, s.Modes = string(kept), map[string]string{}
	for _, f := range dataFolders {
		if st, err := os.Stat(f.path); err == nil {
			s.Modes[f.path] = fmt.Sprintf("%o %d", st.Mode().Perm(), st.Sys().(*syscall.Stat_t).Uid)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[1] == layout.DataMount {
			s.Mount = f[2] + " " + f[3]
		}
	}
	if s.Name, err = os.Hostname(); err != nil {
		panic(err)
	}
	if s.Found.DataDevice != "" {
		_ = os.WriteFile(keepFile, []byte("kept"), 0o600) // a full disk is a case
	}
	if s.Found.Disk != "" {
		s.Event = runOnce(b, s.Found.Disk)
	}
	if err := b.Stop(); err != nil && !errors.Is(err, unix.ENOSPC) {
		fmt.Fprintln(os.Stderr, "stop:", err)
		return 1
	}
	if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
		panic(err)
	}
	return 0
}

// runOnce has the kernel tell of the disk again, and waits until Run says so.
func runOnce(b *Boot, disk string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := os.WriteFile(filepath.Join("/sys/block", disk, "uevent"), []byte("change"), 0); err != nil {
		panic(err)
	}
	seen := false
	if err := b.Run(ctx, func(e uevents.Event) {
		seen = seen || e.Action == "change" && e.Vars["DEVNAME"] == disk
		if seen {
			cancel()
		}
	}); err != nil {
		panic(err)
	}
	return seen
}

// boot runs one.
func boot(t *testing.T, guid string) seen {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BOOT_FROM="+guid)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS, Pdeathsig: syscall.SIGKILL}
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	var s seen
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("took %v\n%s", s.Found.Took, log.String())
	return s
}

func (s seen) codes() string {
	var all []string
	for _, f := range s.Found.Faults {
		// The host's root has no build file, and mounts of it are in use.
		if f.Code == "boot-step-failed" && f.Args[0] == "build" {
			continue
		}
		all = append(all, strings.Join(append([]string{f.Code}, f.Args...), " "))
	}
	return strings.Join(all, "; ")
}

// TestHostBoot boots from a disk of 4 GiB that the virtual machine has for
// tests, and damages it in between.
func TestHostBoot(t *testing.T) {
	if os.Getenv("KOMAINU_VM") == "" {
		t.Skip("writes to a disk: only in the virtual machine")
	}
	keepSettings(t)
	d := theDisk(t)
	dev := filepath.Join(root.Dev, d.Name)
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g := disk.Geometry{Bytes: d.Bytes, Sector: d.Sector}
	// As tools/flash leaves it: the image, and its end in the middle of the disk.
	parts, err := disk.WriteGPT(f, disk.Geometry{Bytes: disk.ImageBytes, Sector: d.Sector}, "test", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := disk.Format(f, parts[0], g.Sector, disk.ESPVolume(layout.Build{Version: "1"}), []disk.File{{Path: layout.LoaderConf, Data: []byte("timeout 0\n")}}); err != nil {
		t.Fatal(err)
	}
	if err := root.Reread(d.Name); err != nil {
		t.Fatal(err)
	}
	guid := parts[0].GUID
	part := dev + "2"

	s := boot(t, guid)
	if s.Found.Data != "made" || s.codes() != "" || s.Found.ESP != dev+"1" || s.Found.DataDevice != part || s.Name != "komainu" || !s.Event {
		t.Fatalf("first boot: %+v: %s", s, s.codes())
	}
	for _, o := range []string{"ext4 ", "nodev", "nosuid", "noexec", "errors=remount-ro"} {
		if !strings.Contains(s.Mount, o) {
			t.Errorf("mounted as %s: want %s", s.Mount, o)
		}
	}
	for path, want := range map[string]string{layout.State + "/secrets": "700 0", Databases: "755 70"} {
		if s.Modes[path] != want {
			t.Errorf("%s is %s, want %s", path, s.Modes[path], want)
		}
	}
	if s = boot(t, guid); s.Found.Data != "ok" || s.Kept != "kept" || s.codes() != "" {
		t.Errorf("second boot: %+v", s)
	}

	zero := func(file string, at, n int64) {
		t.Helper()
		w, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err == nil {
			_, err = w.WriteAt(make([]byte, n), at)
		}
		if err := errors.Join(err, w.Sync(), w.Close()); err != nil {
			t.Fatal(err)
		}
	}
	zero(part, 0, 4096) // superblock
	if s = boot(t, guid); s.Found.Data != "repaired" || s.Kept != "kept" || s.codes() != "boot-data-repaired "+part {
		t.Errorf("superblock lost: %+v", s)
	}
	if s = boot(t, guid); s.Found.Data != "ok" || s.Kept != "kept" || s.codes() != "" {
		t.Errorf("after the repair: %+v", s)
	}

	if s = boot(t, "AFFE"); s.Found.Data != "none" || s.codes() != "boot-no-disk" || !strings.HasPrefix(s.Mount, "tmpfs") {
		t.Errorf("another disk's boot: %+v", s)
	}

	if w, err := os.OpenFile(dev+"1", os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	} else if _, err := w.WriteAt([]byte{1}, 0x41); errors.Join(err, w.Sync(), w.Close()) != nil {
		t.Fatal(err)
	}
	if s = boot(t, guid); s.Found.ESP != dev+"1" || s.codes() != "" || dirty(dev+"1") {
		t.Errorf("EFI partition not unmounted: %+v", s)
	}

	zero(dev, g.Sector+16, 4) // the checksum of the first table's header
	if err := root.Reread(d.Name); err != nil {
		t.Fatal(err)
	}
	if s = boot(t, guid); s.Found.Data != "ok" || s.Found.ESP != dev+"1" || s.codes() != "" {
		t.Errorf("table damaged: %+v", s)
	}
	if err := root.Reread(d.Name); err != nil || len(root.Partitions(d)) != 2 {
		t.Errorf("the kernel has %+v, %v", root.Partitions(d), err)
	}

	zero(dev+"1", 0, 4096) // the FAT's boot sectors
	if s = boot(t, guid); s.Found.Data != "ok" || s.Found.ESP != "" || !strings.HasPrefix(s.codes(), "boot-esp-not-mounted "+dev+"1") {
		t.Errorf("EFI partition lost: %+v", s)
	}

	run(t, "mkfs.ext4", "-q", "-F", "-L", "photos", part)
	if s = boot(t, guid); s.Found.Data != "none" || !strings.Contains(s.codes(), "boot-data-foreign "+filepath.Base(part)+" ext4 photos") {
		t.Errorf("somebody's file system: %+v", s)
	}
	if e, ok := readExt4(t, part); !ok || e.Label != "photos" {
		t.Error("it was touched")
	}

	// A cut while the file system was made over something else.
	if err := blockdev.MarkUnmade(f, d.Bytes); err != nil {
		t.Fatal(err)
	}
	if s = boot(t, guid); s.Found.Data != "made" {
		t.Errorf("cut while it was made: %+v", s)
	}
	if unmade, err := blockdev.Unmade(f, d.Bytes); unmade || err != nil {
		t.Errorf("still marked: %v, %v", unmade, err)
	}

	fill(t, part)
	if s = boot(t, guid); s.Found.Data != "ok" || !strings.Contains(s.codes(), "boot-data-full "+part) {
		t.Errorf("full: %+v", s)
	}
}

// theDisk is the virtual machine's.
func theDisk(t *testing.T) blockdev.Disk {
	t.Helper()
	disks, err := root.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range disks {
		if d.Serial == "komainu.vmtest" {
			return d
		}
	}
	t.Fatalf("no disk for tests among %+v", disks)
	return blockdev.Disk{}
}

// keepSettings puts the kernel's settings back: other tests run after this one.
func keepSettings(t *testing.T) {
	t.Helper()
	for _, s := range sysctls {
		name := filepath.Join("/proc/sys", s.key)
		old, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.WriteFile(name, old, 0); err != nil {
				t.Error(err)
			}
		})
	}
}

func run(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.Command(program(argv[0]), argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", argv, err, out)
	}
}

func readExt4(t *testing.T, name string) (blockdev.Ext4, bool) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return blockdev.ReadExt4(f)
}

// fill leaves no room on an ext4.
func fill(t *testing.T, part string) {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(part, dir, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "big"))
	if err == nil {
		for n := int64(1 << 30); n > 4096 && err == nil; {
			size, serr := f.Seek(0, 2)
			if serr != nil {
				t.Fatal(serr)
			}
			switch aerr := unix.Fallocate(int(f.Fd()), 0, size, n); {
			case errors.Is(aerr, unix.ENOSPC):
				n /= 2
			default:
				err = aerr
			}
		}
		err = errors.Join(err, f.Close())
	}
	if err := errors.Join(err, unix.Unmount(dir, 0)); err != nil {
		t.Fatal(err)
	}
}

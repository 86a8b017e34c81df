package stick

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"komainu/drivers/blockdev"
)

// disk makes one of a fake machine; partitions are by number, content is what
// stands at its magic's place.
func disk(t *testing.T, r blockdev.Root, name string, removable bool, number, content string, parts ...string) {
	t.Helper()
	put := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(r.Sys, "block", name)
	put(filepath.Join(dir, "device/model"), "Stick\n")
	put(filepath.Join(dir, "size"), "8192\n")
	put(filepath.Join(dir, "queue/logical_block_size"), "512\n")
	put(filepath.Join(dir, "dev"), number+":0\n")
	flag := "0\n"
	if removable {
		flag = "1\n"
	}
	put(filepath.Join(dir, "removable"), flag)
	image := func(content string) string {
		b := make([]byte, 1<<20)
		if content == "vfat" {
			copy(b[82:], "FAT32   ")
		}
		if content == "ext4" {
			copy(b[0x438:], "\x53\xef")
		}
		return string(b)
	}
	put(filepath.Join(r.Dev, name), image(content))
	for i, p := range parts {
		at := filepath.Join(dir, fmt.Sprint(name, i+1))
		put(filepath.Join(at, "partition"), fmt.Sprint(i+1))
		put(filepath.Join(at, "start"), "2048")
		put(filepath.Join(at, "size"), "2048")
		put(filepath.Join(at, "dev"), fmt.Sprintf("%s:%d\n", number, i+1))
		put(filepath.Join(r.Dev, fmt.Sprint(name, i+1)), image(p))
	}
}

func TestDevices(t *testing.T) {
	r := blockdev.Root{Sys: t.TempDir(), Dev: t.TempDir()}
	disk(t, r, "sda", false, "8", "", "vfat", "ext4") // the box's own
	disk(t, r, "sdb", true, "9", "", "ext4", "vfat")  // a stick
	disk(t, r, "sdc", true, "10", "vfat")             // one without a table
	disk(t, r, "sdd", true, "11", "", "vfat", "ext4") // one that something uses
	disk(t, r, "sde", true, "12", "")                 // an empty one
	got, err := Devices(r, []byte("30 1 0:25 / /proc rw\n31 1 11:2 / /data rw,relatime - ext4 /dev/sdd2 rw\n"))
	want := []string{filepath.Join(r.Dev, "sdb2"), filepath.Join(r.Dev, "sdc")}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v, want %v", got, err, want)
	}
	if _, err := Devices(blockdev.Root{Sys: filepath.Join(r.Sys, "none")}, nil); err == nil {
		t.Error("no error without a machine")
	}
}

func TestWriteAndRoom(t *testing.T) {
	dir := t.TempDir()
	fill := func(f *os.File) error {
		_, err := f.WriteString("text")
		return err
	}
	if err := Write(dir, "a", fill); err != nil {
		t.Error(err)
	}
	if err := Write(dir, "a", fill); !errors.Is(err, os.ErrExist) {
		t.Errorf("written over: %v", err)
	}
	if err := Room(dir, 1<<62); !errors.Is(err, ErrRoom) {
		t.Error(err)
	}
	if err := Room(dir, 1); err != nil {
		t.Error(err)
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"b.toml", "A.TOML", ".hidden.toml", "c.txt", "\x1b[2J.toml"} {
		must(os.WriteFile(filepath.Join(dir, name), []byte("text"), 0o600))
	}
	must(os.Mkdir(filepath.Join(dir, "d.toml"), 0o700))
	must(os.Symlink("/etc/passwd", filepath.Join(dir, "e.toml")))
	if names, err := Files(dir, ".toml"); err != nil || !slices.Equal(names, []string{"A.TOML", "b.toml"}) {
		t.Errorf("%q %v", names, err)
	}
	if b, err := Read(dir, "b.toml", 4); string(b) != "text" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	for name, want := range map[string]error{"none.toml": os.ErrNotExist, "../x": ErrName, "": ErrName, ".hidden.toml": ErrName, "d.toml": ErrName, "a\\b": ErrName, "a:b": ErrName, "\x1b[2J.toml": ErrName, "e.toml": unix.ELOOP} {
		if _, err := Read(dir, name, 4); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", name, err, want)
		}
	}
	if _, err := Read(dir, "b.toml", 3); !errors.Is(err, ErrLarge) {
		t.Error(err)
	}
}

// TestHostMount writes to a real FAT.
func TestHostMount(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	for _, tool := range []string{"mkfs.vfat", "losetup"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	image := filepath.Join(t.TempDir(), "stick.img")
	if err := os.WriteFile(image, make([]byte, 40<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(argv ...string) string {
		t.Helper()
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v %s", argv, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("mkfs.vfat", "-F", "32", image)
	dev := run("losetup", "-f", "--show", image)
	t.Cleanup(func() { run("losetup", "-d", dev) })
	dir := t.TempDir()
	write := func(root string) error {
		if err := Room(root, 1<<30); !errors.Is(err, ErrRoom) {
			t.Error(err)
		}
		return Write(root, "報告.txt", func(f *os.File) error {
			_, err := f.WriteString("text")
			return err
		})
	}
	if err := on(dev, dir, 0, write); errors.Is(err, unix.ENODEV) {
		t.Skip("this kernel has no vfat")
	} else if err != nil {
		t.Fatal(err)
	}
	if err := on(dev, dir, unix.MS_RDONLY, func(root string) error {
		names, err := Files(root, ".TXT")
		if !slices.Equal(names, []string{"報告.txt"}) || err != nil {
			t.Errorf("%q %v", names, err)
		}
		if err := Write(root, "more", func(*os.File) error { return nil }); !errors.Is(err, unix.EROFS) {
			t.Errorf("written while it is only read: %v", err)
		}
		b, err := Read(root, "報告.txt", 4)
		if string(b) != "text" {
			t.Errorf("%q", b)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	// Pulled out between the look at what is there and the reading.
	if err := on(dev, dir, unix.MS_RDONLY, func(root string) error {
		if _, err := Files(root, ".txt"); err != nil {
			t.Error(err)
		}
		if err := os.Truncate(image, 0); err != nil {
			t.Fatal(err)
		}
		run("losetup", "--set-capacity", dev) // none
		_, err := Read(root, "報告.txt", 4)
		return err
	}); !errors.Is(err, unix.EIO) {
		t.Errorf("read from a stick that isn't there any more: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v %v", left, err)
	}
}

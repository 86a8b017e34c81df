package kmod

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"komainu/drivers/uevents"
)

const dep = `kernel/net/9p/9pnet.ko:
kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko kernel/fs/fscache/fscache.ko kernel/fs/netfs/netfs.ko
kernel/fs/netfs/netfs.ko:
kernel/fs/fscache/fscache.ko: kernel/fs/netfs/netfs.ko
kernel/crypto/crc32c-generic.ko:
kernel/crypto/crc32c-intel.ko:
kernel/drivers/net/igb.ko:
kernel/drivers/net/e1000e.ko:
kernel/drivers/virtio/virtio_pci.ko:
kernel/drivers/net/virtio_net.ko:
`

const alias = "# Aliases extracted from modules themselves.\n" +
	"alias crypto-crc32c crc32c_generic\nalias crypto-crc32c crc32c-intel\nalias char-major-10-* misc\n" +
	"alias pci:v00008086d00001533sv*sd*bc*sc*i* igb\nalias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e\n" +
	"alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\nalias virtio:d00000001v* virtio_net\n" +
	"alias dmi*:pn*Some Box[0-9]:* igb\n"

func TestFiles(t *testing.T) {
	deps, err := ReadDeps(strings.NewReader(dep))
	if err != nil {
		t.Fatal(err)
	}
	files, missing := deps.Files("crc32c_generic", "9p", "9pnet", "ipv6")
	want := []string{
		"kernel/crypto/crc32c-generic.ko",
		"kernel/fs/netfs/netfs.ko", "kernel/fs/fscache/fscache.ko", "kernel/net/9p/9pnet.ko", "kernel/fs/9p/9p.ko",
	}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"ipv6"}, missing); diff != "" {
		t.Error(diff)
	}
	if _, err := ReadDeps(strings.NewReader("no colon\n")); err == nil {
		t.Error("read a line without a colon")
	}
}

func TestResolve(t *testing.T) {
	for in, want := range map[string][]string{
		"crypto-crc32c":                 {"crc32c_generic", "crc32c-intel"},
		"crypto_crc32c":                 {"crc32c_generic", "crc32c-intel"},
		"crypto-crc32":                  nil,
		"char-major-10-229":             {"misc"},
		"dmi:bvnX/Y:pnA/Some Box7:rev1": {"igb"},
		"dmi:bvnX:pnSome BoxA:":         nil,
		"nothing":                       nil,
		"":                              nil,
	} {
		if diff := cmp.Diff(want, Resolve([]byte(alias), in)); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"*", "", true}, {"a*", "b", false}, {"a*c*", "abcd", true}, {"*ab", "aab", true}, {"a?c", "abc", true},
		{"[!0-9]x", "ax", true}, {"[!0-9]x", "4x", false}, {"[0-3-]", "-", true}, {"[09", "0", false}, {"a-b", "a_b", true}, {"a", "ab", false},
	} {
		if got := matches([]byte(c.pattern), c.s); got != c.want {
			t.Errorf("%q against %q: %v", c.s, c.pattern, got)
		}
	}
}

// fake is a loader whose kernel only notes what it gets.
func fake(t *testing.T, extra map[string]string) (*Loader, *[]string) {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"modules.dep": dep, "modules.alias": alias}
	for name, text := range extra {
		files[name] = text
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var loaded []string
	l.insert = func(file string) error {
		loaded = append(loaded, Name(file))
		if Name(file) == "crc32c_intel" {
			return unix.ENODEV
		}
		return nil
	}
	return l, &loaded
}

func TestLoad(t *testing.T) {
	l, loaded := fake(t, map[string]string{
		"modules.builtin": "kernel/net/ipv6/ipv6.ko\n",
		"modules.softdep": "# Soft dependencies extracted from modules themselves.\nsoftdep 9p pre: crc32c-generic no-such post: igb\n",
	})
	for _, name := range []string{"9p", "9p", "ipv6", "crypto-crc32c", "crypto-crc32c"} {
		if err := l.Load(name); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		if err := l.Load("pci:v0000FFFFd00000000"); !errors.Is(err, ErrUnknown) {
			t.Errorf("got %v", err)
		}
		if err := l.Load("crc32c_intel"); !errors.Is(err, unix.ENODEV) {
			t.Errorf("got %v", err)
		}
	}
	want := []string{"crc32c_generic", "netfs", "fscache", "9pnet", "9p", "igb", "crc32c_intel"}
	if diff := cmp.Diff(want, *loaded); diff != "" {
		t.Error(diff)
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("opened a folder without modules.dep")
	}
}

// A driver brings up devices that need another: they are found too, and ports
// get their drivers in the order of the bus.
func TestColdPlug(t *testing.T) {
	l, loaded := fake(t, nil)
	sys := t.TempDir()
	device := func(path, modalias string) {
		if err := os.MkdirAll(filepath.Join(sys, path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sys, path, "modalias"), []byte(modalias+"\n"), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	device("pci0000:00/0000:00:1f.6", "pci:v00008086d00001533sv0sd0bc02sc00i00")
	device("pci0000:00/0000:00:02.0", "pci:v00008086d000010D3sv0sd0bc02sc00i00")
	device("pci0000:00/0000:00:03.0", "pci:v00001AF4d00001000sv0sd0bc02sc00i00")
	device("pci0000:00/0000:00:04.0", "pci:v00009999d00001000sv0sd0bc02sc00i00")
	note := l.insert
	l.insert = func(file string) error {
		if Name(file) == "virtio_pci" {
			device("pci0000:00/0000:00:03.0/virtio0", "virtio:d00000001v00001AF4")
		}
		return note(file)
	}
	if err := l.ColdPlug(t.Context(), sys, ""); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"e1000e", "virtio_pci", "igb", "virtio_net"}, *loaded); diff != "" {
		t.Error(diff)
	}
}

func TestColdPlugWithout(t *testing.T) {
	l, loaded := fake(t, nil)
	sys := t.TempDir()
	cpu := filepath.Join(sys, "system/cpu")
	if err := os.MkdirAll(cpu, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cpu, "modalias"), []byte("virtio:d00000001v00001AF4\n"), 0o444); err != nil {
		t.Fatal(err)
	}
	for without, want := range map[string]int{cpu: 0, "": 1} {
		*loaded = nil
		clear(l.done)
		clear(l.known)
		if err := l.ColdPlug(t.Context(), sys, without); err != nil || len(*loaded) != want {
			t.Errorf("without %q: %v, %v", without, *loaded, err)
		}
	}
}

func TestPlugged(t *testing.T) {
	l, loaded := fake(t, nil)
	for _, e := range []uevents.Event{
		{Action: "remove", Vars: map[string]string{"MODALIAS": "virtio:d00000001v00001AF4"}},
		{Action: "add", Vars: map[string]string{"MODALIAS": "virtio:d00000001v00001AF4"}},
		{Action: "add", Vars: map[string]string{"MODALIAS": "usb:nothing"}},
		{Action: "add"}, {Action: uevents.Lost},
	} {
		if err := l.Plugged(e); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff([]string{"virtio_net"}, *loaded); diff != "" {
		t.Error(diff)
	}
}

func TestModprobeUsage(t *testing.T) {
	var said strings.Builder
	for _, args := range [][]string{nil, {"-q"}, {"-q", "--"}} {
		if Modprobe(args, t.TempDir(), &said) != 1 {
			t.Errorf("%q succeeded", args)
		}
	}
	if Modprobe([]string{"-q", "--", "no-such"}, t.TempDir(), &said) != 1 || !strings.Contains(said.String(), "modules.dep") {
		t.Error(said.String())
	}
}

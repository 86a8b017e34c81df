package configure_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"komainu/tools/boxes"
	"komainu/tools/boxes/configure"
	"komainu/tools/boxes/scene"
)

// machine starts a box from the disk, and shows at the test's end what its
// console said.
func machine(t *testing.T, ctx context.Context, from string, disks ...boxes.Disk) *scene.Scene {
	t.Helper()
	s, err := configure.New(ctx, t.Name(), from, disks...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		t.Log(s.Console.Tail(250))
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := s.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

// machines skips a test that can't boot any, and bounds it.
func machines(t *testing.T) context.Context {
	t.Helper()
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("boots machines, which needs root and minutes")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("install qemu-system-x86:", err)
	}
	if _, err := os.Stat("/usr/share/OVMF/OVMF_CODE_4M.fd"); err != nil {
		t.Skip("install ovmf:", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// TestBootedWizard: a box without configuration asks its first administrator,
// and its network works by the answers, without any key or certificate.
func TestBootedWizard(t *testing.T) {
	ctx := machines(t)
	image, err := boxes.BuildImage(ctx)
	if err != nil {
		t.Fatal(err)
	}
	stick := filepath.Join(t.TempDir(), "stick.img")
	if out, err := exec.Command("mkfs.vfat", "-C", "-F", "32", stick, "65536").CombinedOutput(); err != nil { // KiB
		t.Fatalf("%v: %s", err, out)
	}
	s := machine(t, ctx, image, boxes.Disk{Name: "stick", From: stick, Bus: boxes.USB, Plain: true})
	page, err := configure.Wizard(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`(?m)^NG  keys and certificates`, `secret:heartbeat`, `pki/hinata-cho\.pem`, `(?m)^OK  port eth0 office +link up`} {
		if !regexp.MustCompile(want).MatchString(page) {
			t.Errorf("the page of check lacks %q:\n%s", want, page)
		}
	}
	if err := configure.Ping(ctx, s, scene.BoxAddress); err != nil {
		t.Error(err)
	}
	for _, command := range []string{"show history", "show box", "show interface", "show status"} {
		if out, err := s.Console.Do(ctx, command); err != nil || strings.TrimSpace(out) == "" {
			t.Errorf("%s: %q %v", command, out, err)
		}
	}
	// The configuration goes to a stick and comes back from it.
	says := func(command, want string) {
		t.Helper()
		if out := do(t, ctx, s, command); !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("%s: %q, want %q", command, out, want)
		}
	}
	says("configure load usb:", "no file .toml is on the stick")
	says("copy config usb:site", "is written to the stick: site.toml")
	says("copy config usb:site.toml", "site.toml is on the stick already")
	says("configure load usb:other.toml", "other.toml isn't on the stick; there are: site.toml")
	says("configure load usb:", "lines read")
	says("compare", "no difference")
	says("configure discard", "your changes are discarded")
	if err := s.Unplug(ctx, "stick"); err != nil {
		t.Fatal(err)
	}
	says("configure load usb:site", "no stick is plugged in")
	says("copy config usb:", "no stick is plugged in")
}

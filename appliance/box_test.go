package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"komainu/appliance/control"
	"komainu/appliance/update"
	"komainu/drivers/blockdev"
)

func TestCheckSite(t *testing.T) {
	good, err := os.ReadFile("config/testdata/hinata-cho.toml")
	if err != nil {
		t.Fatal(err)
	}
	if name, err := checkSite(good); err != nil || name != "hinata-cho" {
		t.Errorf("%q, %v", name, err)
	}
	if err := checkSecrets(good, nil); err == nil || !strings.Contains(err.Error(), "secret:") {
		t.Errorf("without its secrets: %v", err)
	}
	for _, bad := range []string{"", "\x00", "schema = 1\n[sight]\n"} {
		if name, err := checkSite([]byte(bad)); err == nil || name != "" {
			t.Errorf("%q: %q, %v", bad, name, err)
		}
	}
}

func TestCheckSecrets(t *testing.T) {
	const file = `
# key = "secret:of-a-comment"
[a]
one = "secret:one"
two = ['secret:two', "plain"]
[[b]]
three = { in = "secret:three" }
text = "say secret:nothing"
`
	if err := checkSecrets([]byte(file), []string{"one", "two", "three", "unused"}); err != nil {
		t.Error(err)
	}
	for _, missing := range []string{"one", "two", "three"} {
		have := slices.DeleteFunc([]string{"one", "two", "three"}, func(s string) bool { return s == missing })
		if err := checkSecrets([]byte(file), have); err == nil || !strings.Contains(err.Error(), "secret:"+missing+",") {
			t.Errorf("without %s: %v", missing, err)
		}
	}
	if err := checkSecrets([]byte("["), nil); err == nil {
		t.Error("took a broken file")
	}
}

// broken is an image of which nothing can be read: no boot.json, no EFI
// partition, no disks.
func broken(t *testing.T) *imageBox {
	t.Helper()
	dir := t.TempDir()
	b := &imageBox{folders: folders{config: filepath.Join(dir, "komainu.toml"), state: dir, run: dir}, log: slog.New(slog.DiscardHandler),
		root: blockdev.Root{Sys: filepath.Join(dir, "no-sys"), Dev: dir}, pid1: control.Client{Socket: filepath.Join(dir, "pid1.sock")}}
	var err error
	b.images, err = update.Open(update.Config{Root: filepath.Join(dir, "no-efi"), State: dir, Run: dir, World: b.world(), Disks: b.disks,
		Restart: b.restart, Wall: time.Now, Log: b.log})
	if b.images == nil {
		t.Fatal(err)
	}
	return b
}

// TestTellWithMissingParts: what can't be read is said, and everything else is told.
func TestTellWithMissingParts(t *testing.T) {
	b := broken(t)
	b.problems = []control.Reason{{Code: "site-other", Args: []string{"x"}}}
	b.Found.Faults = []control.Reason{{Code: "boot-data-full", Args: []string{"/dev/sda2"}}}
	for range 2 { // asking adds nothing
		x := b.tell()
		var codes []string
		for _, f := range x.Faults {
			codes = append(codes, strings.Join(append([]string{f.Code}, f.Args[:1]...), " "))
		}
		if len(codes) < 3 || codes[0] != "boot-data-full /dev/sda2" || codes[1] != "site-other x" || !slices.Contains(codes, "box-unread disks") {
			t.Errorf("faults %q", codes)
		}
		if x.UptimeS <= 0 || x.Trial != nil || x.Rescue {
			t.Errorf("%+v", x)
		}
		if _, err := json.Marshal(x); err != nil {
			t.Error(err)
		}
	}
	if len(b.Found.Faults) != 1 || len(b.problems) != 1 {
		t.Errorf("changed: %v %v", b.Found.Faults, b.problems)
	}
	// The parts that ask the own socket, which doesn't answer, come back.
	b.restart("trial", control.Reason{Code: "image-failed-starts"})
	b.beforeEnd(t.Context(), control.PowerOrder{Action: "off", By: "power-button"})
	if len(b.statuses()) != 0 || b.authority() != "" {
		t.Error("found something")
	}
}

// TestLookedDisks: disks are read again when one changed, or when it is long ago.
func TestLookedDisks(t *testing.T) {
	b := broken(t)
	if _, err := b.lookedDisks(); err == nil {
		t.Fatal("no error")
	}
	if err := os.MkdirAll(filepath.Join(b.root.Sys, "block"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(b.root.Sys, "class", "block"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := b.lookedDisks(); err == nil {
		t.Error("read again at once")
	}
	b.looked.at = time.Now().Add(-lookAgain)
	if _, err := b.lookedDisks(); err != nil {
		t.Error(err)
	}
}

// TestUnits: rescue runs nothing of the appliance; without a configuration there is
// no agent, and one that can't be read is the agent's to tell.
func TestUnits(t *testing.T) {
	b := broken(t)
	names := func() (all []string) {
		for _, u := range b.units() {
			all = append(all, u.Name)
		}
		return all
	}
	if got := names(); !slices.Equal(got, []string{"charon"}) {
		t.Errorf("without a configuration: %v", got)
	}
	if err := os.WriteFile(b.config, []byte("["), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := names(); !slices.Equal(got, []string{"charon", "agent", "timed"}) {
		t.Errorf("with a broken one: %v", got)
	}
	b.Found.Rescue = true
	if got := names(); got != nil {
		t.Errorf("in rescue: %v", got)
	}
	if b.firstSite() {
		t.Error("took a configuration in rescue")
	}
}

func TestKernelLine(t *testing.T) {
	if kernelLine+len("<6>...\n") > 1024-48 { // kernel/printk: LOG_LINE_MAX
		t.Error("the kernel refuses longer lines")
	}
}

package life_test

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"komainu/appliance/control"
	"komainu/tools/boxes"
	"komainu/tools/boxes/life"
)

// machines skips a test that can't boot any, and bounds it.
func machines(t *testing.T) context.Context {
	t.Helper()
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("boots machines, which needs root and minutes")
	}
	for _, program := range []string{"qemu-system-x86_64", "debugfs"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("install qemu-system-x86 and e2fsprogs:", err)
		}
	}
	if _, err := os.Stat("/usr/share/OVMF/OVMF_CODE_4M.fd"); err != nil {
		t.Skip("install ovmf:", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func codes(b control.Box) []string {
	var out []string
	for _, f := range b.Faults {
		out = append(out, f.Code)
	}
	return out
}

// TestBootedInstall installs from a stick to a disk, without a network.
func TestBootedInstall(t *testing.T) {
	got, err := life.Install(machines(t), t.Name(), boxes.NVMe)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("installed in %v:\n%s", got.Took, got.Progress)
	t.Logf("started from the disk in %v: %+v\n%s\n%d %s", got.Started, got.Box, got.Status, got.Code, got.Health)
	if !slices.ContainsFunc(got.Shown.Disks, func(d control.Disk) bool { return d.Serial == life.Serial && d.Bus == "nvme" && !d.System }) {
		t.Errorf("the disk to install to isn't shown: %+v", got.Shown.Disks)
	}
	if !slices.ContainsFunc(got.Shown.Disks, func(d control.Disk) bool { return d.Bus == "usb" && d.System }) {
		t.Errorf("the stick isn't shown as what the box runs from: %+v", got.Shown.Disks)
	}
	if len(got.Shown.Ports) != 1 || got.Shown.Ports[0].Carrier {
		t.Errorf("ports: %+v, want one without carrier", got.Shown.Ports)
	}
	if f := codes(got.Shown); got.Shown.Data != "none" || !slices.Contains(f, "boot-no-room") {
		t.Errorf("data of a stick: %s, %q", got.Shown.Data, f)
	}
	if !strings.Contains(got.Progress, "100 %") || !strings.Contains(got.Progress, "is ready") {
		t.Errorf("progress: %s", got.Progress)
	}
	b := got.Box
	if b.Data != "made" || len(b.Images) != 1 || b.Images[0].State != "accepted" || !b.Images[0].Running || b.Version != got.Shown.Version {
		t.Errorf("box: %+v", b)
	}
	if !strings.Contains(got.Status, "dc-db") {
		t.Errorf("the site bundle wasn't taken along:\n%s", got.Status)
	}
	if got.State.Box == nil || got.State.Box.Version != b.Version {
		t.Errorf("health: %d %s: %+v", got.Code, got.Health, got.State.Box)
	}
}

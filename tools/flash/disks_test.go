package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// put writes a file below a fake root, with its folders.
func put(t *testing.T, root, path, text string) {
	t.Helper()
	full := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// link makes sys/block/NAME point to where the device hangs.
func link(t *testing.T, root, name, device string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(root, "sys/block"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join("../devices", device, "block", name), filepath.Join(root, "sys/block", name)); err != nil {
		t.Fatal(err)
	}
}

// host is a workstation: sda holds its system, sdb is a stick without anything,
// sdc a stick that the desktop has mounted, sdd an idle member of an array,
// sr0 an optical drive, nvme0n1 holds swap and LVM.
func host(t *testing.T) Host {
	t.Helper()
	root := t.TempDir()
	type file struct{ path, text string }
	sata := "sys/devices/pci0/ata1/host0/target0/0:0:0:0/block/sda"
	stick := "sys/devices/pci0/usb1/1-2"
	other := "sys/devices/pci0/usb1/1-3"
	reader := "sys/devices/pci0/usb1/1-4"
	nvme := "sys/devices/pci0/nvme/nvme0/block/nvme0n1"
	for _, f := range []file{
		{"proc/self/mountinfo", "25 1 8:1 / / rw,relatime - ext4 /dev/root rw\n30 25 8:33 / /media/stick rw - vfat /dev/sdc1 rw\n"},
		{"proc/swaps", "Filename Type Size Used Priority\n/dev/nvme0n1p2 partition 1 0 -2\n"},
		{sata + "/size", "1000"}, {sata + "/dev", "8:0"}, {sata + "/removable", "0"}, {sata + "/device/model", "SSD 1"},
		{sata + "/device/vpd_pg80", "\x00\x80\x00\x04S123"}, {sata + "/sda1/dev", "8:1"}, {sata + "/queue/logical_block_size", "512"},
		{stick + "/idVendor", "0951"}, {stick + "/serial", "USB77"},
		{stick + "/host1/block/sdb/size", "16000000"}, {stick + "/host1/block/sdb/device/model", "DataStick"}, {stick + "/host1/block/sdb/device/vendor", "Kingston "},
		{stick + "/host1/block/sdb/removable", "1"}, {stick + "/host1/block/sdb/queue/logical_block_size", "512"}, {stick + "/host1/block/sdb/sdb1/dev", "8:17"},
		{other + "/idVendor", "0951"},
		{other + "/host2/block/sdc/size", "16000000"}, {other + "/host2/block/sdc/device/model", "Stick"}, {other + "/host2/block/sdc/sdc1/dev", "8:33"},
		{reader + "/idVendor", "0951"}, {reader + "/serial", "A1"},
		{reader + "/host3/block/sdd/size", "16000000"}, {reader + "/host3/block/sdd/device/model", "Disk"},
		{"dev/sdd", string(make([]byte, 4096)) + "\xfc\x4e\x2b\xa9" + string(make([]byte, 4096))},
		{nvme + "/size", "2000"}, {nvme + "/device/model", "NVMe"}, {nvme + "/device/serial", "N9  "}, {nvme + "/nvme0n1p2/dev", "259:2"},
		{nvme + "/nvme0n1p3/dev", "259:3"}, {nvme + "/nvme0n1p3/holders/dm-0/x", ""},
		{"sys/devices/sr/block/sr0/size", "100"}, {"sys/devices/sr/block/sr0/device/type", "5"},
		{"sys/devices/virtual/block/loop0/size", "100"},
		{"sys/devices/empty/block/sde/size", "0"}, {"sys/devices/empty/block/sde/device/model", "Card reader"},
	} {
		put(t, root, f.path, f.text)
	}
	for name, device := range map[string]string{
		"sda": "pci0/ata1/host0/target0/0:0:0:0", "sdb": "pci0/usb1/1-2/host1", "sdc": "pci0/usb1/1-3/host2", "sdd": "pci0/usb1/1-4/host3",
		"nvme0n1": "pci0/nvme/nvme0", "sr0": "sr", "loop0": "virtual", "sde": "empty",
	} {
		link(t, root, name, device)
	}
	return Host{root}
}

func TestDisks(t *testing.T) {
	h := host(t)
	got, err := h.Disks()
	if err != nil {
		t.Fatal(err)
	}
	dev := func(name string) string { return filepath.Join(h.Root, "dev", name) }
	want := []Disk{
		{Name: "nvme0n1", Path: dev("nvme0n1"), Model: "NVMe", Serial: "N9", Bytes: 2000 * 512, Uses: []Use{{"use-holder", "dm-0"}, {"use-swap", "/dev/nvme0n1p2"}}},
		{Name: "sda", Path: dev("sda"), Model: "SSD 1", Serial: "S123", Bytes: 1000 * 512, Sector: 512, Uses: []Use{{"use-mounted", "/"}}},
		{Name: "sdb", Path: dev("sdb"), Model: "Kingston DataStick", Serial: "USB77", Bytes: 16000000 * 512, Sector: 512, Removable: true},
		{Name: "sdc", Path: dev("sdc"), Model: "Stick", Bytes: 16000000 * 512, Removable: true, Uses: []Use{{"use-mounted", "/media/stick"}}},
		{Name: "sdd", Path: dev("sdd"), Model: "Disk", Serial: "A1", Bytes: 16000000 * 512, Removable: true, Uses: []Use{{"use-member", "RAID (/dev/sdd)"}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestChoose(t *testing.T) {
	disks := []Disk{{Name: "sda", Path: "/dev/sda", Serial: "X"}, {Name: "sdb", Path: "/dev/sdb", Serial: "Y"}, {Name: "sdc", Path: "/dev/sdc", Serial: "Y"}}
	for name, want := range map[string]string{"sda": "sda", "/dev/sdb": "sdb", "X": "sda", "Y": "", "": "", "/tmp/sda": "", "sdx": "", "/dev/sda1": ""} {
		d, err := choose(disks, name)
		if d.Name != want || (err == nil) != (want != "") {
			t.Errorf("%q: %+v, %v", name, d, err)
		}
	}
}

func TestAllowed(t *testing.T) {
	good := Disk{Name: "sdb", Bytes: 8e9, Sector: 512, Removable: true}
	for code, c := range map[string]struct {
		change func(*Disk)
		any    bool
	}{
		"":              {func(*Disk) {}, false},
		"in-use":        {func(d *Disk) { d.Uses = []Use{{"use-mounted", "/"}} }, true},
		"not-removable": {func(d *Disk) { d.Removable = false }, false},
		"read-only":     {func(d *Disk) { d.ReadOnly = true }, true},
		"too-small":     {func(d *Disk) { d.Bytes = 1 << 29 }, false},
		"odd-sectors":   {func(d *Disk) { d.Sector = 4096 }, true},
	} {
		d := good
		c.change(&d)
		err := allowed(d, 1<<30, c.any)
		var f *fault
		if got := ""; errors.As(err, &f) && f.code != code || err == nil && code != got {
			t.Errorf("%q: %v", code, err)
		}
	}
	fixed := good
	fixed.Removable = false
	if err := allowed(fixed, 1<<30, true); err != nil {
		t.Errorf("a built-in disk with -any: %v", err)
	}
}

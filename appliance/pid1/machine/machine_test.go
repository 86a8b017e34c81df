package machine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"komainu/appliance/control"
	"komainu/drivers/blockdev"
)

// sysfs is a folder with these files and links.
func sysfs(t *testing.T, files, links map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	make := func(name string) string {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for name, text := range files {
		if err := os.WriteFile(make(name), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range links {
		if err := os.Symlink(filepath.Join(dir, to), make(name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRead(t *testing.T) {
	sys := sysfs(t, map[string]string{
		"class/dmi/id/sys_vendor": "Supermicro", "class/dmi/id/product_name": "SYS-E300", "class/dmi/id/product_serial": "Default string", "class/dmi/id/chassis_serial": "C1234",
	}, nil)
	got := Read(sys)
	if got.Memory <= 0 {
		t.Error("no memory")
	}
	got.Memory = 0
	if diff := cmp.Diff(Facts{Model: "Supermicro SYS-E300", Serial: "C1234"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestPorts(t *testing.T) {
	sys := sysfs(t, map[string]string{
		"class/net/lo/type":         "772",
		"class/net/bond0/type":      "1", // nothing below it
		"devices/pci/02/net/a/type": "1", "devices/pci/02/net/a/address": "52:54:00:00:00:02", "devices/pci/02/net/a/carrier": "1", "devices/pci/02/net/a/speed": "1000",
		"devices/pci/01/virtio0/net/b/type": "1", "devices/pci/01/virtio0/net/b/address": "52:54:00:00:00:01", "devices/pci/01/virtio0/net/b/speed": "-1",
		"bus/pci/drivers/igb/bind": "", "bus/virtio/drivers/virtio_net/bind": "",
	}, map[string]string{
		"class/net/a": "devices/pci/02/net/a", "class/net/b": "devices/pci/01/virtio0/net/b",
		"devices/pci/02/net/a/device": "devices/pci/02", "devices/pci/02/subsystem": "bus/pci", "devices/pci/02/driver": "bus/pci/drivers/igb",
		"devices/pci/01/virtio0/net/b/device": "devices/pci/01/virtio0", "devices/pci/01/virtio0/subsystem": "bus/virtio", "devices/pci/01/subsystem": "bus/pci",
		"devices/pci/01/virtio0/driver": "bus/virtio/drivers/virtio_net",
	})
	got, err := Ports(sys)
	if err != nil {
		t.Fatal(err)
	}
	want := []control.Port{
		{Name: "b", PCI: "01", Driver: "virtio_net", MAC: "52:54:00:00:00:01"},
		{Name: "a", PCI: "02", Driver: "igb", MAC: "52:54:00:00:00:02", Carrier: true, Mbit: 1000},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDisks(t *testing.T) {
	sys := sysfs(t, map[string]string{
		"block/sda/size": "8192", "block/sda/device/model": "SSD  ", "block/sda/queue/logical_block_size": "512", "block/loop0/size": "8192",
		"block/sdb/size": "8192", "block/sdb/device/model": "Stick", "block/sdb/removable": "1", "block/sdc/size": "0", "block/sdc/device/model": "Card reader",
	}, nil)
	dev := t.TempDir()
	if err := os.WriteFile(filepath.Join(dev, "sda"), make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Disks(blockdev.Root{Sys: sys, Dev: dev}, "sda")
	if err == nil {
		t.Error("sdb could be read")
	}
	want := []control.Disk{
		{Name: "sda", Model: "SSD", Bytes: 4 << 20, Bus: "scsi", System: true},
		{Name: "sdb", Model: "Stick", Bytes: 4 << 20, Bus: "scsi", Removable: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

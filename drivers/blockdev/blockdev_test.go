package blockdev

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/google/go-cmp/cmp"
)

// put is a content of n bytes with text at each place.
func put(n int, at map[int]string) string {
	b := make([]byte, n)
	for i, s := range at {
		copy(b[i:], s)
	}
	return string(b)
}

func TestProbe(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", Blank},
		{put(512, nil), Blank},
		{put(2<<20, map[int]string{1<<20 + 5: "later"}), Blank},
		{put(4096, map[int]string{700: "something"}), ""},
		{put(4096, map[int]string{0x438: "\x53\xef"}), "ext4"},
		{put(4096, map[int]string{82: "FAT32   ", 510: "\x55\xaa"}), "vfat"},
		{put(4096, map[int]string{512: "EFI PART", 450: "\xee", 510: "\x55\xaa"}), "gpt"},
		{put(8192, map[int]string{4096: "EFI PART", 450: "\xee", 510: "\x55\xaa"}), "gpt"},
		{put(4096, map[int]string{450: "\x83", 510: "\x55\xaa"}), "mbr"},
		{put(4096, map[int]string{510: "\x55\xaa"}), ""},
		{put(4096, map[int]string{4086: "SWAPSPACE2"}), "swap"},
		{put(4096, map[int]string{512: "LABELONE", 536: "LVM2 001"}), "LVM"},
		{put(4096, map[int]string{0: "LUKS\xba\xbe"}), "crypto_LUKS"},
	} {
		if got, err := Probe(strings.NewReader(c.in)); got != c.want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, c.want)
		}
	}
}

func TestReadExt4(t *testing.T) {
	super := put(1024, map[int]string{0x38: "\x53\xef", 0x18: "\x02", 0x78: "komainu-data"})
	for _, c := range []struct {
		name string
		at   int64
		want Ext4
		ok   bool
	}{
		{"fine", 1024, Ext4{"komainu-data", 0}, true},
		{"damaged, its copy is fine", 32768 * 4096, Ext4{"komainu-data", 32768}, true},
		{"elsewhere", 5000, Ext4{}, false},
	} {
		f := file(t, 256<<20)
		if _, err := f.WriteAt([]byte(super), c.at); err != nil {
			t.Fatal(err)
		}
		if got, ok := ReadExt4(f); got != c.want || ok != c.ok {
			t.Errorf("%s: %+v, %v", c.name, got, ok)
		}
	}
}

func TestFATDirty(t *testing.T) {
	for in, want := range map[string]bool{put(512, nil): false, put(512, map[int]string{0x41: "\x01"}): true, put(512, map[int]string{0x41: "\x02"}): true} {
		if got, err := FATDirty(strings.NewReader(in)); got != want || err != nil {
			t.Errorf("got %v, %v", got, err)
		}
	}
}

func TestUnmade(t *testing.T) {
	const size = 8<<20 + 4096
	f := file(t, size)
	for _, c := range []struct {
		do   func(Device, int64) error
		want bool
	}{{nil, false}, {MarkUnmade, true}, {MarkUnmade, true}, {MarkMade, false}} {
		if c.do != nil {
			if err := c.do(f, size); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := Unmade(f, size); got != c.want || err != nil {
			t.Errorf("got %v, %v", got, err)
		}
	}
	if err := MarkUnmade(f, 1000); err == nil {
		t.Error("marked what is too small")
	}
}

func file(t *testing.T, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestLook(t *testing.T) {
	const size = 16 << 20
	sys, dev := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"nvme0n1/size": strconv.Itoa(size / 512), "nvme0n1/queue/logical_block_size": "512",
		"nvme0n1/device/model": "Fast disk      ", "nvme0n1/device/serial": "S1  \n",
		"nvme0n1/nvme0n1p1/partition": "1", "nvme0n1/nvme0n1p1/start": "2048", "nvme0n1/nvme0n1p1/size": "2048",
		"sdb/size": "2048", "sdb/device/vpd_pg80": "\x00\x80\x00\x04 X9Z", "sdb/ro": "1",
		"sr0/size": "100", "sr0/device/model": "DVD", "loop0/size": "100", "mmcblk0boot0/size": "8", "mmcblk0boot0/device/name": "x",
	} {
		name = filepath.Join(sys, "block", name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := Root{sys, dev}
	disks, err := r.List()
	if err != nil {
		t.Fatal(err)
	}
	want := []Disk{
		{Name: "nvme0n1", Model: "Fast disk", Serial: "S1", Bytes: size, Sector: 512, Bus: "nvme"},
		{Name: "sdb", Serial: "X9Z", Bytes: 1 << 20, Bus: "scsi", ReadOnly: true},
	}
	if diff := cmp.Diff(want, disks); diff != "" {
		t.Fatal(diff)
	}

	f, err := os.Create(filepath.Join(dev, "nvme0n1"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	table := &gpt.Table{LogicalSectorSize: 512, PhysicalSectorSize: 512, ProtectiveMBR: true, Partitions: []*gpt.Partition{
		{Index: 1, Start: 2048, End: 4095, Type: gpt.EFISystemPartition, Name: "one", GUID: "43e51892-3273-42f7-bcda-b43b80cdfc48"},
		{Index: 2, Start: 4096, End: 8191, Type: gpt.LinuxFilesystem, Name: "two", GUID: "43e51892-3273-42f7-bcda-b43b80cdfc49"},
	}}
	if err := table.Write(f, size); err != nil {
		t.Fatal(err)
	}
	super := make([]byte, 2)
	binary.LittleEndian.PutUint16(super, 0xef53)
	if _, err := f.WriteAt(super, 2<<20+0x438); err != nil {
		t.Fatal(err)
	}
	got, err := r.Look(disks[0])
	if err != nil {
		t.Fatal(err)
	}
	want[0].Content = "gpt"
	want[0].Partitions = []Partition{
		{"nvme0n1p1", 1, 1 << 20, 1 << 20, string(gpt.EFISystemPartition), "43E51892-3273-42F7-BCDA-B43B80CDFC48", "one", Blank},
		{"nvme0n1p2", 2, 2 << 20, 2 << 20, string(gpt.LinuxFilesystem), "43E51892-3273-42F7-BCDA-B43B80CDFC49", "two", "ext4"}, // the kernel hasn't it
	}
	if diff := cmp.Diff(want[0], got); diff != "" {
		t.Error(diff)
	}
	if p, ok := got.Find(string(gpt.LinuxFilesystem), "two"); !ok || p.Number != 2 {
		t.Errorf("found %+v", p)
	}
	if _, err := r.Look(disks[1]); err == nil {
		t.Error("looked at a disk that is gone")
	}
}

package boot

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"komainu/appliance/control"
	"komainu/drivers/blockdev"
	"komainu/images/layout"
)

const guid = "0A0B0C0D-0000-8000-8000-000000000001"

// ours has our EFI partition; change adds what the case is about.
func ours(name string, change func(*candidate)) candidate {
	c := candidate{Disk: blockdev.Disk{Name: name, Bus: "ata", Bytes: 8 << 30, Content: "gpt", Partitions: []blockdev.Partition{
		{Name: name + "1", Number: 1, Type: layout.ESPType, Label: layout.ESPName, GUID: guid, Content: "vfat"},
	}}}
	if change != nil {
		change(&c)
	}
	return c
}

func data(content, label string) func(*candidate) {
	return func(c *candidate) {
		c.Partitions = append(c.Partitions, blockdev.Partition{Name: c.Name + "2", Number: 2, Type: layout.DataType, Label: layout.DataName, Content: content})
		c.hasFS, c.fs.Label = content == "ext4", label
	}
}

func TestDecide(t *testing.T) {
	type want struct {
		disk   string
		do     step
		copy   int64
		faults []control.Reason
	}
	foreignDisk := candidate{Disk: blockdev.Disk{Name: "sdb", Partitions: []blockdev.Partition{{Name: "sdb1", Number: 1, Content: "ntfs"}}}}
	for _, c := range []struct {
		name  string
		boot  string
		disks []candidate
		want  want
	}{
		{"no disk", guid, nil, want{faults: []control.Reason{reason("boot-no-disk")}}},
		{"only somebody's disk", guid, []candidate{foreignDisk}, want{faults: []control.Reason{reason("boot-no-disk")}}},
		{"the loader's disk is gone, another one of ours is there", "AFFE", []candidate{ours("sda", data("ext4", layout.DataLabel))}, want{faults: []control.Reason{reason("boot-no-disk")}}},
		{"first boot beside somebody's disk", guid, []candidate{foreignDisk, ours("sda", nil)}, want{disk: "sda", do: create}},
		{"a stick that the image just fits", guid, []candidate{ours("sda", func(c *candidate) { c.Bytes = layout.ESPBytes + 2<<20 })}, want{disk: "sda", faults: []control.Reason{reason("boot-no-room", "sda")}}},
		{"loader unknown", "", []candidate{ours("sda", nil)}, want{disk: "sda", do: create}},
		{"second boot", "0a0b0c0d-0000-8000-8000-000000000001", []candidate{ours("sda", data("ext4", layout.DataLabel))}, want{disk: "sda", do: check}},
		{"cut while it was made", guid, []candidate{ours("sda", func(c *candidate) { data("ext4", layout.DataLabel)(c); c.unmade = true })}, want{disk: "sda", do: format}},
		{"cut before the partition was made", guid, []candidate{ours("sda", func(c *candidate) { c.unmade = true })}, want{disk: "sda", do: create}},
		{"blank", guid, []candidate{ours("sda", data(blockdev.Blank, ""))}, want{disk: "sda", do: format}},
		{"superblock damaged", guid, []candidate{ours("sda", func(c *candidate) {
			data("", "")(c)
			c.hasFS, c.fs = true, blockdev.Ext4{Label: layout.DataLabel, Copy: 32768}
		})}, want{disk: "sda", do: check, copy: 32768}},
		{"somebody's ext4", guid, []candidate{ours("sda", data("ext4", "photos"))}, want{disk: "sda", faults: []control.Reason{reason("boot-data-foreign", "sda2", "ext4 photos")}}},
		{"encrypted", guid, []candidate{ours("sda", data("crypto_LUKS", ""))}, want{disk: "sda", faults: []control.Reason{reason("boot-data-foreign", "sda2", "crypto_LUKS")}}},
		{"nothing known of it", guid, []candidate{ours("sda", data("", ""))}, want{disk: "sda", faults: []control.Reason{reason("boot-data-foreign", "sda2", "?")}}},
		{"write protected", guid, []candidate{ours("sda", func(c *candidate) { data("ext4", layout.DataLabel)(c); c.ReadOnly = true })}, want{disk: "sda", faults: []control.Reason{reason("boot-disk-read-only", "sda")}}},
		{"two copies of one image, nothing kept yet", guid, []candidate{ours("sda", nil), ours("sdb", nil)}, want{disk: "sda", faults: []control.Reason{reason("boot-two-disks", "sda sdb", "sda")}}},
		{"two copies, one with data", guid, []candidate{ours("sda", nil), ours("sdb", data("ext4", layout.DataLabel))}, want{disk: "sdb", do: check, faults: []control.Reason{reason("boot-two-disks", "sda sdb", "sdb")}}},
		{"two of ours, the loader came from one", guid, []candidate{ours("sda", data("ext4", layout.DataLabel)), ours("sdb", func(c *candidate) { c.Partitions[0].GUID = "AFFE" })}, want{disk: "sda", do: check}},
		{"another disk can't be read", guid, []candidate{{Disk: blockdev.Disk{Name: "sdb"}, unknown: "EIO"}, ours("sda", nil)}, want{disk: "sda", do: create, faults: []control.Reason{reason("boot-disk-unreadable", "sdb", "EIO")}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := decide(c.disks, c.boot)
			got := want{p.disk, p.do, p.copy, p.faults}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(want{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		code   int
		forced bool
		want   outcome
	}{
		{0, false, healthy}, {1, false, healthy}, {2, false, healthy}, {4, false, again}, {8, false, again}, {-1, false, hopeless},
		{0, true, healthy}, {1, true, repaired}, {4, true, hopeless}, {5, true, hopeless}, {8, true, hopeless}, {-1, true, hopeless},
	} {
		if got := judge(c.code, c.forced); got != c.want {
			t.Errorf("exit %d, forced %v: %v, want %v", c.code, c.forced, got, c.want)
		}
	}
}

func TestScarce(t *testing.T) {
	if !scarce(0, 2<<20, 1024) || !scarce(20<<10, 2<<20, 1024) || scarce(22<<10, 2<<20, 1024) || scarce(65<<10, 1<<30, 1024) {
		t.Error("scarce")
	}
}

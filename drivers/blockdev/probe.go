package blockdev

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Blank is what Probe says when the first MiB holds nothing but zeros.
const Blank = "blank"

// magics are what a content starts with. Of several the first in the list
// counts: a FAT has a boot sector that looks like a partition table.
var magics = []struct {
	at    int
	magic string
	is    string
}{
	{0, "LUKS\xba\xbe", "crypto_LUKS"},
	{0, "XFSB", "xfs"},
	{3, "NTFS    ", "ntfs"},
	{3, "EXFAT   ", "exfat"},
	{82, "FAT32   ", "vfat"},
	{54, "FAT16   ", "vfat"},
	{54, "FAT12   ", "vfat"},
	{512, "EFI PART", "gpt"},
	{4096, "EFI PART", "gpt"},
	{512, "LABELONE", "LVM"},
	{0x438, "\x53\xef", "ext4"}, // or ext2, ext3, which the same tools handle
	{4086, "SWAPSPACE2", "swap"},
	{4096, "\xfc\x4e\x2b\xa9", "raid"}, // md, metadata 1.2
	{0x10040, "_BHRfS_M", "btrfs"},
	{32769, "CD001", "iso9660"},
}

// Probe tells what a disk or partition holds by its magic number: "gpt", "mbr",
// "ext4", "vfat", "swap", "LVM", "crypto_LUKS" and some more; Blank; empty when
// nothing is known of it. Only the first MiB is read.
func Probe(r io.ReaderAt) (string, error) {
	b := make([]byte, 1<<20)
	n, err := r.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read: %w", err)
	}
	b = b[:n]
	for _, m := range magics {
		if len(b) >= m.at+len(m.magic) && string(b[m.at:m.at+len(m.magic)]) == m.magic {
			return m.is, nil
		}
	}
	if len(b) >= 512 && b[510] == 0x55 && b[511] == 0xaa {
		for entry := 446; entry < 510; entry += 16 {
			if b[entry+4] != 0 {
				return "mbr", nil
			}
		}
	}
	if len(bytes.Trim(b, "\x00")) == 0 {
		return Blank, nil
	}
	return "", nil
}

// Ext4 is what an ext4 file system says about itself (Linux,
// Documentation/filesystems/ext4/super.rst).
type Ext4 struct {
	Label string
	// Copy is the block of 4096 bytes that holds the superblock's copy from which
	// this was read, for e2fsck -b; 0: the superblock itself is fine.
	Copy int64
}

// copyBlock holds the first copy of the superblock in a file system with blocks
// of 4096 bytes, as mkfs.ext4 makes it from 512 MiB upwards.
const copyBlock = 32768

// ReadExt4 reads the superblock, or its first copy when that is damaged; false:
// there is neither, or they can't be read.
func ReadExt4(r io.ReaderAt) (Ext4, bool) {
	for _, at := range []struct{ block, offset int64 }{{0, 1024}, {copyBlock, copyBlock * 4096}} {
		b := make([]byte, 1024)
		if _, err := r.ReadAt(b, at.offset); err != nil {
			continue
		}
		if binary.LittleEndian.Uint16(b[0x38:]) != 0xef53 || at.block != 0 && binary.LittleEndian.Uint32(b[0x18:]) != 2 {
			continue
		}
		label, _, _ := bytes.Cut(b[0x78:0x88], []byte{0})
		return Ext4{Label: string(label), Copy: at.block}, true
	}
	return Ext4{}, false
}

// FATDirty says whether a FAT32 was not unmounted, or had errors: bits 0 and 1
// of the byte at 0x41 of its boot sector, where Linux and Windows keep them.
func FATDirty(r io.ReaderAt) (bool, error) {
	b := make([]byte, 1)
	if _, err := r.ReadAt(b, 0x41); err != nil {
		return false, fmt.Errorf("read the boot sector: %w", err)
	}
	return b[0]&3 != 0, nil
}

package disk

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// The FAT32 below is written in one go from files that are all known: the
// library's writer dates entries by the environment and writes the whole
// allocation table again for every piece of a file. Names and numbers are those
// of Microsoft's "FAT32 File System Specification" 1.03.

// Volume is what a FAT32 says about itself.
type Volume struct {
	Label string // at most 11 capitals and digits
	ID    uint32 // shown as XXXX-XXXX
	Unix  int64  // date of every file, s since 1970; FAT knows 1980 to 2107
}

const (
	cluster  = 4096
	reserved = 32 // sectors before the first table, a multiple of a cluster
	backup   = 6  // sector of the boot sector's copy
	slot     = 32 // bytes of a directory entry
	endMark  = 0x0fffffff

	attrLabel, attrDir, attrFile, attrLong = 0x08, 0x10, 0x20, 0x0f
)

// Format makes a FAT32 with files in the partition p of w. It writes both
// tables and every used cluster and leaves the rest of the partition as it was.
// Sector is the device's logical one, 512 or 4096 bytes.
func Format(w io.WriterAt, p Partition, sector int64, v Volume, files []File) error {
	root := &node{children: map[string]*node{}}
	for _, f := range files {
		if err := root.add(f.Path, f.Data); err != nil {
			return err
		}
	}
	perCluster := cluster / sector
	// Tables are rounded up to whole clusters, so that clusters stand on
	// multiples of 4 KiB of the disk.
	entries := p.Bytes/cluster + 2
	table := (entries*4 + cluster - 1) / cluster * perCluster // sectors
	data := reserved + 2*table
	count := (p.Bytes/sector - data) / perCluster
	if count < 65525 || count > 0x0ffffff4 {
		return fmt.Errorf("a FAT32 of %d MiB has %d clusters, want 65525 to 268435444", p.Bytes/MiB, count)
	}
	next := uint32(2)
	fat := make([]byte, table*sector)
	binary.LittleEndian.PutUint32(fat, 0x0ffffff8)
	binary.LittleEndian.PutUint32(fat[4:], endMark)
	if err := root.place(fat, &next, uint32(count)+2); err != nil { // checked above
		return err
	}
	at := func(b []byte, sectors int64) error {
		if _, err := w.WriteAt(b, p.Start+sectors*sector); err != nil {
			return fmt.Errorf("write the EFI partition: %w", err)
		}
		return nil
	}
	boot := bootSector(p, sector, table, v)
	info := infoSector(sector, uint32(count)+2-next, next) // checked above
	for _, piece := range []struct {
		b       []byte
		sectors int64
	}{
		{make([]byte, reserved*sector), 0}, {boot, 0}, {info, 1}, {boot, backup}, {info, backup + 1},
		{fat, reserved}, {fat, reserved + table},
	} {
		if err := at(piece.b, piece.sectors); err != nil {
			return err
		}
	}
	return root.write(root, v, func(b []byte, c uint32) error { return at(b, data+int64(c-2)*perCluster) })
}

func bootSector(p Partition, sector, table int64, v Volume) []byte {
	le, b := binary.LittleEndian, make([]byte, sector)
	copy(b, "\xeb\x58\x90KOMAINU ")
	le.PutUint16(b[11:], uint16(sector))         // 512 or 4096
	b[13] = byte(cluster / sector)               // BPB_SecPerClus
	le.PutUint16(b[14:], reserved)               // BPB_RsvdSecCnt, 32
	b[16] = 2                                    // BPB_NumFATs
	b[21] = 0xf8                                 // BPB_Media: fixed
	le.PutUint16(b[24:], 63)                     // BPB_SecPerTrk, BPB_NumHeads: nobody counts so any more
	le.PutUint16(b[26:], 255)                    //
	le.PutUint32(b[28:], uint32(p.Start/sector)) // BPB_HiddSec
	le.PutUint32(b[32:], uint32(p.Bytes/sector)) // BPB_TotSec32; at most 1 TiB by the clusters
	le.PutUint32(b[36:], uint32(table))          // BPB_FATSz32
	le.PutUint32(b[44:], 2)                      // BPB_RootClus
	le.PutUint16(b[48:], 1)                      // BPB_FSInfo
	le.PutUint16(b[50:], backup)                 // BPB_BkBootSec
	b[64], b[66] = 0x80, 0x29                    // BS_DrvNum, BS_BootSig
	le.PutUint32(b[67:], v.ID)                   // BS_VolID
	copy(b[71:], fmt.Sprintf("%-11.11s", v.Label))
	copy(b[82:], "FAT32   ")
	b[510], b[511] = 0x55, 0xaa
	return b
}

func infoSector(sector int64, free, next uint32) []byte {
	le, b := binary.LittleEndian, make([]byte, sector)
	le.PutUint32(b, 0x41615252)
	le.PutUint32(b[484:], 0x61417272)
	le.PutUint32(b[488:], free)
	le.PutUint32(b[492:], next)
	le.PutUint32(b[508:], 0xaa550000)
	return b
}

// node is a file or, with children, a folder.
type node struct {
	name     string
	data     []byte
	children map[string]*node
	order    []*node
	first    uint32 // cluster; 0 for an empty file
}

// add puts a file at a path with slashes, with the folders above it.
func (n *node) add(path string, data []byte) error {
	name, rest, deeper := strings.Cut(path, "/")
	if name == "" || name == "." || name == ".." || len(name) > 200 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' || strings.ContainsRune(`"*/:<>?\|`, r) }) {
		return fmt.Errorf("a FAT can't hold a file named %q", path)
	}
	if int64(len(data)) > math.MaxUint32 {
		return fmt.Errorf("a FAT can't hold %s: %d bytes", path, len(data))
	}
	key := strings.ToUpper(name) // FAT tells no case apart
	child := n.children[key]
	switch {
	case child == nil:
		child = &node{name: name}
		n.children[key], n.order = child, append(n.order, child)
		if deeper {
			child.children = map[string]*node{}
		}
	case !deeper || child.children == nil:
		return fmt.Errorf("two files named %s", path)
	}
	if deeper {
		return child.add(rest, data)
	}
	child.data = data
	return nil
}

// place gives n and what is below it clusters in a row and chains them in fat.
func (n *node) place(fat []byte, next *uint32, end uint32) error {
	size := len(n.data)
	if n.children != nil {
		size = 2 * slot // . and .., or the label
		for _, c := range n.order {
			size += slot * (1 + longSlots(c.name))
		}
	}
	clusters := uint32((size + cluster - 1) / cluster) // of 4 GiB at most
	if clusters > end-*next {
		return fmt.Errorf("%w: the EFI partition is full at %s", ErrTooSmall, n.name)
	}
	if clusters > 0 {
		n.first = *next
		*next += clusters
		for c := n.first; c < *next-1; c++ {
			binary.LittleEndian.PutUint32(fat[c*4:], c+1)
		}
		binary.LittleEndian.PutUint32(fat[(*next-1)*4:], endMark)
	}
	for _, c := range n.order {
		if err := c.place(fat, next, end); err != nil {
			return err
		}
	}
	return nil
}

// write hands over the clusters of n and of all below it.
func (n *node) write(parent *node, v Volume, at func(b []byte, cluster uint32) error) error {
	b := n.data
	if n.children != nil {
		b = n.folder(parent, v)
	}
	if whole := len(b) / cluster * cluster; whole < len(b) { // the last cluster, filled up
		if err := at(append(b[whole:len(b):len(b)], make([]byte, cluster-len(b)+whole)...), n.first+uint32(whole/cluster)); err != nil { // of 4 GiB at most
			return err
		}
		b = b[:whole]
	}
	if len(b) > 0 {
		if err := at(b, n.first); err != nil {
			return err
		}
	}
	for _, c := range n.order {
		if err := c.write(n, v, at); err != nil {
			return err
		}
	}
	return nil
}

// folder is the bytes of a folder: label or . and .., then the children.
func (n *node) folder(parent *node, v Volume) []byte {
	var b []byte
	if n == parent {
		b = append(b, entry(fmt.Sprintf("%-11.11s", v.Label), attrLabel, 0, 0, v.Unix)...)
	} else {
		up := parent.first
		if parent.name == "" {
			up = 0 // that is how the root is written
		}
		b = append(b, entry(".          ", attrDir, n.first, 0, v.Unix)...)
		b = append(b, entry("..         ", attrDir, up, 0, v.Unix)...)
	}
	for i, c := range n.order {
		attr := byte(attrFile)
		if c.children != nil {
			attr = attrDir
		}
		short, exact := shortName(c.name, i+1)
		if !exact {
			b = append(b, longName(c.name, short)...)
		}
		b = append(b, entry(short, attr, c.first, len(c.data), v.Unix)...)
	}
	return b
}

func entry(name string, attr byte, first uint32, size int, unix int64) []byte {
	le, b := binary.LittleEndian, make([]byte, slot)
	copy(b, name)
	b[11] = attr
	t := time.Unix(unix, 0).UTC()
	if t.Year() < 1980 || t.Year() > 2107 {
		t = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	date := uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day()) // 16 bits by the format
	clock := uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2)     // likewise
	le.PutUint16(b[14:], clock)
	le.PutUint16(b[16:], date)
	le.PutUint16(b[18:], date)
	le.PutUint16(b[20:], uint16(first>>16)) // the upper half
	le.PutUint16(b[22:], clock)
	le.PutUint16(b[24:], date)
	le.PutUint16(b[26:], uint16(first&0xffff)) // the lower half
	le.PutUint32(b[28:], uint32(size))         // checked by add
	return b
}

// shortName is the 8.3 name of the i-th file of a folder; exact when it says all.
func shortName(name string, i int) (short string, exact bool) {
	stem, ext := name, ""
	if dot := strings.LastIndexByte(name, '.'); dot > 0 {
		stem, ext = name[:dot], name[dot+1:]
	}
	plain := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
				return r
			}
			return -1
		}, strings.ToUpper(s))
	}
	exact = plain(stem) == stem && plain(ext) == ext && len(stem) <= 8 && len(ext) <= 3
	if stem, ext = plain(stem), plain(ext); !exact {
		tail := fmt.Sprintf("~%d", i)
		stem = stem[:min(len(stem), 8-len(tail))] + tail
	}
	return fmt.Sprintf("%-8.8s%-3.3s", stem, ext), exact
}

// longSlots is how many entries the long form of name takes, if it needs one.
func longSlots(name string) int {
	if _, exact := shortName(name, 1); exact {
		return 0
	}
	return (len(name) + 12) / 13
}

// longName is the entries that stand before the short one, last part first.
func longName(name, short string) []byte {
	var sum byte
	for i := range len(short) {
		sum = sum>>1 | sum<<7
		sum += short[i]
	}
	var b []byte
	for n := longSlots(name); n > 0; n-- {
		e := make([]byte, slot)
		e[0], e[11], e[13] = byte(n), attrLong, sum // at most 16 of 13
		if len(b) == 0 {
			e[0] |= 0x40
		}
		for i := range 13 {
			at := [13]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30}[i]
			unit := uint16(0xffff)
			switch k := (n-1)*13 + i; {
			case k < len(name):
				unit = uint16(name[k])
			case k == len(name):
				unit = 0
			}
			binary.LittleEndian.PutUint16(e[at:], unit)
		}
		b = append(b, e...)
	}
	return b
}

package esp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"

	"komainu/images/layout"
)

// Volume is the device of an EFI partition that isn't mounted.
type Volume interface {
	io.ReaderAt
	io.WriterAt
}

// Uncross dissolves what a cut in the middle of a rename or a removal left in
// layout.Images: of two names on one chain of clusters one is struck out, the
// one with a counter or still without its final name; and a name whose clusters
// are free is struck out. Clusters are never freed, so no file loses any; what
// nobody names afterwards is lost room, which fsck.fat gives back. It returns
// the names that it struck out. A partition that is no FAT32, or without the
// folder, is left alone. (Microsoft FAT specification 1.03, sections 3 to 6)
func Uncross(v Volume) (struck []string, err error) {
	f, ok, err := readFAT(v)
	if !ok || err != nil {
		return nil, err
	}
	at := f.root
	for part := range strings.SplitSeq(layout.Images, "/") {
		all, err := f.folder(at)
		if err != nil {
			return nil, err
		}
		at = 0
		for _, e := range all {
			if strings.EqualFold(e.name, part) && e.dir {
				at = e.first
			}
		}
		if at == 0 {
			return nil, nil
		}
	}
	all, err := f.folder(at)
	if err != nil {
		return nil, err
	}
	keep := map[uint32]entry{}
	strike := func(e entry) error {
		struck = append(struck, e.name)
		return f.strike(e)
	}
	for _, e := range all {
		if e.dir || e.first == 0 {
			continue
		}
		next, err := f.next(e.first)
		if err != nil {
			return struck, err
		}
		other, twice := keep[e.first]
		switch {
		case next == 0:
			err = strike(e)
		case !twice:
			keep[e.first] = e
		case e.rank() > other.rank():
			keep[e.first] = e
			err = strike(other)
		default:
			err = strike(e)
		}
		if err != nil {
			return struck, err
		}
	}
	return struck, nil
}

// entry is a file or folder: its slots are its long name's and its own.
type entry struct {
	name  string
	dir   bool
	first uint32
	slots []int64 // positions on the device
}

// rank: a final name without a counter, one with, any other.
func (e entry) rank() int {
	switch i, ok := ParseName(e.name); {
	case !ok:
		return 0
	case i.Counted:
		return 1
	}
	return 2
}

type fat struct {
	v       Volume
	table   int64 // position of the first table
	data    int64 // of cluster 2
	cluster int64 // bytes
	count   uint32
	root    uint32
}

const slot = 32

// foldersMost is how many clusters a folder may take: beyond, it goes round.
const foldersMost = 1024

func readFAT(v Volume) (f fat, ok bool, err error) {
	b := make([]byte, 512)
	if _, err := v.ReadAt(b, 0); err != nil {
		return f, false, named("look for crossed names", err)
	}
	le := binary.LittleEndian
	sector, per, reserved, tables, size := int64(le.Uint16(b[11:])), int64(b[13]), int64(le.Uint16(b[14:])), int64(b[16]), int64(le.Uint32(b[36:]))
	total := int64(le.Uint32(b[32:]))
	if b[510] != 0x55 || b[511] != 0xaa || !bytes.Equal(b[82:87], []byte("FAT32")) || sector < 512 || per == 0 || size == 0 {
		return f, false, nil
	}
	f = fat{v: v, table: reserved * sector, data: (reserved + tables*size) * sector, cluster: per * sector, root: le.Uint32(b[44:])}
	clusters := (total - reserved - tables*size) / per
	if clusters < 1 || clusters > 1<<28 {
		return f, false, nil
	}
	f.count = uint32(clusters) //nolint:gosec // checked above
	return f, true, nil
}

// next is the table's word for a cluster: 0 free.
func (f fat) next(cluster uint32) (uint32, error) {
	if cluster < 2 || cluster-2 >= f.count {
		return 0, nil
	}
	var b [4]byte
	if _, err := f.v.ReadAt(b[:], f.table+4*int64(cluster)); err != nil {
		return 0, named("read the FAT", err)
	}
	return binary.LittleEndian.Uint32(b[:]) & 0x0fffffff, nil
}

func (f fat) folder(cluster uint32) ([]entry, error) {
	var all []entry
	var long []byte // UTF-16LE, of the slots so far
	var slots []int64
	for range foldersMost {
		if cluster < 2 || cluster-2 >= f.count {
			return all, nil
		}
		at := f.data + int64(cluster-2)*f.cluster
		b := make([]byte, f.cluster)
		if _, err := f.v.ReadAt(b, at); err != nil {
			return nil, named("read a folder", err)
		}
		for i := int64(0); i < f.cluster; i += slot {
			s := b[i : i+slot]
			switch {
			case s[0] == 0:
				return all, nil
			case s[0] == 0xe5:
				long, slots = nil, nil
			case s[11]&0x3f == 0x0f: // the parts of a long name stand last first
				part := bytes.Join([][]byte{s[1:11], s[14:26], s[28:32]}, nil)
				if s[0]&0x40 != 0 {
					long, slots = nil, nil
				}
				long, slots = append(part, long...), append(slots, at+i)
			default:
				if s[11]&0x08 == 0 { // no label
					all = append(all, entry{nameOf(s, long), s[11]&0x10 != 0,
						uint32(binary.LittleEndian.Uint16(s[20:]))<<16 | uint32(binary.LittleEndian.Uint16(s[26:])), append(slots, at+i)})
				}
				long, slots = nil, nil
			}
		}
		var err error
		if cluster, err = f.next(cluster); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: a folder goes round", ErrDamaged)
}

func nameOf(s, long []byte) string {
	if long == nil {
		ext := strings.TrimRight(string(s[8:11]), " ")
		return strings.TrimSuffix(strings.TrimRight(string(s[:8]), " ")+"."+ext, ".")
	}
	var u []uint16
	for ; len(long) >= 2; long = long[2:] {
		c := binary.LittleEndian.Uint16(long)
		if c == 0 {
			break
		}
		u = append(u, c)
	}
	return string(utf16.Decode(u))
}

// strike removes a name and leaves its clusters: its own slot first, since a
// long name without it means nothing.
func (f fat) strike(e entry) error {
	for i := len(e.slots) - 1; i >= 0; i-- {
		if _, err := f.v.WriteAt([]byte{0xe5}, e.slots[i]); err != nil {
			return named("strike out "+e.name, err)
		}
	}
	return nil
}

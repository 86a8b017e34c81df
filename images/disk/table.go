// Package disk writes what a disk of the appliance starts with: the partition
// table, the EFI partition's FAT32 and the files in it, as an image file or on
// a real disk, without root and with the same bytes for the same input. It
// never makes or reads the data partition's file system. Start reading at
// Write; an installer starts at WriteGPT.
package disk

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"komainu/images/layout"
)

// Errors that callers decide by.
var (
	ErrTooSmall = errors.New("the disk is too small")
	ErrForeign  = errors.New("the disk doesn't hold the appliance's partitions")
)

// Device is a disk or an image file, opened for reading and writing; *os.File is one.
type Device interface {
	fs.File
	io.ReaderAt
	io.WriterAt
	io.Seeker
}

// Geometry of a device.
type Geometry struct {
	Bytes  int64 // of the whole device
	Sector int64 // logical sector, 512 or 4096 (/sys/block/NAME/queue/logical_block_size)
}

// Partition is where one stands, in bytes from the start of the device.
type Partition struct {
	Number int    // 1 and up, as in /dev/sda1
	Type   string // GUID, upper case; layout.ESPType, layout.DataType
	Name   string // layout.ESPName, layout.DataName
	GUID   string // its own, upper case
	Start  int64
	Bytes  int64
}

// MiB aligns partitions, as every partitioning program does.
const MiB = 1 << 20

// LeastBytes is the smallest device that holds the appliance with its data.
const LeastBytes = layout.ESPBytes + layout.DataBytes + 2*MiB

// WriteGPT writes a new partition table: the EFI partition, and with withData
// the data partition over the rest. Whatever stood on dev is lost. The disk's
// and the partitions' GUIDs come from id: the same id gives the same, so it
// names the disk (its serial number) or the image. The copy of the table at the
// end becomes durable before the one at the start, so a cut leaves one of them.
func WriteGPT(dev Device, g Geometry, id string, withData bool) ([]Partition, error) {
	parts := []Partition{{
		Number: 1, Type: layout.ESPType, Name: layout.ESPName, GUID: guid(id, layout.ESPName), Start: MiB, Bytes: layout.ESPBytes,
	}}
	if withData {
		p, err := rest(g, parts[0], id)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, write(dev, g, guid(id, "disk"), parts)
}

// AddData gives a disk that was copied from the image its data partition over
// the rest, and moves the second copy of the table to the disk's true end. A
// disk that has one already is left as it is, but for a table that a cut has
// damaged. It may be cut at any write and be called again. The error is ErrForeign when
// there is no EFI partition of ours in a readable table, ErrTooSmall when less
// than layout.DataBytes is left.
func AddData(dev Device, g Geometry) (Partition, error) {
	t, err := read(dev, g)
	if err != nil {
		return Partition{}, err
	}
	parts := list(t, g)
	esp, ok := Find(parts, layout.ESPType, layout.ESPName)
	if !ok {
		return Partition{}, fmt.Errorf("%w: there is no partition named %s: write the image to it again", ErrForeign, layout.ESPName)
	}
	if data, ok := Find(parts, layout.DataType, layout.DataName); ok {
		if t.RecoveredFromBackup { // a cut in the middle of this, once
			return data, write(dev, g, t.GUID, parts)
		}
		return data, nil
	}
	if len(parts) > 1 {
		return Partition{}, fmt.Errorf("%w: %d other partitions stand on it: write the image to it again", ErrForeign, len(parts)-1)
	}
	data, err := rest(g, esp, t.GUID)
	if err != nil {
		return Partition{}, err
	}
	return data, write(dev, g, t.GUID, []Partition{esp, data})
}

// Partitions reads the table of dev, or its copy at the end where the first
// is damaged. The error is ErrForeign when there is none, or that of dev.
func Partitions(dev Device, g Geometry) ([]Partition, error) {
	t, err := read(dev, g)
	if err != nil {
		return nil, err
	}
	return list(t, g), nil
}

// Find looks a partition up by type and name.
func Find(parts []Partition, kind, name string) (Partition, bool) {
	for _, p := range parts {
		if p.Type == kind && p.Name == name {
			return p, true
		}
	}
	return Partition{}, false
}

// rest is the data partition behind esp.
func rest(g Geometry, esp Partition, id string) (Partition, error) {
	start := (esp.Start + esp.Bytes + MiB - 1) &^ (MiB - 1)
	end := (g.Bytes - MiB) &^ (MiB - 1) // the last MiB holds the copy of the table
	if end-start < layout.DataBytes {
		return Partition{}, fmt.Errorf("%w: it has %d MiB, at least %d are needed", ErrTooSmall, g.Bytes/MiB, (start+layout.DataBytes+MiB)/MiB)
	}
	return Partition{Number: esp.Number + 1, Type: layout.DataType, Name: layout.DataName, GUID: guid(id, layout.DataName), Start: start, Bytes: end - start}, nil
}

func write(dev Device, g Geometry, id string, parts []Partition) error {
	if err := g.check(); err != nil {
		return err
	}
	if last := parts[len(parts)-1]; last.Start+last.Bytes > g.Bytes-MiB/2 {
		return fmt.Errorf("%w: it has %d MiB, at least %d are needed", ErrTooSmall, g.Bytes/MiB, (last.Start+last.Bytes)/MiB+1)
	}
	t := &gpt.Table{LogicalSectorSize: int(g.Sector), PhysicalSectorSize: int(g.Sector), GUID: id, ProtectiveMBR: true}
	for _, p := range parts {
		t.Partitions = append(t.Partitions, &gpt.Partition{
			Index: p.Number, Type: gpt.Type(p.Type), Name: p.Name, GUID: p.GUID,
			Start: uint64(p.Start / g.Sector), End: uint64((p.Start+p.Bytes)/g.Sector - 1), Size: uint64(p.Bytes), // positive
		})
	}
	if err := t.Write(dev, g.Bytes); err != nil {
		return fmt.Errorf("write the partition table: %w", err)
	}
	return nil
}

func read(dev Device, g Geometry) (*gpt.Table, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	if _, err := dev.ReadAt(make([]byte, g.Sector), g.Sector); err != nil {
		return nil, fmt.Errorf("read the partition table: %w", err)
	}
	t, err := gpt.Read(dev, int(g.Sector), int(g.Sector))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	return t, nil
}

func list(t *gpt.Table, g Geometry) []Partition {
	var parts []Partition
	for _, p := range t.Partitions {
		parts = append(parts, Partition{
			Number: p.Index, Type: strings.ToUpper(string(p.Type)), Name: p.Name, GUID: strings.ToUpper(p.GUID),
			Start: int64(p.Start) * g.Sector, Bytes: int64(p.End-p.Start+1) * g.Sector, // sectors of a disk
		})
	}
	return parts
}

func (g Geometry) check() error {
	if g.Sector != 512 && g.Sector != 4096 {
		return fmt.Errorf("sectors of %d bytes, want 512 or 4096", g.Sector)
	}
	if g.Bytes < 4*MiB {
		return fmt.Errorf("%w: it has %d bytes", ErrTooSmall, g.Bytes)
	}
	return nil
}

// guid derives a GUID of version 8 (RFC 9562) from what it is for.
func guid(id, use string) string {
	h := sha256.Sum256([]byte("komainu " + use + "\x00" + id))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16]))
}

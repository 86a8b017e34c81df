// Package blockdev lists the machine's disks with their partitions, tells what
// is on them by its magic numbers, and has the kernel take in a new partition.
// It never decides which disk is ours and never writes to one. Start reading at
// Root.List and Root.Look; making partitions is images/disk's.
package blockdev

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

// Disk is a whole disk.
type Disk struct {
	Name       string // "sda"
	Model      string
	Serial     string
	Bytes      int64
	Sector     int64  // logical, 512 or 4096
	Bus        string // "usb", "nvme", "ata", "virtio", "scsi", "mmc"; empty: unknown
	Removable  bool   // its medium can be taken out
	ReadOnly   bool
	Content    string      // as Probe says; set by Look
	Partitions []Partition // in the order of their numbers; set by Look
}

// Partition is one of a disk's. Type, GUID and Label are those of its GPT,
// empty on a disk with another table.
type Partition struct {
	Name    string // "sda1", "nvme0n1p1"
	Number  int    // 1 and up
	Start   int64  // bytes
	Bytes   int64
	Type    string // upper case
	GUID    string // upper case
	Label   string // its name in the GPT
	Content string // as Probe says
}

// Root is where the kernel shows its devices: "/sys" and "/dev".
type Root struct{ Sys, Dev string }

// notDisks are block devices that behave like disks and aren't: CD drives,
// floppies, network disks, hidden areas of eMMC. Loop and RAM devices have no
// hardware below them and are left out by that.
var notDisks = regexp.MustCompile(`^(sr|fd|nbd)\d|boot\d$|rpmb$`)

// List gives the disks that have a medium, sorted by name, without opening one.
func (r Root) List() ([]Disk, error) {
	names, err := os.ReadDir(filepath.Join(r.Sys, "block"))
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	var disks []Disk
	for _, e := range names {
		dir := filepath.Join(r.Sys, "block", e.Name())
		if _, err := os.Stat(filepath.Join(dir, "device")); err != nil || notDisks.MatchString(e.Name()) {
			continue
		}
		d := Disk{
			Name:      strings.ReplaceAll(e.Name(), "!", "/"), // cciss!c0d0
			Bytes:     number(dir, "size") * 512,              // always in units of 512
			Sector:    number(dir, "queue/logical_block_size"),
			Removable: number(dir, "removable") == 1,
			ReadOnly:  number(dir, "ro") == 1,
			Model:     first(text(dir, "device/model"), text(dir, "device/name")),
		}
		if d.Bytes == 0 {
			continue // a card reader without a card
		}
		d.Bus = bus(dir, d.Name)
		d.Serial = serial(dir)
		disks = append(disks, d)
	}
	return disks, nil
}

// Look opens the disk for reading and adds what is on it. A disk that can't be
// read is an error; so is a partition table that can't be understood.
func (r Root) Look(d Disk) (Disk, error) {
	f, err := os.Open(filepath.Join(r.Dev, d.Name))
	if err != nil {
		return d, fmt.Errorf("look at disk: %w", err)
	}
	defer f.Close()
	if d.Content, err = Probe(f); err != nil {
		return d, fmt.Errorf("look at disk %s: %w", d.Name, err)
	}
	d.Partitions = r.Partitions(d)
	if d.Content == "gpt" {
		if err := readTable(f, &d); err != nil {
			return d, err
		}
	}
	for i := range d.Partitions {
		// One that can't be read stays unknown: the others count.
		_ = r.Read(d, d.Partitions[i], func(in io.ReaderAt) error {
			d.Partitions[i].Content, err = Probe(in)
			return err
		})
	}
	return d, nil
}

// Read hands over a partition for reading. It goes through the partition's own
// device: what is read through the whole disk's may be older, since the kernel
// caches both apart. Only what it doesn't know yet is read through the disk's.
func (r Root) Read(d Disk, p Partition, use func(io.ReaderAt) error) error {
	f, err := os.Open(filepath.Join(r.Dev, p.Name))
	if err == nil {
		defer f.Close()
		return use(f)
	}
	if f, err = os.Open(filepath.Join(r.Dev, d.Name)); err != nil {
		return fmt.Errorf("read partition: %w", err)
	}
	defer f.Close()
	return use(io.NewSectionReader(f, p.Start, p.Bytes))
}

// Partitions are those that the kernel has, without what only the table says.
func (r Root) Partitions(d Disk) []Partition {
	base := filepath.Join(r.Sys, "block", strings.ReplaceAll(d.Name, "/", "!"))
	found, _ := filepath.Glob(filepath.Join(base, "*", "partition")) // only a malformed pattern fails
	var parts []Partition
	for _, file := range found {
		dir := filepath.Dir(file)
		parts = append(parts, Partition{
			Name: strings.ReplaceAll(filepath.Base(dir), "!", "/"), Number: int(number(dir, "partition")),
			Start: number(dir, "start") * 512, Bytes: number(dir, "size") * 512,
		})
	}
	slices.SortFunc(parts, func(a, b Partition) int { return a.Number - b.Number })
	return parts
}

// readTable adds what only the table says. Its partitions that the kernel
// doesn't have are added too, so that a table which was changed is seen.
func readTable(f *os.File, d *Disk) error {
	if d.Sector != 512 && d.Sector != 4096 {
		return fmt.Errorf("disk %s: sectors of %d bytes, want 512 or 4096", d.Name, d.Sector)
	}
	t, err := gpt.Read(f, int(d.Sector), int(d.Sector))
	if err != nil {
		return fmt.Errorf("disk %s: read its partition table: %w", d.Name, err)
	}
	for _, e := range t.Partitions {
		at := slices.IndexFunc(d.Partitions, func(p Partition) bool { return p.Number == e.Index })
		if at < 0 {
			at = len(d.Partitions)
			d.Partitions = append(d.Partitions, Partition{
				Name: PartitionName(d.Name, e.Index), Number: e.Index,
				Start: int64(e.Start) * d.Sector, Bytes: int64(e.End-e.Start+1) * d.Sector, //nolint:gosec // sectors of a disk
			})
		}
		p := &d.Partitions[at]
		p.Type, p.GUID, p.Label = strings.ToUpper(string(e.Type)), strings.ToUpper(e.GUID), e.Name
	}
	slices.SortFunc(d.Partitions, func(a, b Partition) int { return a.Number - b.Number })
	return nil
}

// PartitionName is the kernel's: a "p" goes between where the disk's own name
// ends in a digit.
func PartitionName(disk string, number int) string {
	if last := disk[len(disk)-1]; last >= '0' && last <= '9' {
		disk += "p"
	}
	return disk + strconv.Itoa(number)
}

// Find gives the partition with this type (upper case) and name in the GPT.
func (d Disk) Find(kind, label string) (Partition, bool) {
	for _, p := range d.Partitions {
		if p.Type == kind && p.Label == label {
			return p, true
		}
	}
	return Partition{}, false
}

// bus tells by the device's place in the tree, then by its driver's names.
func bus(dir, name string) string {
	at, err := filepath.EvalSymlinks(dir)
	if err != nil {
		at = dir
	}
	switch {
	case strings.Contains(at, "/usb"):
		return "usb"
	case strings.HasPrefix(name, "nvme"):
		return "nvme"
	case strings.HasPrefix(name, "mmcblk"):
		return "mmc"
	case strings.Contains(at, "/ata"):
		return "ata"
	case strings.HasPrefix(name, "vd"):
		return "virtio"
	case strings.HasPrefix(name, "sd"):
		return "scsi"
	}
	return ""
}

// serial looks where the drivers put it: virtio, NVMe and MMC, SCSI's vital
// product data (SPC-4, page 80h), the USB device that a stick is.
func serial(dir string) string {
	if s := first(text(dir, "serial"), text(dir, "device/serial")); s != "" {
		return s
	}
	if page, err := os.ReadFile(filepath.Join(dir, "device/vpd_pg80")); err == nil && len(page) > 4 {
		if s := clean(string(page[4:])); s != "" {
			return s
		}
	}
	if at, err := filepath.EvalSymlinks(filepath.Join(dir, "device")); err == nil && strings.Contains(at, "/usb") {
		for ; strings.Contains(at, "/usb"); at = filepath.Dir(at) {
			if _, err := os.Stat(filepath.Join(at, "idVendor")); err == nil {
				return text(at, "serial")
			}
		}
	}
	return first(text(dir, "device/wwid"), text(dir, "wwid"))
}

// text is a file of sysfs; empty where there is none.
func text(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return clean(string(b))
}

// clean keeps what can be shown: firmware pads with spaces and zeros.
func clean(s string) string {
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return -1
		}
		return c
	}, s))
}

func number(dir, name string) int64 {
	n, err := strconv.ParseInt(text(dir, name), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func first(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}

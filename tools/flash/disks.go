package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Host is where disks are looked up: / and, in tests, a folder like it.
type Host struct{ Root string }

// Disk is a whole disk of the workstation.
type Disk struct {
	Name      string // as in /dev
	Path      string // the device file
	Model     string
	Serial    string // "" when it tells none
	Bytes     int64
	Sector    int64 // logical, bytes
	Removable bool  // says so itself, or hangs on USB
	ReadOnly  bool
	Uses      []Use // why nothing may be written to it
}

// Use is one thing that holds a disk.
type Use struct {
	Code string // a key of words
	Arg  string
}

// ID is what the user types to confirm: the serial number, or the name of a
// disk that has none.
func (d Disk) ID() string {
	if d.Serial != "" {
		return d.Serial
	}
	return d.Name
}

// Disks are the host's, by name. Loop devices, RAM disks, optical drives and
// what the kernel puts together from other disks are left out.
func (h Host) Disks() ([]Disk, error) {
	blocks := filepath.Join(h.Root, "sys/block")
	all, err := os.ReadDir(blocks)
	if err != nil {
		return nil, fmt.Errorf("look for disks: %w", err)
	}
	mounts, err := h.mounts()
	if err != nil {
		return nil, err
	}
	var disks []Disk
	for _, e := range all {
		dir := filepath.Join(blocks, e.Name())
		if _, err := os.Stat(filepath.Join(dir, "device")); err != nil || word(dir, "device/type") == "5" || number(dir, "size") == 0 {
			continue // no hardware behind it, an optical drive, or a reader without a card
		}
		d := Disk{
			Name: e.Name(), Path: filepath.Join(h.Root, "dev", e.Name()),
			Model: model(dir),
			Bytes: number(dir, "size") * 512, Sector: number(dir, "queue/logical_block_size"),
			Removable: word(dir, "removable") == "1", ReadOnly: word(dir, "ro") == "1",
		}
		usb := usbFolder(dir)
		d.Removable = d.Removable || usb != ""
		d.Serial = serial(dir, usb)
		if d.Uses, err = h.uses(d, dir, mounts); err != nil {
			return nil, err
		}
		disks = append(disks, d)
	}
	return disks, nil
}

// word is the content of a file of sysfs, "" when there is none.
func word(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// model is the vendor's name, where it is one and no PCI number, and the model's.
func model(dir string) string {
	vendor := word(dir, "device/vendor")
	if strings.HasPrefix(vendor, "0x") {
		vendor = ""
	}
	return strings.TrimSpace(vendor + " " + word(dir, "device/model"))
}

func number(dir, name string) int64 {
	n, _ := strconv.ParseInt(word(dir, name), 10, 64) // 0 where there is none
	return n
}

// usbFolder is the folder of the USB device that the disk hangs on, or "".
func usbFolder(dir string) string {
	at, err := filepath.EvalSymlinks(dir)
	for err == nil && at != filepath.Dir(at) {
		if _, missing := os.Stat(filepath.Join(at, "idVendor")); missing == nil {
			return at
		}
		at = filepath.Dir(at)
	}
	return ""
}

// serial looks where each kind of disk tells it.
func serial(dir, usb string) string {
	for _, name := range []string{"device/serial", "serial"} { // NVMe and MMC; virtio
		if s := word(dir, name); s != "" {
			return s
		}
	}
	if usb != "" {
		return word(usb, "serial")
	}
	// SCSI and SATA: page 80h of the vital product data, behind 4 bytes of head.
	if b, err := os.ReadFile(filepath.Join(dir, "device/vpd_pg80")); err == nil && len(b) > 4 {
		return strings.TrimSpace(strings.Trim(string(b[4:]), "\x00"))
	}
	return ""
}

// mount is one line of mountinfo.
type mount struct{ number, source, at string }

func (h Host) mounts() ([]mount, error) {
	b, err := os.ReadFile(filepath.Join(h.Root, "proc/self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("look for mounted file systems: %w", err)
	}
	var all []mount
	for line := range strings.Lines(string(b)) {
		front, back, _ := strings.Cut(line, " - ") // proc_pid_mountinfo(5)
		f, k := strings.Fields(front), strings.Fields(back)
		if len(f) >= 5 && len(k) >= 2 {
			all = append(all, mount{f[2], k[1], f[4]})
		}
	}
	return all, nil
}

// uses finds what holds the disk or one of its partitions: a mounted file
// system, swap, a device built upon it, a member of a volume group or an array.
func (h Host) uses(d Disk, dir string, mounts []mount) ([]Use, error) {
	parts, err := filepath.Glob(filepath.Join(dir, d.Name+"*"))
	if err != nil {
		return nil, fmt.Errorf("look for partitions of %s: %w", d.Name, err)
	}
	swaps, err := os.ReadFile(filepath.Join(h.Root, "proc/swaps"))
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel without swap
		return nil, fmt.Errorf("look for swap: %w", err)
	}
	var uses []Use
	for _, part := range append([]string{dir}, parts...) {
		name := filepath.Base(part)
		dev, at := "/dev/"+name, word(part, "dev")
		for _, m := range mounts {
			if m.number == at && at != "" || m.source == dev {
				uses = append(uses, Use{"use-mounted", m.at})
			}
		}
		for line := range strings.Lines(string(swaps)) {
			if f := strings.Fields(line); len(f) > 0 && f[0] == dev {
				uses = append(uses, Use{"use-swap", dev})
			}
		}
		holders, err := os.ReadDir(filepath.Join(part, "holders"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("look for what is built upon %s: %w", name, err)
		}
		for _, e := range holders {
			uses = append(uses, Use{"use-holder", e.Name()})
		}
		if kind := member(filepath.Join(h.Root, dev)); kind != "" {
			uses = append(uses, Use{"use-member", kind + " (" + dev + ")"})
		}
	}
	slices.SortFunc(uses, func(a, b Use) int { return strings.Compare(a.Code+a.Arg, b.Code+b.Arg) })
	return slices.Compact(uses), nil
}

// member says whether a device belongs to a volume group or array that isn't
// running at the moment: "LVM", "RAID" or "". A device that can't be read is
// none; opening it for writing fails as well.
func member(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close() // only read: nothing to lose
	b := make([]byte, 8192)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return ""
	}
	const raid = 0xa92b4efc // of Linux md, versions 1.1 and 1.2
	switch b = b[:n]; {
	case len(b) >= 1024 && bytes.HasPrefix(b[512:], []byte("LABELONE")):
		return "LVM"
	case len(b) >= 4100 && (binary.LittleEndian.Uint32(b) == raid || binary.LittleEndian.Uint32(b[4096:]) == raid):
		return "RAID"
	}
	// Versions 0.90 and 1.0 stand at the end, on multiples of 64 and 4 KiB.
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	for _, at := range []int64{end&^(64<<10-1) - 64<<10, (end - 8<<10) &^ (4<<10 - 1)} {
		var magic [4]byte
		if at < 0 {
			continue
		}
		if _, err := f.ReadAt(magic[:], at); err == nil && binary.LittleEndian.Uint32(magic[:]) == raid {
			return "RAID"
		}
	}
	return ""
}

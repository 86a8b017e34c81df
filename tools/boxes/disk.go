package boxes

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"komainu/tools/boxes/nbd"
)

// Disk is one that a box has, or a stick.
type Disk struct {
	Name   string // letters and digits
	From   string // file that is copied when the box is made; empty: blank
	Size   int64  // bytes, a multiple of 1 MiB; 0: that of From
	Bus    Bus
	Serial string // as the guest sees it; empty: Name
	// Plain disks never lose what was written and not flushed.
	Plain bool
	// Out is not plugged in when the box starts; see Box.Plug. USB only.
	Out bool
}

// Bus is how a disk is connected.
type Bus string

// The buses.
const (
	Virtio Bus = "" // virtio-blk
	NVMe   Bus = "nvme"
	AHCI   Bus = "ahci"
	USB    Bus = "usb" // usb-storage behind an xHCI, removable
)

// device is QEMU's device for the disk, that boots as number index.
func (d Disk) device(index int) map[string]any {
	m := map[string]any{"id": "disk-" + d.Name, "drive": d.Name, "serial": d.Serial, "bootindex": index, "write-cache": "on"}
	switch d.Bus {
	case NVMe:
		m["driver"] = "nvme"
		delete(m, "write-cache") // always there
	case AHCI:
		m["driver"] = "ide-hd"
		m["bus"] = fmt.Sprintf("ide.%d", index-1)
	case USB:
		m["driver"] = "usb-storage"
		m["bus"] = "xhci.0"
		m["removable"] = true
	default:
		m["driver"] = "virtio-blk-pci"
	}
	return m
}

// drive is a disk of a box.
type drive struct {
	Disk
	file   string
	cache  *nbd.Cache // nil: plain
	server *nbd.Server
	index  int
	in     bool
}

// newDrive makes the file in dir, and its server.
func newDrive(dir string, d Disk, index int) (*drive, error) {
	v := &drive{Disk: d, file: filepath.Join(dir, d.Name+".img"), index: index, in: !d.Out}
	if v.Serial == "" {
		v.Serial = d.Name
	}
	if err := copySparse(v.file, d.From, d.Size); err != nil {
		return nil, fmt.Errorf("disk %s: %w", d.Name, err)
	}
	if d.Plain {
		return v, nil
	}
	var err error
	if v.cache, err = nbd.Open(v.file, nbd.Options{}); err != nil {
		return nil, err
	}
	if v.server, err = nbd.Listen(v.socket(), v.cache); err != nil {
		return nil, errors.Join(err, v.cache.Close())
	}
	return v, nil
}

func (v *drive) socket() string { return v.file + ".sock" }

// node is QEMU's block node for the disk.
func (v *drive) node() map[string]any {
	if v.cache == nil {
		return map[string]any{"driver": "raw", "node-name": v.Name, "file": map[string]any{"driver": "file", "filename": v.file}}
	}
	return map[string]any{
		"driver": "nbd", "node-name": v.Name, "export": v.Name,
		"server": map[string]any{"type": "unix", "path": v.socket()},
	}
}

// cut loses what a power cut loses; nobody may be using the disk.
func (v *drive) cut(seed uint64) (loss nbd.Loss, err error) {
	if v.cache == nil {
		return loss, nil
	}
	// The server may not have noticed yet that its client is dead.
	err = v.server.Close()
	loss, cerr := v.cache.Cut(seed)
	if err = errors.Join(err, cerr); err != nil {
		return loss, fmt.Errorf("disk %s: %w", v.Name, err)
	}
	v.server, err = nbd.Listen(v.socket(), v.cache)
	return loss, err
}

func (v *drive) close() error {
	if v.cache == nil {
		return nil
	}
	return errors.Join(v.server.Close(), v.cache.Close())
}

// copySparse copies the data of a file and leaves its holes, then sets the size
// (0: as it is). Without from, the file is one hole.
func copySparse(to, from string, size int64) (err error) {
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if from != "" {
		in, err := os.Open(from)
		if err != nil {
			return err
		}
		defer in.Close()
		info, err := in.Stat()
		if err != nil {
			return err
		}
		if size == 0 {
			size = info.Size()
		}
		if size < info.Size() {
			return fmt.Errorf("%d bytes are less than the %d of %s", size, info.Size(), from)
		}
		if err := copyData(out, in); err != nil {
			return fmt.Errorf("copy %s: %w", from, err)
		}
	}
	return out.Truncate(size)
}

func copyData(out, in *os.File) error {
	for off := int64(0); ; {
		begin, err := in.Seek(off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // nothing but holes
		}
		if err != nil {
			return err
		}
		if off, err = in.Seek(begin, unix.SEEK_HOLE); err != nil {
			return err
		}
		if _, err := in.Seek(begin, io.SeekStart); err != nil {
			return err
		}
		if _, err := out.Seek(begin, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(out, in, off-begin); err != nil {
			return err
		}
	}
}

// copyFile is for small ones.
func copyFile(to, from string) error {
	b, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: install the packages ovmf and qemu-system-x86", err)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}

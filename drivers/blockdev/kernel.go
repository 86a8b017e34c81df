package blockdev

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Announce has the kernel take in one partition that was added to the disk's
// table (BLKPG, BLKPG_ADD_PARTITION). Unlike a reread of the whole table that
// works while other partitions are mounted. One that is there already is fine.
func (r Root) Announce(disk string, p Partition) error {
	f, err := os.OpenFile(filepath.Join(r.Dev, disk), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("announce partition: %w", err)
	}
	defer f.Close()
	// struct blkpg_partition and blkpg_ioctl_arg of linux/blkpg.h.
	part := struct {
		start, length int64
		number        int32
		names         [128]byte
		_             int32
	}{start: p.Start, length: p.Bytes, number: int32(p.Number)} //nolint:gosec // at most 128
	arg := struct {
		op, flags, size int32
		data            *byte
	}{op: 1, size: int32(unsafe.Sizeof(part)), data: (*byte)(unsafe.Pointer(&part))}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 && errno != unix.EBUSY { // EBUSY: it overlaps one that is there, which is this one
		return fmt.Errorf("announce partition %d of %s: %w", p.Number, disk, errno)
	}
	if errno == unix.EBUSY && !r.has(disk, p) {
		return fmt.Errorf("announce partition %d of %s: another one is in its place: restart", p.Number, disk)
	}
	return nil
}

func (r Root) has(disk string, p Partition) bool {
	for _, k := range r.Partitions(Disk{Name: disk}) {
		if k.Number == p.Number && k.Start == p.Start && k.Bytes == p.Bytes {
			return true
		}
	}
	return false
}

// Reread has the kernel read the whole partition table anew (BLKRRPART). It
// fails with EBUSY while a partition of the disk is in use.
func (r Root) Reread(disk string) error {
	f, err := os.Open(filepath.Join(r.Dev, disk))
	if err != nil {
		return fmt.Errorf("reread partitions: %w", err)
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0); err != nil {
		return fmt.Errorf("reread partitions of %s: %w", disk, err)
	}
	return nil
}

// unmade is the mark of a disk whose data partition was decided on and is not
// finished. Power may be cut between table, file system and first mount: what
// is half made is told by it from what belongs to somebody.
const unmade = "komainu: the data partition of this disk is being made; nothing on it is of use\n"

// unmadeAt is its place: the start of the MiB at the disk's end that partitions
// leave to the copy of the table, which takes at most its last 20 KiB.
func unmadeAt(bytes int64) int64 { return (bytes - 1<<20) &^ (1<<20 - 1) }

// Device is an open disk or image file; *os.File is one.
type Device interface {
	ReadAt(b []byte, at int64) (int, error)
	WriteAt(b []byte, at int64) (int, error)
	Sync() error
}

// MarkUnmade says, durably, that whatever is in the data partition of dev, a
// disk of so many bytes, may be overwritten. Who makes the partition calls it
// first.
func MarkUnmade(dev Device, bytes int64) error { return mark(dev, bytes, unmade) }

// MarkMade takes MarkUnmade back, durably, once the file system is there.
func MarkMade(dev Device, bytes int64) error { return mark(dev, bytes, "") }

// Unmade says whether the mark is there.
func Unmade(dev Device, size int64) (bool, error) {
	b := make([]byte, len(unmade))
	if _, err := dev.ReadAt(b, unmadeAt(size)); err != nil {
		return false, fmt.Errorf("read the mark at the disk's end: %w", err)
	}
	return bytes.Equal(b, []byte(unmade)), nil
}

func mark(dev Device, size int64, text string) error {
	if size < 4<<20 {
		return errors.New("mark the disk: it is too small")
	}
	b := make([]byte, 4096) // a whole sector of any disk
	copy(b, text)
	_, err := dev.WriteAt(b, unmadeAt(size))
	if err == nil {
		err = dev.Sync()
	}
	if err != nil {
		return fmt.Errorf("write the mark at the disk's end: %w", err)
	}
	return nil
}

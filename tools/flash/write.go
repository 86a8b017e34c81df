package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"komainu/images/bundle"
	"komainu/images/disk"
)

// Refusals of a disk; fault carries the words.
var (
	errRefused = errors.New("refused")
	errLies    = errors.New("the disk doesn't keep what is written")
)

// fault is an error with a sentence of words.
type fault struct {
	code string
	args []string
	err  error
}

func (f *fault) Error() string { return say("en", f.code, f.args...) }
func (f *fault) Unwrap() error { return f.err }

func refuse(code string, args ...string) error { return &fault{code, args, errRefused} }

// choose finds the disk that a user named by device file, name or serial number.
func choose(disks []Disk, name string) (Disk, error) {
	var found []Disk
	for _, d := range disks {
		if d.Name == filepath.Base(name) && (name == d.Name || filepath.Dir(name) == filepath.Dir(d.Path)) || d.Serial != "" && d.Serial == name {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 0:
		return Disk{}, refuse("no-such-disk", name)
	case 1:
		return found[0], nil
	}
	return Disk{}, refuse("two-such-disks", name, found[0].Name, found[1].Name)
}

// allowed says whether an image of so many bytes may be written to d.
func allowed(d Disk, size int64, any bool) error {
	switch {
	case len(d.Uses) > 0:
		return refuse("in-use", d.Name, d.Uses[0].Code, d.Uses[0].Arg)
	case !d.Removable && !any:
		return refuse("not-removable", d.Name)
	case d.ReadOnly:
		return refuse("read-only", d.Name)
	case d.Bytes < size:
		return refuse("too-small", d.Name, mebibytes(d.Bytes), mebibytes(size))
	case d.Sector != 512 && d.Sector != 0:
		return refuse("odd-sectors", d.Name, fmt.Sprint(d.Sector))
	}
	return nil
}

// Target is a disk that is open for reading and writing.
type Target interface {
	disk.Device
	Sync() error
	// Forget makes the next read come from the disk, not from memory.
	Forget() error
}

// device is a real one.
type device struct{ *os.File }

// openDevice takes the disk for this program alone: the kernel refuses O_EXCL
// on a block device that anything has mounted or holds (open(2)).
func openDevice(path string) (Target, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		return nil, fmt.Errorf("open the disk (as root, with nothing of it mounted): %w", err)
	}
	return device{f}, nil
}

// Forget drops the pages of a block device (BLKFLSBUF) or of a file.
func (d device) Forget() error {
	st, err := d.Stat()
	if err != nil {
		return err
	}
	if st.Mode()&os.ModeDevice != 0 {
		if err := unix.IoctlSetInt(int(d.Fd()), unix.BLKFLSBUF, 0); err != nil {
			return fmt.Errorf("drop what memory holds of the disk: %w", err)
		}
	}
	return unix.Fadvise(int(d.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// step names a part of the work that has a progress of its own.
type step string

const (
	stepWrite  step = "write"
	stepVerify step = "verify"
)

const piece = 4 << 20 // bytes at a time

// writeImage copies size bytes of image to the disk and reads them back. The
// first piece, with the partition table, is written last: a stick that is
// pulled out in between holds no table.
func writeImage(to Target, image io.ReaderAt, size int64, progress func(step, int64)) error {
	if _, err := to.WriteAt(make([]byte, min(piece, size)), 0); err != nil {
		return fmt.Errorf("write to the disk: %w", err)
	}
	if err := to.Sync(); err != nil {
		return fmt.Errorf("write to the disk: %w", err)
	}
	b := make([]byte, piece)
	copyAt := func(at int64) error {
		p := b[:min(piece, size-at)]
		if _, err := image.ReadAt(p, at); err != nil {
			return fmt.Errorf("read the image at byte %d: %w", at, err)
		}
		if _, err := to.WriteAt(p, at); err != nil {
			return fmt.Errorf("write to the disk at byte %d: %w", at, err)
		}
		return nil
	}
	for at := int64(piece); at < size; at += piece {
		if err := copyAt(at); err != nil {
			return err
		}
		// Now and then, so that progress is what the disk has, not memory.
		if at/piece%16 == 0 {
			if err := to.Sync(); err != nil {
				return fmt.Errorf("write to the disk before byte %d: %w", at, err)
			}
		}
		progress(stepWrite, at)
	}
	if err := to.Sync(); err != nil {
		return fmt.Errorf("write to the disk: %w", err)
	}
	if err := copyAt(0); err != nil {
		return err
	}
	if err := to.Sync(); err != nil {
		return fmt.Errorf("write to the disk: %w", err)
	}
	progress(stepWrite, size)
	return verify(to, image, size, progress)
}

// verify compares the disk itself with the image.
func verify(to Target, image io.ReaderAt, size int64, progress func(step, int64)) error {
	if err := to.Forget(); err != nil {
		return err
	}
	want, got := make([]byte, piece), make([]byte, piece)
	for at := int64(0); at < size; at += piece {
		n := min(piece, size-at)
		if _, err := image.ReadAt(want[:n], at); err != nil {
			return fmt.Errorf("read the image at byte %d: %w", at, err)
		}
		if _, err := to.ReadAt(got[:n], at); err != nil {
			return fmt.Errorf("read the disk back at byte %d: %w", at, err)
		}
		if !bytes.Equal(want[:n], got[:n]) {
			return &fault{"lies", []string{mebibytes(at)}, errLies}
		}
		progress(stepVerify, at+n)
	}
	return nil
}

// addSite puts a signed configuration beside the image and reads it back.
func addSite(to Target, size int64, site []byte) error {
	parts, err := disk.Partitions(to, disk.Geometry{Bytes: size, Sector: 512})
	if err != nil {
		return err
	}
	esp := parts[0] // verified to be the image's
	if err := disk.AddFile(to, esp, 512, bundle.SiteName, site); err != nil {
		return err
	}
	if err := errors.Join(to.Sync(), to.Forget()); err != nil {
		return fmt.Errorf("write %s: %w", bundle.SiteName, err)
	}
	got, err := disk.ReadFile(to, esp, 512, bundle.SiteName)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, site) {
		return &fault{"lies", []string{bundle.SiteName}, errLies}
	}
	return nil
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

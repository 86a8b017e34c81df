package esp

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"komainu/images/layout"
)

// Progress is told the bytes that a step has done; an error from it ends the work.
type Progress func(step Step, done int64) error

// Step is a part of Write.
type Step string

// The steps, in their order.
const (
	Writing  Step = "write"
	Checking Step = "check" // reading back from the disk
	Naming   Step = "name"
)

// Write puts an image of size bytes with digest sum beside the others as
// layout.Tries tries of version v: written under a name that nothing starts,
// made durable, read back from the disk, renamed. After a cut the file is there
// as a whole, or not at all. After an error nothing of it is left.
func Write(root string, v layout.Version, from io.Reader, size int64, sum [sha256.Size]byte, tell Progress) error {
	dir := filepath.Join(root, layout.Images)
	to := filepath.Join(dir, Image{Version: v, Counted: true, Left: layout.Tries}.Name())
	part := to + layout.Part
	doing := "write " + filepath.Base(to)
	if err := sweep(dir); err != nil {
		return named(doing, err)
	}
	err := fill(part, from, size, sum, tell)
	if err == nil {
		err = readBack(part, size, sum, tell)
	}
	if err == nil {
		err = tell(Naming, size)
	}
	if err == nil {
		err = rename(part, to)
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ENOSPC) {
		free, _ := Free(root) // 0 says enough
		err = errors.Join(err, &RoomError{size, free})
	}
	if rm := os.Remove(part); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
		err = errors.Join(err, rm)
	}
	return named(doing, err)
}

// sweep removes what an earlier writing left.
func sweep(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	all, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range all {
		if strings.HasSuffix(strings.ToLower(e.Name()), layout.Part) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return settle(dir)
}

func fill(part string, from io.Reader, size int64, sum [sha256.Size]byte, tell Progress) (err error) {
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := copyTelling(io.MultiWriter(f, h), io.LimitReader(from, size+1), func(n int64) error { return tell(Writing, n) })
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if n != size || [sha256.Size]byte(h.Sum(nil)) != sum {
		return fmt.Errorf("%d bytes came that aren't the %d of the announced digest: fetch the bundle again", n, size)
	}
	return nil
}

// readBack compares what the disk holds, not what the page cache does.
func readBack(part string, size int64, sum [sha256.Size]byte, tell Progress) error {
	f, err := os.Open(part)
	if err != nil {
		return err
	}
	defer f.Close() // only read: nothing to lose
	// Clean pages are dropped; the file was synced before (posix_fadvise(2)).
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return fmt.Errorf("drop cached pages: %w", err)
	}
	h := sha256.New()
	n, err := copyTelling(h, f, func(n int64) error { return tell(Checking, n) })
	if err != nil {
		return err
	}
	if n != size || [sha256.Size]byte(h.Sum(nil)) != sum {
		return fmt.Errorf("%w: what was written reads back otherwise (replace the disk)", ErrDamaged)
	}
	return nil
}

func copyTelling(to io.Writer, from io.Reader, tell func(int64) error) (n int64, err error) {
	buf := make([]byte, 1<<20)
	for {
		if err := tell(n); err != nil {
			return n, err
		}
		k, err := io.ReadFull(from, buf)
		if _, err := to.Write(buf[:k]); err != nil {
			return n, err
		}
		n += int64(k)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return n, tell(n)
		}
		if err != nil {
			return n, err
		}
	}
}

// rename refuses to replace: FAT frees the clusters of a replaced file late.
func rename(from, to string) error {
	if from == to {
		return nil
	}
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%s is there already", to), err)
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return settle(filepath.Dir(to))
}

// settle makes names and allocation tables durable: fsync of a FAT folder
// writes its own sectors, syncfs everything else.
func settle(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if err == nil {
		err = unix.Syncfs(int(d.Fd()))
	}
	return errors.Join(err, d.Close())
}

// Remove takes an image away, durably.
func Remove(root string, i Image) error {
	path := filepath.Join(root, layout.Images, i.Name())
	err := os.Remove(path)
	if err == nil {
		err = settle(filepath.Dir(path))
	}
	return named("remove "+i.Name(), err)
}

// Accept ends the trial of i, which is the file that the loader counts at this
// boot: it starts like any other from now on. An image that isn't counted stays.
func Accept(root string, i Image) (Image, error) { return become(root, i, Image{Version: i.Version}) }

// Fail makes the loader start i only when there is nothing else.
func Fail(root string, i Image) (Image, error) {
	return become(root, i, Image{Version: i.Version, Counted: true, Done: max(i.Done, 1)})
}

// ResetTries gives a trial all its tries back: a restart that somebody ordered
// says nothing about the image.
func ResetTries(root string, i Image) (Image, error) {
	if !i.Counted {
		return i, nil
	}
	return become(root, i, Image{Version: i.Version, Counted: true, Left: layout.Tries})
}

func become(root string, i, as Image) (Image, error) {
	dir := filepath.Join(root, layout.Images)
	as.Bytes = i.Bytes
	if err := rename(filepath.Join(dir, i.Name()), filepath.Join(dir, as.Name())); err != nil {
		return i, named("rename "+i.Name()+" to "+as.Name(), err)
	}
	return as, nil
}

package update

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"komainu/appliance/control"
	"komainu/images/bundle"
	"komainu/images/disk"
	"komainu/images/layout"
)

// toDisk puts the running image on another disk, which is erased: partition
// table, EFI partition with boot loader, image, rescue and the site bundle that
// the running box's has, and an empty data partition that the first start fills.
func (j Job) toDisk(ctx context.Context, tell func(line) error) error {
	f, err := os.OpenFile("/dev/"+filepath.Base(j.Disk.Name), os.O_RDWR|unix.O_EXCL, 0) // O_EXCL: EBUSY while anything of it is mounted
	if err != nil {
		return refuse("disk-write", j.Disk.Serial, err.Error())
	}
	all, build, err := j.own()
	if err == nil {
		err = toDevice(ctx, f, j.Disk.Serial, build, all, tell)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		var e *control.Error
		if errors.As(err, &e) {
			return err
		}
		if errors.Is(err, disk.ErrTooSmall) {
			return refuse("disk-small", j.Disk.Serial, fmt.Sprint(disk.LeastBytes>>30+1))
		}
		return refuse("disk-write", j.Disk.Serial, err.Error())
	}
	return tell(line{ImageProgress: control.ImageProgress{Step: "image-step-disk-done", Args: []string{j.Disk.Serial}, Done: true}})
}

// own gives the files that the new disk starts with, out of the running box.
func (j Job) own() ([]disk.File, layout.Build, error) {
	var build layout.Build
	text, err := os.ReadFile(layout.BuildFile)
	if err == nil {
		err = json.Unmarshal(text, &build)
	}
	if err != nil {
		return nil, build, fmt.Errorf("what was built: %w", err)
	}
	loader, err := os.ReadFile(filepath.Join(j.Root, layout.Loader))
	if err != nil {
		return nil, build, partition(err)
	}
	image, err := os.ReadFile(filepath.Join(j.Root, layout.Images, j.Running))
	if err != nil {
		return nil, build, partition(err)
	}
	all, err := disk.Files(build, loader, image)
	if err != nil {
		return nil, build, err
	}
	// The configuration that the stick brings goes along: the new disk takes it at
	// its first start, like any other box.
	site, err := os.ReadFile(filepath.Join(j.Root, bundle.SiteName))
	if errors.Is(err, fs.ErrNotExist) {
		return all, build, nil
	}
	if err != nil {
		return nil, build, partition(err)
	}
	return append(all, disk.File{Path: bundle.SiteName, Data: site}), build, nil
}

// erased is how much of the data partition's start is zeroed: what stood there
// must not be taken for the appliance's data.
const erased = disk.MiB

func toDevice(ctx context.Context, f *os.File, serial string, build layout.Build, all []disk.File, tell func(line) error) error {
	g, err := geometry(f)
	if err != nil {
		return err
	}
	if g.Bytes < disk.LeastBytes {
		return disk.ErrTooSmall
	}
	total := int64(0)
	for _, x := range all {
		total += int64(len(x.Data))
	}
	w := &counting{Device: f, ctx: ctx, step: "image-step-disk-write", of: total, tell: tell}
	parts, err := disk.WriteGPT(w, g, serial, true)
	if err != nil {
		return err
	}
	data, _ := disk.Find(parts, layout.DataType, layout.DataName) // just written
	if _, err := w.WriteAt(make([]byte, erased), data.Start); err != nil {
		return err
	}
	if err := disk.Format(w, parts[0], g.Sector, disk.ESPVolume(build), all); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := compare(f, parts[0], g, all, total, tell); err != nil {
		return err
	}
	// The kernel reads the new table; a regular file, in tests, has no such call.
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0); err != nil && !errors.Is(err, unix.ENOTTY) {
		return fmt.Errorf("read the new partition table: %w", err)
	}
	return nil
}

// geometry of a disk, or of a regular file.
func geometry(f *os.File) (disk.Geometry, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return disk.Geometry{}, err
	}
	sector, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
	if errors.Is(err, unix.ENOTTY) {
		sector, err = 512, nil
	}
	return disk.Geometry{Bytes: end, Sector: int64(sector)}, err
}

// compare reads every file back from the disk.
func compare(f *os.File, p disk.Partition, g disk.Geometry, all []disk.File, total int64, tell func(line) error) error {
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return fmt.Errorf("drop cached pages: %w", err)
	}
	done := int64(0)
	for _, want := range all {
		if err := tell(line{ImageProgress: control.ImageProgress{Step: "image-step-disk-check", Bytes: done, Of: total}}); err != nil {
			return err
		}
		got, err := disk.ReadFile(f, p, g.Sector, want.Path)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want.Data) {
			return fmt.Errorf("%s reads back otherwise than it was written: replace the disk", want.Path)
		}
		done += int64(len(want.Data))
	}
	return nil
}

// counting tells what was written.
type counting struct {
	disk.Device
	ctx  context.Context
	step string
	n    int64
	of   int64
	told int64 // percent
	tell func(line) error
}

func (c *counting) WriteAt(p []byte, at int64) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.Device.WriteAt(p, at)
	c.n = min(c.n+int64(n), c.of)
	if percent := c.n * 100 / max(c.of, 1); err == nil && percent != c.told {
		c.told = percent
		err = c.tell(line{ImageProgress: control.ImageProgress{Step: c.step, Bytes: c.n, Of: c.of}})
	}
	return n, err
}

package root

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/u-root/u-root/pkg/cpio"
)

// WriteBase writes what comes from packages and tables as a cpio archive: the
// first part of the initramfs. Its bytes stay the same until one of those
// changes, so that its compression can be kept.
func (r Root) WriteBase(w io.Writer) error {
	return r.write(w, r.packaged, func(f File) bool { return !f.volatile })
}

// WriteTop writes what differs in every build as the second part of the
// initramfs, which the kernel unpacks over the first.
func (r Root) WriteTop(w io.Writer) error {
	return r.write(w, r.Build.Unix, func(f File) bool { return f.volatile })
}

// write depends on the files' paths, modes and contents and on unix, the time
// that they all get, and on nothing else.
func (r Root) write(w io.Writer, unix int64, which func(File) bool) error {
	format, err := cpio.Format("newc")
	if err != nil {
		return err
	}
	out := format.Writer(w)
	ino := uint64(0)
	for _, f := range r.Files {
		if !which(f) {
			continue
		}
		rec, closer, err := record(f)
		if err != nil {
			return err
		}
		rec = cpio.MakeReproducible(rec)
		ino++ // each its own: none is a link of another
		rec.Ino = ino
		rec.UID, rec.GID = uint64(f.UID), uint64(f.UID)
		rec.MTime = uint64(unix)
		err = out.WriteRecord(rec)
		if closer != nil {
			_ = closer.Close() // only read
		}
		if err != nil {
			return fmt.Errorf("write /%s into the initramfs: %w", f.Path, err)
		}
	}
	return cpio.WriteTrailer(out)
}

func record(f File) (cpio.Record, io.Closer, error) {
	perm := uint64(f.Mode.Perm())
	if f.Mode&fs.ModeSticky != 0 {
		perm |= 0o1000
	}
	switch {
	case f.Mode.IsDir():
		return cpio.Directory(f.Path, perm), nil, nil
	case f.Mode.Type() == fs.ModeSymlink:
		return cpio.Symlink(f.Path, f.Link), nil, nil
	case f.Mode&fs.ModeCharDevice != 0:
		return cpio.CharDev(f.Path, perm, uint64(f.Major), uint64(f.Minor)), nil, nil
	case !f.Mode.IsRegular():
		return cpio.Record{}, nil, fmt.Errorf("/%s: the image can't hold a %v", f.Path, f.Mode.Type())
	}
	info := cpio.Info{Name: f.Path, Mode: cpio.S_IFREG | perm, NLink: 1, FileSize: uint64(len(f.Data))}
	if f.Source == "" {
		return cpio.Record{ReaderAt: bytes.NewReader(f.Data), Info: info}, nil, nil
	}
	src, err := os.Open(f.Source)
	if err != nil {
		return cpio.Record{}, nil, err
	}
	stat, err := src.Stat()
	if err != nil {
		_ = src.Close() // only read
		return cpio.Record{}, nil, err
	}
	info.FileSize = uint64(stat.Size())
	return cpio.Record{ReaderAt: src, Info: info}, src, nil
}

func sortFiles(files []File) {
	slices.SortStableFunc(files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
}

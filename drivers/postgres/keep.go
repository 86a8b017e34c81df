package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"komainu/drivers/files"
)

// Keep copies the whole stopped cluster to kept/name, on disk when it returns,
// and gives the path that ListOrphans takes. A copy of that name that is
// already complete is kept as it is; an unfinished one is made again.
func (c *Cluster) Keep(ctx context.Context, name string, progress func(percent int, text string)) (string, error) {
	dst := c.path("kept", filepath.Base(name))
	if _, err := os.Lstat(dst); err == nil {
		return dst, nil
	}
	if err := c.mustBeStopped(ctx, "keep"); err != nil {
		return "", err
	}
	if err := c.keep(ctx, dst, progress); err != nil {
		return "", fmt.Errorf("keep database %s as %s: %w", c.cfg.Name, dst, err)
	}
	return dst, nil
}

func (c *Cluster) keep(ctx context.Context, dst string, progress func(int, string)) error {
	size, err := treeSize(c.Data())
	if err != nil {
		return err
	}
	// A file system with reflinks needs less; a full disk in the middle of a
	// return costs more than this caution.
	if have := c.free(); have < size+spare {
		return fmt.Errorf("%w in %s: need %d MB, have %d MB", ErrNoSpace, c.cfg.Base, (size+spare)>>20, have>>20)
	}
	o, err := c.owner()
	if err != nil {
		return err
	}
	part := dst + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	if err := o.dir(filepath.Join(part, "run"), 0o755); err != nil {
		return err
	}
	k := keeper{from: c.Data(), to: filepath.Join(part, "data"), total: max(size, 1), progress: progress, last: -1}
	if err := filepath.WalkDir(k.from, func(path string, d fs.DirEntry, err error) error {
		return errors.Join(err, ctx.Err(), k.entry(path, d))
	}); err != nil {
		return err
	}
	if err := syncFS(part); err != nil {
		return err
	}
	if err := os.Rename(part, dst); err != nil {
		return err
	}
	return files.SyncFolder(filepath.Dir(dst))
}

type keeper struct {
	from, to    string
	done, total uint64
	last        int
	progress    func(int, string)
}

func (k *keeper) entry(path string, d fs.DirEntry) error {
	if d == nil {
		return nil
	}
	rel, err := filepath.Rel(k.from, path)
	if err != nil {
		return err
	}
	to := filepath.Join(k.to, rel)
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	switch {
	case rel == "postmaster.pid" || rel == "postmaster.opts":
		return nil
	case d.IsDir():
		err = os.Mkdir(to, 0o700)
	case d.Type().IsRegular():
		err = k.file(path, to)
	case d.Type()&fs.ModeSymlink != 0:
		return fmt.Errorf("%s: %w", path, ErrTablespaces)
	default: // a socket or pipe is no data
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.Chown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := os.Chmod(to, os.FileMode(st.Mode&0o777)); err != nil {
		return err
	}
	k.done += uint64(st.Blocks) * 512
	if percent := int(min(k.done*100/k.total, 100)); k.progress != nil && percent != k.last {
		k.last = percent
		k.progress(percent, fmt.Sprintf("%d/%d MB", k.done>>20, k.total>>20))
	}
	return nil
}

// file clones where the file system can, else the kernel copies.
func (k *keeper) file(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) != nil {
		_, err = io.Copy(dst, src)
	}
	return errors.Join(err, dst.Close())
}

// syncFS puts a whole file system on disk; thousands of single fsyncs would
// take longer.
func syncFS(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}

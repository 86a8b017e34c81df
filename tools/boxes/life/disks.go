package life

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"komainu/images/disk"
)

// Login is the prompt of a box that has started.
var Login = regexp.MustCompile(`login: \z`)

// part opens the data partition of a disk's file, made where there is none. The
// caller closes the file.
func part(name string) (*os.File, disk.Partition, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, disk.Partition{}, err
	}
	st, err := f.Stat()
	if err == nil {
		var p disk.Partition
		if p, err = disk.AddData(f, disk.Geometry{Bytes: st.Size(), Sector: 512}); err == nil {
			return f, p, nil
		}
	}
	f.Close() // only the error counts
	return nil, disk.Partition{}, fmt.Errorf("data partition of %s: %w", name, err)
}

// Overwrite puts bytes of a pattern into the data partition.
func Overwrite(name string, pattern []byte, from, to int64) error {
	f, p, err := part(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for at := from; at < to; at += int64(len(pattern)) {
		if _, err := f.WriteAt(pattern, p.Start+at); err != nil {
			return err
		}
	}
	return f.Close()
}

// Sum is a digest of the first bytes of the data partition.
func Sum(name string, bytes int64) ([32]byte, error) {
	f, p, err := part(name)
	if err != nil {
		return [32]byte{}, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, io.NewSectionReader(f, p.Start, bytes))
	return [32]byte(h.Sum(nil)), err
}

// Fill takes all room of the data partition that is not root's alone with the
// file "filler", without writing it: what a database that grows does. It needs
// debugfs of e2fsprogs; the box must be off in good order.
func Fill(name string) error {
	stats, err := debugfs(name, "show_super_stats -h")
	if err != nil {
		return err
	}
	free, err := figure(stats, "Free blocks")
	if err != nil {
		return err
	}
	kept, err := figure(stats, "Reserved block count")
	if err != nil {
		return err
	}
	for _, c := range []string{"write /dev/null filler", fmt.Sprintf("fallocate filler 0 %d", free-kept-1)} {
		if _, err := debugfs(name, c); err != nil {
			return err
		}
	}
	return nil
}

func figure(stats, name string) (n int64, err error) {
	_, rest, ok := strings.Cut(stats, name+":")
	if ok {
		_, err = fmt.Sscan(rest, &n)
	}
	if !ok || err != nil {
		return 0, fmt.Errorf("debugfs doesn't say %q: %w\n%s", name, err, stats)
	}
	return n, nil
}

// debugfs runs one of its commands on the data partition.
func debugfs(name, command string) (string, error) {
	f, p, err := part(name)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return "", err
	}
	out, err := exec.Command("debugfs", "-w", "-R", command, fmt.Sprintf("%s?offset=%d", name, p.Start)).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("debugfs %s: %w: %s", command, err, out)
	}
	return string(out), err
}

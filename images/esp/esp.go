// Package esp keeps the images on the EFI partition: their names, what an
// installation removes, writing, and the renames that say what the loader may
// do with a file (Automatic Boot Assessment of systemd-boot). It never decides
// whether an image is good. Start reading at Image and Write.
//
// FAT knows no journal. A rename is two changes of the folder: the new name is
// added, then the old one removed. A power cut between them leaves both names
// on one chain of clusters; a disk that reorders its cache may also leave
// neither. A removal may leave clusters that nobody names (harmless), or a name
// whose clusters are free. Hence:
//
//   - Only the file of the new image is ever written, under a name that nothing
//     starts, and its content is read back before it gets its name.
//   - An accepted image, and the one that runs, are renamed only where another
//     accepted one stays untouched: whatever the cut leaves, the loader finds it.
//   - What is removed is made durable before anything else is written, so that no
//     cluster has two owners in our own order of work.
//   - Two names on one chain are dissolved by Uncross before the partition is
//     mounted, since removing either one there would free the clusters of both.
//   - The partition is to be mounted with MS_DIRSYNC: the kernel then writes the
//     new name before it takes the old one away, and a name before it frees clusters.
package esp

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"komainu/images/layout"
)

// Image is one file of layout.Images.
type Image struct {
	Version layout.Version
	Counted bool // the loader counts its starts
	Left    int  // starts that are left; 0: only started when there is nothing else
	Done    int  // starts since the count began
	Bytes   int64
}

// State is "accepted", "trial" or "failed", as control.Image has it.
func (i Image) State() string {
	switch {
	case !i.Counted:
		return "accepted"
	case i.Left > 0:
		return "trial"
	}
	return "failed"
}

var names = regexp.MustCompile(`^` + layout.ImagePrefix + `([0-9.]+)(?:\+([0-9]{1,4})(?:-([0-9]{1,4}))?)?` + regexp.QuoteMeta(layout.ImageSuffix) + `$`)

// ParseName reads komainu-VERSION[+LEFT[-DONE]].efi; false for anything else.
// FAT keeps upper and lower case but doesn't tell them apart; neither do we.
func ParseName(name string) (Image, bool) {
	m := names.FindStringSubmatch(strings.ToLower(name))
	if m == nil {
		return Image{}, false
	}
	v, err := layout.ParseVersion(m[1])
	if err != nil {
		return Image{}, false
	}
	left, _ := strconv.Atoi(m[2]) // digits or empty
	done, _ := strconv.Atoi(m[3])
	return Image{Version: v, Counted: m[2] != "", Left: left, Done: done}, true
}

// Name is the file's name below layout.Images.
func (i Image) Name() string {
	n := layout.ImagePrefix + string(i.Version)
	if i.Counted {
		n += "+" + strconv.Itoa(i.Left)
		if i.Done > 0 {
			n += "-" + strconv.Itoa(i.Done)
		}
	}
	return n + layout.ImageSuffix
}

// ErrReadOnly and ErrDamaged are wrapped by errors of this package where the
// partition is the reason; *RoomError says that it is full.
var (
	ErrReadOnly = errors.New("the EFI partition is read-only")
	ErrDamaged  = errors.New("the EFI partition is damaged")
)

// RoomError says that an image doesn't fit.
type RoomError struct{ Need, Free int64 } // bytes; Free counts what may be removed

func (e *RoomError) Error() string {
	return fmt.Sprintf("the EFI partition is full: %d bytes are needed, %d can be had: remove files that aren't ours from it", e.Need, e.Free)
}

// named adds what was tried, and what is wrong with the partition.
func named(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%s: %w: %w", doing, ErrReadOnly, err)
	case errors.Is(err, unix.EIO), errors.Is(err, unix.EUCLEAN), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%s: %w (write the disk again from a stick): %w", doing, ErrDamaged, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// List gives the images of the EFI partition at root, the newest first; of one
// version the accepted file first.
func List(root string) ([]Image, error) {
	all, err := os.ReadDir(filepath.Join(root, layout.Images))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, named("list images", err)
	}
	var found []Image
	for _, e := range all {
		i, ok := ParseName(e.Name())
		if !ok || !e.Type().IsRegular() {
			continue
		}
		st, err := e.Info()
		if err != nil {
			return nil, named("list images", err)
		}
		i.Bytes = st.Size()
		found = append(found, i)
	}
	slices.SortFunc(found, func(a, b Image) int {
		return cmp.Or(b.Version.Compare(a.Version), cmp.Compare(a.Name(), b.Name()))
	})
	return found, nil
}

// margin stays free on the partition: folders, the loader's own files.
const margin = 1 << 20

// Plan says which images go before one of version v with need bytes is written,
// in order; free is what the partition has now. Failed ones and those of
// version v go always, and so do trials that haven't begun, since the loader
// would start the newest first. Older accepted ones go when there is no room.
// The running image (zero: none of these) and the newest accepted one stay.
// Error: *RoomError.
func Plan(all []Image, running Image, v layout.Version, need, free int64) ([]Image, error) {
	var gone, spare []Image
	kept := false // the newest accepted one
	room := free - margin
	for _, i := range all { // newest first
		switch {
		case i.Name() == running.Name():
			kept = kept || !i.Counted
		case i.Counted, i.Version == v:
			gone = append(gone, i)
			room += i.Bytes
		case !kept:
			kept = true
		default:
			spare = append(spare, i)
		}
	}
	slices.SortStableFunc(gone, func(a, b Image) int { return cmp.Compare(min(a.Left, 1), min(b.Left, 1)) })
	for room < need && len(spare) > 0 {
		oldest := spare[len(spare)-1]
		spare = spare[:len(spare)-1]
		gone = append(gone, oldest)
		room += oldest.Bytes
	}
	if room < need {
		return nil, &RoomError{need, max(room, 0)}
	}
	return gone, nil
}

// Free is the room on the partition at root, in bytes.
func Free(root string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return 0, named("look at "+root, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"

	"komainu/images/layout"
	"komainu/images/uki"
)

// ImageBytes is the size of an image file. The data partition is made at the
// first start in what the disk has behind it.
const ImageBytes = layout.ESPBytes + 2*MiB

// File is one of the EFI partition, by its path below the root, with slashes.
type File struct {
	Path string
	Data []byte
}

// loaderConf: the newest image starts at once. Any key that is pressed while
// the firmware hands over opens the menu (systemd-boot looks for one even with
// a timeout of 0), where the older image and the rescue entry stand. The
// editor stays closed: who can edit the command line is root.
const loaderConf = `timeout 0
editor no
console-mode keep
auto-entries no
auto-firmware no
`

// Files are those of a fresh EFI partition: the boot loader (systemd-bootx64.efi
// of systemd-boot-efi), the image as an accepted one, without a counter, and a
// copy of it that only the rescue entry starts.
func Files(build layout.Build, loader, image []byte) ([]File, error) {
	m, err := uki.Read(bytes.NewReader(image))
	if err != nil {
		return nil, err
	}
	if m.Version != build.Version {
		return nil, fmt.Errorf("the image says version %q, the build %q: build both anew", m.Version, build.Version)
	}
	return []File{
		{layout.Loader, loader},
		{layout.LoaderConf, []byte(loaderConf)},
		{layout.RescueConf, []byte(RescueEntry(m.Cmdline))},
		{layout.Images + "/" + layout.ImagePrefix + string(build.Version) + layout.ImageSuffix, image},
		{layout.Rescue, image},
	}, nil
}

// RescueEntry is layout.RescueConf for an image with this command line
// (Boot Loader Specification, type 1). Its sort key puts it behind the images,
// whose key is komainu. Without secure boot the stub takes options over what is
// in the image.
func RescueEntry(cmdline string) string {
	return "title Komainu rescue\nsort-key rescue\nefi /" + layout.Rescue + "\noptions " + cmdline + " " + layout.RescueFlag + "\n"
}

// ESPVolume is what the EFI partition of a build says about itself: its label,
// a number made from the version, the date of the source.
func ESPVolume(b layout.Build) Volume {
	h := sha256.Sum256([]byte("komainu volume " + b.Version))
	return Volume{Label: layout.ESPLabel, ID: binary.BigEndian.Uint32(h[:]), Unix: b.Unix}
}

// Write fills f, an empty file, with the image of a disk: partition table and
// EFI partition. Unused space stays a hole. The same input gives the same bytes.
func Write(f *os.File, build layout.Build, files []File) error {
	if err := f.Truncate(ImageBytes); err != nil {
		return fmt.Errorf("make the disk image: %w", err)
	}
	g := Geometry{Bytes: ImageBytes, Sector: 512}
	parts, err := WriteGPT(f, g, "image "+string(build.Version), false)
	if err != nil {
		return err
	}
	return Format(f, parts[0], g.Sector, ESPVolume(build), files)
}

// AddFile puts a file into the root of the EFI partition p of dev.
func AddFile(dev Device, p Partition, sector int64, name string, data []byte) error {
	v, err := fat32.Read(file.New(dev, false), p.Bytes, p.Start, sector)
	if err != nil {
		return fmt.Errorf("read the EFI partition: %w", err)
	}
	f, err := v.OpenFile(name, os.O_CREATE|os.O_RDWR|os.O_TRUNC)
	if err != nil {
		return fmt.Errorf("EFI partition: make %s: %w", name, err)
	}
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("EFI partition: write %s: %w", name, err)
	}
	// The library leaves the number of free clusters as it was: say unknown.
	unknown := bytes.Repeat([]byte{0xff}, 8)
	for _, sectors := range []int64{1, backup + 1} {
		if _, err := dev.WriteAt(unknown, p.Start+sectors*sector+488); err != nil {
			return fmt.Errorf("EFI partition: %w", err)
		}
	}
	return nil
}

// ReadFile reads a file of the EFI partition p of dev by its path.
func ReadFile(dev Device, p Partition, sector int64, path string) ([]byte, error) {
	v, err := fat32.Read(file.New(dev, true), p.Bytes, p.Start, sector)
	if err != nil {
		return nil, fmt.Errorf("read the EFI partition: %w", err)
	}
	b, err := v.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("EFI partition: read %s: %w", path, err)
	}
	return b, nil
}

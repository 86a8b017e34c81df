package uki

import (
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"strings"

	"komainu/images/layout"
)

// ErrFormat is a file that is no unified kernel image of ours.
var ErrFormat = errors.New("no unified kernel image of this appliance")

// maxText bounds what a section of text may hold, in bytes.
const maxText = 64 << 10

// Image is what a unified kernel image says about itself. Nothing of it is
// proved: who needs that verifies the file's digest.
type Image struct {
	Version   layout.Version // IMAGE_VERSION of its os-release
	OSRelease string
	Cmdline   string
	Uname     string
	Initrd    *io.SectionReader // reads from the file given to Read
	Linux     *io.SectionReader
}

// Read finds the sections of an image. Errors wrap ErrFormat, or are those of r.
func Read(r io.ReaderAt) (Image, error) {
	f, err := pe.NewFile(r)
	if err != nil {
		return Image{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	var m Image
	for _, s := range []struct {
		name string
		text *string
		data **io.SectionReader
	}{
		{".osrel", &m.OSRelease, nil}, {".cmdline", &m.Cmdline, nil}, {".uname", &m.Uname, nil},
		{".initrd", nil, &m.Initrd}, {".linux", nil, &m.Linux},
	} {
		at := f.Section(s.name)
		switch {
		case at == nil:
			return Image{}, fmt.Errorf("%w: it has no section %s", ErrFormat, s.name)
		case at.VirtualSize > at.Size || s.text != nil && at.VirtualSize > maxText:
			return Image{}, fmt.Errorf("%w: section %s claims %d bytes of %d", ErrFormat, s.name, at.VirtualSize, at.Size)
		}
		data := io.NewSectionReader(r, int64(at.Offset), int64(at.VirtualSize))
		if s.data != nil {
			*s.data = data
			continue
		}
		text := make([]byte, at.VirtualSize)
		if _, err := io.ReadFull(data, text); err != nil {
			return Image{}, fmt.Errorf("%w: section %s: %w", ErrFormat, s.name, err)
		}
		*s.text = string(text)
	}
	for line := range strings.Lines(m.OSRelease) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "IMAGE_VERSION="); ok {
			if m.Version, err = layout.ParseVersion(strings.Trim(v, `"`)); err != nil {
				return Image{}, fmt.Errorf("%w: %w", ErrFormat, err)
			}
			return m, nil
		}
	}
	return Image{}, fmt.Errorf("%w: its os-release has no IMAGE_VERSION", ErrFormat)
}

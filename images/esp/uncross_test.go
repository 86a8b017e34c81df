package esp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"komainu/images/disk"
	"komainu/images/layout"
)

// volume makes a FAT32 that holds the named files, each with its name as content.
func volume(t *testing.T, names ...string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "esp"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	part := disk.Partition{Bytes: 512 << 20}
	if err := f.Truncate(part.Bytes); err != nil {
		t.Fatal(err)
	}
	var files []disk.File
	for _, n := range names {
		files = append(files, disk.File{Path: layout.Images + "/" + n, Data: []byte(n)})
	}
	if err := disk.Format(f, part, 512, disk.Volume{Label: layout.ESPLabel, ID: 1}, files); err != nil {
		t.Fatal(err)
	}
	return f
}

// slots finds the entries of layout.Images.
func slots(t *testing.T, v Volume) (fat, []entry) {
	t.Helper()
	f, ok, err := readFAT(v)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	at := f.root
	for _, part := range []string{"EFI", "Linux"} {
		all, err := f.folder(at)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			if e.name == part {
				at = e.first
			}
		}
	}
	all, err := f.folder(at)
	if err != nil {
		t.Fatal(err)
	}
	return f, all
}

func listing(t *testing.T, v Volume) string {
	t.Helper()
	_, all := slots(t, v)
	var s []string
	for _, e := range all {
		if e.name != "." && e.name != ".." {
			s = append(s, e.name)
		}
	}
	return fmt.Sprint(s)
}

func TestUncross(t *testing.T) {
	for _, c := range []struct {
		from, to, left string // to is made to stand on the clusters of from
	}{
		{"komainu-2+2-1.efi", "komainu-2.efi", "[komainu-1.efi komainu-2.efi]"},                     // accepted
		{"komainu-2+3.efi.part", "komainu-2+3.efi", "[komainu-1.efi komainu-2+3.efi]"},              // written
		{"komainu-2+3.efi", "komainu-2+2-1.efi", "[komainu-1.efi komainu-2+3.efi]"},                 // counted by the loader
		{"komainu-2.efi", "komainu-2+0-1.efi", "[komainu-1.efi komainu-2.efi]"},                     // taken back
		{"", "komainu-2.efi", "[komainu-1.efi komainu-2+2-1.efi]"},                                  // removed: its clusters are free
		{"komainu-2.efi", "komainu-2.efi", "[komainu-1.efi komainu-2+2-1.efi komainu-2.efi other]"}, // nothing crossed
	} {
		names := []string{"komainu-1.efi"}
		for _, n := range []string{c.from, c.to} {
			if n != "" && n != names[len(names)-1] {
				names = append(names, n)
			}
		}
		switch {
		case c.from == "":
			names = append(names, "komainu-2+2-1.efi")
		case c.from == c.to:
			names = []string{"komainu-1.efi", "komainu-2+2-1.efi", "komainu-2.efi", "other"}
		}
		v := volume(t, names...)
		f, all := slots(t, v)
		first := map[string]uint32{}
		for _, e := range all {
			first[e.name] = e.first
		}
		for _, e := range all {
			if e.name != c.to {
				continue
			}
			if c.from == "" {
				if _, err := v.WriteAt(make([]byte, 4), f.table+4*int64(e.first)); err != nil {
					t.Fatal(err)
				}
				continue
			}
			own := e.slots[len(e.slots)-1]
			var b [4]byte
			binary.LittleEndian.PutUint32(b[:], first[c.from])
			if _, err := v.WriteAt(b[2:], own+20); err != nil {
				t.Fatal(err)
			}
			if _, err := v.WriteAt(b[:2], own+26); err != nil {
				t.Fatal(err)
			}
		}
		struck, err := Uncross(v)
		if got := listing(t, v); err != nil || got != c.left || (c.from == c.to) != (len(struck) == 0) {
			t.Errorf("%+v: %v, struck %q, %s", c, err, struck, got)
		}
		if again, err := Uncross(v); err != nil || len(again) > 0 {
			t.Errorf("%+v, again: %q, %v", c, again, err)
		}
	}
	if struck, err := Uncross(nothing{}); err != nil || struck != nil {
		t.Error(struck, err)
	}
}

// FuzzUncross: whatever stands on the disk, it ends and never writes outside.
func FuzzUncross(f *testing.F) {
	f.Add([]byte{0x55, 0xaa}, 510)
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		v := memory(bytes.Clone(seed()))
		if at >= 0 && at < len(v) {
			copy(v[at:], b)
		}
		_, _ = Uncross(v) // an error is as good
	})
}

// seed is a head that says FAT32 with a folder that may go anywhere.
func seed() []byte {
	b := make([]byte, 8<<10)
	le := binary.LittleEndian
	le.PutUint16(b[11:], 512)
	b[13], b[16], b[510], b[511] = 1, 1, 0x55, 0xaa
	le.PutUint16(b[14:], 1)
	le.PutUint32(b[32:], 16)
	le.PutUint32(b[36:], 1)
	le.PutUint32(b[44:], 2)
	copy(b[82:], "FAT32")
	return b
}

type memory []byte

func (m memory) ReadAt(p []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(p)) > int64(len(m)) {
		return 0, os.ErrInvalid
	}
	return copy(p, m[at:]), nil
}

func (m memory) WriteAt(p []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(p)) > int64(len(m)) {
		return 0, os.ErrInvalid
	}
	return copy(m[at:], p), nil
}

// nothing is a device full of zeros.
type nothing struct{}

func (nothing) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

func (nothing) WriteAt([]byte, int64) (int, error) { return 0, os.ErrPermission }

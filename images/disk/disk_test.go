package disk

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/google/go-cmp/cmp"

	"komainu/images/layout"
)

var build = layout.Build{Version: "2026.11.22.1849", Unix: 1795373340}

func files() []File {
	image := bytes.Repeat([]byte("kernel and initramfs\n"), 30000) // many clusters, the last one not full
	return []File{
		{layout.Loader, bytes.Repeat([]byte("loader"), 20000)},
		{layout.LoaderConf, []byte(loaderConf)},
		{layout.RescueConf, []byte(RescueEntry("console=ttyS0"))},
		{layout.Images + "/" + layout.ImagePrefix + "2026.11.22.1849" + layout.ImageSuffix, image},
		{layout.Images + "/" + layout.ImagePrefix + "2026.11.22.1850" + layout.ImageSuffix, image[:4096]}, // one cluster exactly
		{layout.Rescue, image},
		{"empty", nil},
	}
}

// create makes a sparse file.
func create(t *testing.T, bytes int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // written already
	if err := f.Truncate(bytes); err != nil {
		t.Fatal(err)
	}
	return f
}

// digest is of the parts of an image that hold anything.
func digest(t *testing.T, f *os.File) [32]byte {
	t.Helper()
	h := sha256.New()
	for _, at := range [][2]int64{{0, 16 * MiB}, {ImageBytes - 2*MiB, 2 * MiB}} {
		if _, err := io.Copy(h, io.NewSectionReader(f, at[0], at[1])); err != nil {
			t.Fatal(err)
		}
	}
	return [32]byte(h.Sum(nil))
}

func TestWrite(t *testing.T) {
	f, again := create(t, 0), create(t, 0)
	for _, f := range []*os.File{f, again} {
		if err := Write(f, build, files()); err != nil {
			t.Fatal(err)
		}
	}
	if digest(t, f) != digest(t, again) {
		t.Error("the same input gave other bytes")
	}
	g := Geometry{ImageBytes, 512}
	parts, err := Partitions(f, g)
	if err != nil || len(parts) != 1 {
		t.Fatalf("partitions %+v, %v", parts, err)
	}
	esp, ok := Find(parts, layout.ESPType, layout.ESPName)
	if !ok || esp.Start != MiB || esp.Bytes != layout.ESPBytes || esp.Number != 1 {
		t.Errorf("EFI partition %+v", esp)
	}
	same(t, f, esp, 512, files())
	dates(t, f, esp)
	clean(t, f, esp)

	bundle := bytes.Repeat([]byte("site"), 5000)
	if err := AddFile(f, esp, 512, "komainu-site.kmb", bundle); err != nil {
		t.Fatal(err)
	}
	same(t, f, esp, 512, append(files(), File{"komainu-site.kmb", bundle}))
	clean(t, f, esp)
	if err := AddFile(f, esp, 512, "komainu-site.kmb", bundle[:7]); err != nil {
		t.Fatal(err)
	}
	same(t, f, esp, 512, append(files(), File{"komainu-site.kmb", bundle[:7]}))
	clean(t, f, esp)
}

func same(t *testing.T, f *os.File, esp Partition, sector int64, want []File) {
	t.Helper()
	for _, w := range want {
		if len(w.Data) == 0 {
			continue // the library can't read one; fsck.fat judges it
		}
		got, err := ReadFile(f, esp, sector, w.Path)
		if err != nil || !bytes.Equal(got, w.Data) {
			t.Errorf("%s: %d bytes, %v, want %d", w.Path, len(got), err, len(w.Data))
		}
	}
}

// dates demands the build's date on every entry.
func dates(t *testing.T, f *os.File, esp Partition) {
	t.Helper()
	v, err := fat32.Read(file.New(f, true), esp.Bytes, esp.Start, 512)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(v.Label()); got != layout.ESPLabel {
		t.Errorf("label %q", got)
	}
	for _, dir := range []string{".", "EFI", "EFI/BOOT", "EFI/Linux", "loader", "loader/entries"} {
		all, err := v.ReadDir(dir)
		if err != nil || len(all) == 0 {
			t.Errorf("%s: %v, %v", dir, all, err)
		}
		for _, e := range all {
			if info, err := e.Info(); err != nil || info.ModTime().Unix() != build.Unix {
				t.Errorf("%s/%s: %v, %v", dir, e.Name(), info, err)
			}
		}
	}
}

// clean lets fsck.fat judge the EFI partition.
func clean(t *testing.T, f *os.File, esp Partition) {
	t.Helper()
	fsck, err := exec.LookPath("fsck.fat")
	if err != nil {
		t.Log("not judged by fsck.fat: install dosfstools")
		return
	}
	part := create(t, esp.Bytes)
	defer func() { _ = os.Remove(part.Name()) }() // it is large
	if err := copySparse(part, f, esp); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), fsck, "-n", "-v", part.Name()).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func copySparse(to, from *os.File, p Partition) error {
	b, zero := make([]byte, MiB), make([]byte, MiB)
	for at := int64(0); at < min(p.Bytes, 32*MiB); at += MiB {
		if _, err := from.ReadAt(b, p.Start+at); err != nil {
			return err
		}
		if !bytes.Equal(b, zero) {
			if _, err := to.WriteAt(b, at); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestWholeDisk(t *testing.T) {
	for _, g := range []Geometry{{8 << 30, 512}, {LeastBytes, 512}, {LeastBytes + 12345*4096, 4096}} {
		f := create(t, g.Bytes)
		parts, err := WriteGPT(f, g, "serial 1", true)
		if err != nil {
			t.Fatal(err)
		}
		read, err := Partitions(f, g)
		if diff := cmp.Diff(parts, read); err != nil || diff != "" {
			t.Errorf("%+v: %v\n%s", g, err, diff)
		}
		esp, ok1 := Find(read, layout.ESPType, layout.ESPName)
		data, ok2 := Find(read, layout.DataType, layout.DataName)
		if !ok1 || !ok2 || data.Bytes < layout.DataBytes || data.Start < esp.Start+esp.Bytes || data.Start+data.Bytes > g.Bytes-MiB || data.Start%MiB != 0 {
			t.Errorf("%+v: %+v", g, read)
		}
		if err := Format(f, esp, g.Sector, ESPVolume(build), files()); err != nil {
			t.Fatal(err)
		}
		same(t, f, esp, g.Sector, files())
		clean(t, f, esp)
		// A damaged first table: the copy at the end is read.
		if _, err := f.WriteAt(make([]byte, g.Sector), g.Sector); err != nil {
			t.Fatal(err)
		}
		if read, err = Partitions(f, g); err != nil || !cmp.Equal(parts, read) {
			t.Errorf("%+v, from the copy: %v, %v", g, read, err)
		}
	}
}

func TestAddData(t *testing.T) {
	f := create(t, 0)
	if err := Write(f, build, files()); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(4 << 30); err != nil { // copied to a larger disk
		t.Fatal(err)
	}
	g := Geometry{4 << 30, 512}
	before, err := Partitions(f, g)
	if err != nil {
		t.Fatal(err)
	}
	data, err := AddData(f, g)
	if err != nil {
		t.Fatal(err)
	}
	again, err := AddData(f, g)
	if err != nil || again != data {
		t.Errorf("again: %+v, %v", again, err)
	}
	after, err := Partitions(f, g)
	if err != nil || !cmp.Equal(after, append(slices.Clone(before), data)) {
		t.Errorf("%+v, %v", after, err)
	}
	same(t, f, after[0], 512, files())
}

// cutDevice loses its power before write number left, half of which it does.
type cutDevice struct {
	*os.File
	left int
}

var errCut = errors.New("power cut")

func (d *cutDevice) WriteAt(p []byte, at int64) (int, error) {
	d.left--
	switch {
	case d.left < 0:
		return 0, errCut
	case d.left == 0:
		return d.File.WriteAt(p[:len(p)/2], at)
	}
	return d.File.WriteAt(p, at)
}

// Cut at any write and called again, AddData ends as if nothing had happened.
func TestAddDataThroughCuts(t *testing.T) {
	g := Geometry{4 << 30, 512}
	for cut := 1; ; cut++ {
		f := create(t, 0)
		if err := Write(f, build, files()); err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(g.Bytes); err != nil {
			t.Fatal(err)
		}
		_, cutErr := AddData(&cutDevice{f, cut}, g)
		data, err := AddData(f, g)
		if err != nil {
			t.Fatalf("cut at write %d: %v", cut, err)
		}
		table, err := gpt.Read(f, 512, 512)
		if err != nil || table.RecoveredFromBackup {
			t.Errorf("cut at write %d: the first table stays damaged, %v", cut, err)
		}
		parts, err := Partitions(f, g)
		if err != nil || len(parts) != 2 || parts[1] != data {
			t.Errorf("cut at write %d: %+v, %v", cut, parts, err)
		}
		same(t, f, parts[0], 512, files()[:1])
		if cutErr == nil {
			if cut < 4 {
				t.Errorf("only %d writes", cut)
			}
			return
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		run  func(f *os.File) error
		want error
	}{
		"no table":                        {func(f *os.File) error { _, err := Partitions(f, Geometry{LeastBytes, 512}); return err }, ErrForeign},
		"no table to add to":              {func(f *os.File) error { _, err := AddData(f, Geometry{LeastBytes, 512}); return err }, ErrForeign},
		"too small":                       {func(f *os.File) error { _, err := WriteGPT(f, Geometry{LeastBytes - MiB, 512}, "x", true); return err }, ErrTooSmall},
		"too small for the EFI partition": {func(f *os.File) error { _, err := WriteGPT(f, Geometry{64 * MiB, 512}, "x", false); return err }, ErrTooSmall},
		"no room to add": {func(f *os.File) error {
			g := Geometry{ImageBytes + MiB, 512}
			if _, err := WriteGPT(f, g, "x", false); err != nil {
				return err
			}
			_, err := AddData(f, g)
			return err
		}, ErrTooSmall},
		"too many files": {func(f *os.File) error {
			big := make([]byte, 300*MiB)
			return Format(f, Partition{Start: MiB, Bytes: 512 * MiB}, 512, Volume{}, []File{{"a", big}, {"b", big}})
		}, ErrTooSmall},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.run(create(t, LeastBytes)); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	for _, path := range []string{"", "/x", "a//b", "../x", "a:b", "名前"} {
		if err := Format(create(t, 0), Partition{Bytes: 512 * MiB}, 512, Volume{}, []File{{path, nil}}); err == nil {
			t.Errorf("%q was written", path)
		}
	}
	twice := []File{{"EFI/a", nil}, {"efi/A", nil}}
	if err := Format(create(t, 0), Partition{Bytes: 512 * MiB}, 512, Volume{}, twice); err == nil {
		t.Error("two files with one name were written")
	}
}

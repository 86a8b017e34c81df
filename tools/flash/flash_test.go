package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"komainu/images/bundle"
	"komainu/images/disk"
	"komainu/images/layout"
	"komainu/images/uki"
)

// stick is a disk in a file. Zeros are not written where zeros stand, so that
// a gigabyte of them takes no room. Lose says which writes it only pretends to keep.
type stick struct {
	*os.File
	lose    func(at int64) bool
	lost    map[int64][]byte // served until Forget, as a cache does
	err     error            // of the next write behind the first
	writes  int
	forgets int
}

func newStick(t *testing.T, size int64) *stick {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stick"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // closed by the program where it got that far
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return &stick{File: f, lose: func(int64) bool { return false }, lost: map[int64][]byte{}}
}

func (s *stick) WriteAt(p []byte, at int64) (int, error) {
	s.writes++
	if s.err != nil && s.writes > 1 {
		return 0, s.err
	}
	if s.lose(at) {
		s.lost[at] = bytes.Clone(p)
		return len(p), nil
	}
	there := make([]byte, len(p))
	if _, err := s.File.ReadAt(there, at); err == nil && bytes.Equal(there, p) {
		return len(p), nil
	}
	return s.File.WriteAt(p, at)
}

func (s *stick) ReadAt(p []byte, at int64) (int, error) {
	if b, ok := s.lost[at]; ok && len(b) >= len(p) {
		return copy(p, b), nil
	}
	return s.File.ReadAt(p, at)
}

func (s *stick) Sync() error { return nil }

func (s *stick) Forget() error {
	s.forgets++
	clear(s.lost)
	return nil
}

// Close leaves the file open for the test to look at.
func (s *stick) Close() error { return nil }

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>12)
	}
	return b
}

func TestWriteImage(t *testing.T) {
	for _, size := range []int64{1 << 20, piece, 3*piece + 12345} {
		s, image := newStick(t, size), pattern(int(size))
		seen := map[step]int64{}
		err := writeImage(s, bytes.NewReader(image), size, func(at step, done int64) {
			if done < seen[at] || done > size {
				t.Errorf("%s went from %d to %d of %d", at, seen[at], done, size)
			}
			seen[at] = done
		})
		got, err2 := io.ReadAll(io.NewSectionReader(s, 0, size))
		if errors.Join(err, err2) != nil || !bytes.Equal(got, image) || s.forgets != 1 {
			t.Errorf("%d bytes: %v, forgot %d times", size, errors.Join(err, err2), s.forgets)
		}
		if seen[stepWrite] != size || seen[stepVerify] != size {
			t.Errorf("progress ended at %v of %d", seen, size)
		}
	}
}

func TestAStickThatLiesIsFound(t *testing.T) {
	const size = 3 * piece
	for name, lose := range map[string]func(int64) bool{
		"drops the start":        func(at int64) bool { return at == 0 },
		"drops the end":          func(at int64) bool { return at >= 2*piece },
		"drops everything":       func(int64) bool { return true },
		"smaller than it claims": func(at int64) bool { return at >= piece },
	} {
		s := newStick(t, size)
		s.lose = lose
		if err := writeImage(s, bytes.NewReader(pattern(size)), size, func(step, int64) {}); !errors.Is(err, errLies) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A stick that is pulled out in the middle holds no table any more.
func TestPulledOut(t *testing.T) {
	const size = 3 * piece
	s := newStick(t, size)
	if _, err := s.File.WriteAt(pattern(piece), 0); err != nil {
		t.Fatal(err)
	}
	s.err = os.ErrDeadlineExceeded
	if err := writeImage(s, bytes.NewReader(pattern(size)), size, func(step, int64) {}); !errors.Is(err, s.err) {
		t.Errorf("got %v", err)
	}
	first := make([]byte, piece)
	if _, err := s.File.ReadAt(first, 0); err != nil || !bytes.Equal(first, make([]byte, piece)) {
		t.Errorf("its start holds something, %v", err)
	}
}

// bench is the program with a fake host whose only free stick is s.
type bench struct {
	*app
	out, err bytes.Buffer
	stick    *stick
	opened   []string
	dir      string
}

func newBench(t *testing.T, typed string) *bench {
	t.Helper()
	b := &bench{dir: t.TempDir(), stick: newStick(t, 16000000*512)}
	b.app = &app{
		in: bufio.NewReader(strings.NewReader(typed)), out: &b.out, err: &b.err, host: host(t),
		open: func(path string) (Target, error) {
			b.opened = append(b.opened, filepath.Base(path))
			return b.stick, nil
		},
		now:      func() time.Time { return time.Unix(1795373340, 0) },
		password: func(string) (string, error) { return "", nil },
	}
	return b
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) image(t *testing.T) string {
	t.Helper()
	f, err := os.Create(b.path("komainu.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // read back below
	err = disk.Write(f, layout.Build{Version: "1.2", Unix: 1795373340}, []disk.File{{Path: layout.Loader, Data: pattern(100000)}})
	if err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func TestWriteCommand(t *testing.T) {
	if testing.Short() {
		t.Skip("reads a gigabyte of holes a few times")
	}
	b := newBench(t, "USB77\n")
	if code := b.main([]string{"key", b.dir, "release"}); code != 0 {
		t.Fatal(b.err.String())
	}
	put(t, b.dir, "secrets/sato", "hash")
	code := b.main([]string{
		"write", "-site", "../../appliance/config/testdata/hinata-cho.toml", "-secrets", b.path("secrets"), "-key", b.path("release.key"),
		b.image(t), "sdb",
	})
	if code != 0 || len(b.opened) != 1 || b.opened[0] != "sdb" {
		t.Fatalf("%d, opened %v: %s", code, b.opened, b.err.String())
	}
	for _, want := range []string{"Kingston DataStick", "Type USB77", "writing: 10 %", "writing: 100 %", "verifying: 100 %"} {
		if !strings.Contains(b.err.String(), want) {
			t.Errorf("no %q in\n%s", want, b.err.String())
		}
	}
	g := disk.Geometry{Bytes: 16000000 * 512, Sector: 512}
	parts, err := disk.Partitions(b.stick, g)
	if err != nil {
		t.Fatal(err)
	}
	loader, err := disk.ReadFile(b.stick, parts[0], 512, layout.Loader)
	if err != nil || !bytes.Equal(loader, pattern(100000)) {
		t.Errorf("the loader on the stick: %d bytes, %v", len(loader), err)
	}
	site, err := disk.ReadFile(b.stick, parts[0], 512, bundle.SiteName)
	if err != nil {
		t.Fatal(err)
	}
	known, err := bundle.PublicKeys(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := bundle.Verify(bytes.NewReader(site), known); err != nil || m.Site != "hinata-cho" || len(m.Files) != 2 {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := disk.AddData(b.stick, g); err != nil {
		t.Errorf("first start: %v", err)
	}
}

// Whatever the user asks for, a disk in use is never opened.
func TestSystemDisksAreRefused(t *testing.T) {
	for _, c := range []struct{ disk, typed, want string }{
		{"sda", "S123", "mounted at /"},
		{"S123", "S123", "mounted at /"},
		{"nvme0n1", "N9", "dm-0 is built upon it"},
		{"sdc", "sdc", "/media/stick"},
		{"sdd", "A1", "member of RAID"},
		{"sdb", "USB78", "was not typed"},
		{"sdb", "", "was not typed"},
		{"sdq", "", "no disk sdq"},
	} {
		b := newBench(t, c.typed+"\n")
		if code := b.main([]string{"write", "-any", b.image(t), c.disk}); code != 1 || len(b.opened) != 0 || !strings.Contains(b.err.String(), c.want) {
			t.Errorf("%s: %d, opened %v, %s", c.disk, code, b.opened, b.err.String())
		}
	}
	b := newBench(t, "USB77\n")
	put(t, b.dir, "other.img", string(pattern(8<<20)))
	if code := b.main([]string{"write", b.path("other.img"), "sdb"}); code != 1 || len(b.opened) != 0 || !strings.Contains(b.err.String(), "no image of the appliance") {
		t.Errorf("another file: %d, %s", code, b.err.String())
	}
	if code := b.main([]string{"write", "-site", "x", b.image(t), "sdb"}); code != 1 || !strings.Contains(b.err.String(), "belong together") {
		t.Errorf("half a site: %d, %s", code, b.err.String())
	}
}

func TestList(t *testing.T) {
	b := newBench(t, "")
	if code := b.main([]string{"list"}); code != 0 {
		t.Fatal(b.err.String())
	}
	for _, want := range []string{`(?m)^sda +S123 .*SSD 1 +it is mounted at /$`, `(?m)^sdb +USB77 +8\.2 GB +Kingston DataStick +can be written$`} {
		if !regexp.MustCompile(want).MatchString(b.out.String()) {
			t.Errorf("no %s in\n%s", want, b.out.String())
		}
	}
}

func TestBundles(t *testing.T) {
	b := newBench(t, "")
	run := func(want int, args ...string) string {
		t.Helper()
		b.out.Reset()
		b.err.Reset()
		if code := b.main(args); code != want {
			t.Fatalf("%q: %d: %s", args, code, b.err.String())
		}
		return b.out.String() + b.err.String()
	}
	run(0, "key", b.dir, "release")
	stub, err := os.ReadFile("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
	if err == nil {
		var image bytes.Buffer
		in := uki.Sections{OSRelease: uki.OSRelease(layout.Build{Version: "1.2"}), Cmdline: "quiet", Uname: "6.1", Initrd: pattern(1000), Linux: pattern(1000)}
		if err := uki.Write(&image, stub, in); err != nil {
			t.Fatal(err)
		}
		put(t, b.dir, "komainu.efi", image.String())
		run(0, "sign", "-key", b.path("release.key"), "-floor", "1", b.path("komainu.efi"))
		if got := run(0, "check", "-keys", b.dir, b.path("komainu-1.2.kmb")); !strings.Contains(got, "image 1.2 for x86_64-uefi, floor 1") {
			t.Error(got)
		}
	}
	put(t, b.dir, "secrets/sato", "hash")
	run(0, "site", "-key", b.path("release.key"), "-o", b.path("site.kmb"), "../../appliance/config/testdata/hinata-cho.toml", b.path("secrets"))
	if got := run(0, "check", "-keys", b.dir, b.path("site.kmb")); !strings.Contains(got, "configuration of hinata-cho") {
		t.Error(got)
	}
	if st, err := os.Stat(b.path("site.kmb")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("it holds secrets: %v, %v", st, err)
	}
	got := run(1, "site", "-key", b.path("release.key"), "-o", b.path("bad.kmb"), "../../appliance/config/testdata/bad.toml", b.path("secrets"))
	if _, err := os.Stat(b.path("bad.kmb")); !strings.Contains(got, "has errors") || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a bad configuration: %v, %s", err, got)
	}
	put(t, b.dir, "cut.kmb", "KOMAINU1")
	if got := run(1, "check", "-keys", b.dir, b.path("cut.kmb")); !strings.Contains(got, "the bundle is cut off") {
		t.Error(got)
	}
	run(2, "check")
	run(2, "fly")
	run(2)
}

var argument = regexp.MustCompile(`\{=?\d\}`)

// Both languages say the same, with the same arguments.
func TestWords(t *testing.T) {
	for code, w := range words {
		en, ja := map[string]bool{}, map[string]bool{}
		for _, a := range argument.FindAllString(w[0], -1) {
			en[a] = true
		}
		for _, a := range argument.FindAllString(w[1], -1) {
			ja[a] = true
		}
		if w[0] == "" || w[1] == "" || len(en) != len(ja) {
			t.Errorf("%s: %q", code, w)
		}
		for a := range en {
			if !ja[a] {
				t.Errorf("%s: no %s in Japanese", code, a)
			}
		}
	}
	if got := say("ja", "in-use", "sda", "use-mounted", "/"); got != "sda は使用中です。書き込んでいません：/ にマウントされています" {
		t.Error(got)
	}
}

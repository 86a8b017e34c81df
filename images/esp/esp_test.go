package esp

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"komainu/images/layout"
)

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"komainu-2026.11.22.1849.efi":     "accepted 2026.11.22.1849 0 0",
		"komainu-2026.11.22.1849+3.efi":   "trial 2026.11.22.1849 3 0",
		"komainu-2026.11.22.1849+2-1.efi": "trial 2026.11.22.1849 2 1",
		"komainu-7+0-3.efi":               "failed 7 0 3",
		"KOMAINU-7+0-3.EFI":               "failed 7 0 3",
		"komainu-7+3.efi.part":            "", "komainu-.efi": "", "komainu-07.efi": "", "komainu-7+.efi": "", "other-7.efi": "", "komainu-7+3-.efi": "",
	} {
		i, ok := ParseName(name)
		got := ""
		if ok {
			got = fmt.Sprint(i.State(), " ", i.Version, " ", i.Left, " ", i.Done)
		}
		if got != want || ok && i.Name() != strings.ToLower(name) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// partition makes a folder with these images.
func partition(t *testing.T, files ...string) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, layout.Images)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(f), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func listed(t *testing.T, root string) string {
	t.Helper()
	all, err := List(root)
	if err != nil {
		t.Fatal(err)
	}
	return join(all)
}

func join(all []Image) string {
	var s []string
	for _, i := range all {
		s = append(s, strings.TrimSuffix(strings.TrimPrefix(i.Name(), "komainu-"), ".efi"))
	}
	return strings.Join(s, " ")
}

func image(t *testing.T, short string) Image {
	t.Helper()
	i, ok := ParseName("komainu-" + short + ".efi")
	if !ok && short != "" {
		t.Fatal(short)
	}
	i.Bytes = 10 << 20
	return i
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		there, running string
		freeMB         int64
		gone           string
	}{
		{"2", "2", 100, ""},
		{"2 1", "2", 100, ""},
		{"2 1", "2", 20, ""},
		{"2 1", "2", 5, "1"}, // the running one is the newest accepted: 1 is spare
		{"2", "2", 5, "full"},
		{"3 2 1", "3", 11, ""},
		{"3 2 1", "3", 10, "1"},
		{"3 2 1", "3", 0, "1 2"},
		{"4+0-3 3 2", "3", 100, "4+0-3"},
		{"4+3 3+0-1 3 2", "3", 100, "3+0-1 4+3"}, // failed ones first
		{"9+2-1 3 2", "3", 100, "9+2-1"},         // a version that waits
		{"4+2-1 3 2", "4+2-1", 0, "full"},        // 3 is what the loader goes back to
		{"4+2-1 3 2 1", "4+2-1", 0, "1 2"},
		{"9 3", "", 100, "9"}, // started by something else, version 9 again
		{"3", "", 100, ""},
	} {
		var all []Image
		for f := range strings.FieldsSeq(c.there) {
			all = append(all, image(t, f))
		}
		gone, err := Plan(all, image(t, c.running), "9", 10<<20, c.freeMB<<20)
		got := join(gone)
		var full *RoomError
		if errors.As(err, &full) {
			got = "full"
		}
		if got != c.gone {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

var (
	body = bytes.Repeat([]byte("an image of three megabytes or so"), 100000)
	sum  = sha256.Sum256(body)
)

func quiet(Step, int64) error { return nil }

func TestWrite(t *testing.T) {
	root := partition(t, "komainu-1.efi", "komainu-5+3.efi.part", "notes.txt")
	var steps []string
	err := Write(root, "2", bytes.NewReader(body), int64(len(body)), sum, func(s Step, n int64) error {
		if len(steps) == 0 || steps[len(steps)-1] != string(s) {
			steps = append(steps, string(s))
		}
		return nil
	})
	got, _ := os.ReadFile(filepath.Join(root, layout.Images, "komainu-2+3.efi"))
	if err != nil || listed(t, root) != "2+3 1" || !bytes.Equal(got, body) || !slices.Equal(steps, []string{"write", "check", "name"}) {
		t.Errorf("%v, %s, %q", err, listed(t, root), steps)
	}
	if _, err := os.Stat(filepath.Join(root, layout.Images, "komainu-5+3.efi.part")); err == nil {
		t.Error("what was left of an earlier writing is still there")
	}
}

// TestCut stops the work at every point where it tells, as a power cut does:
// nothing is tidied up. The images are the old ones or the new ones, and the
// next attempt works.
func TestCut(t *testing.T) {
	type cut struct{}
	for n := 0; ; n++ {
		root := partition(t, "komainu-1.efi")
		told, whole := 0, false
		work := func() {
			defer func() {
				if r := recover(); r != nil && r != any(cut{}) {
					panic(r)
				}
			}()
			err := Write(root, "2", bytes.NewReader(body), int64(len(body)), sum, func(Step, int64) error {
				if told == n {
					panic(cut{})
				}
				told++
				return nil
			})
			whole = err == nil
		}
		work()
		if got := listed(t, root); got != "1" && !whole || whole && got != "2+3 1" {
			t.Fatalf("cut %d: %s", n, got)
		}
		if whole {
			if n < 10 {
				t.Errorf("only %d places to cut", n)
			}
			return
		}
		if err := Write(root, "2", bytes.NewReader(body), int64(len(body)), sum, quiet); err != nil || listed(t, root) != "2+3 1" {
			t.Fatalf("after cut %d: %v, %s", n, err, listed(t, root))
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	gone := errors.New("stick pulled out")
	for name, c := range map[string]struct {
		from io.Reader
		tell Progress
	}{
		"short":    {bytes.NewReader(body[:len(body)-1]), quiet},
		"long":     {bytes.NewReader(append(slices.Clone(body), 0)), quiet},
		"altered":  {io.MultiReader(strings.NewReader("A"), bytes.NewReader(body[1:])), quiet},
		"gone":     {io.MultiReader(bytes.NewReader(body[:2<<20]), iotest.ErrReader(gone)), quiet},
		"ended by": {bytes.NewReader(body), func(s Step, _ int64) error { return map[Step]error{Checking: gone}[s] }},
	} {
		root := partition(t, "komainu-1.efi")
		err := Write(root, "2", c.from, int64(len(body)), sum, c.tell)
		left, _ := os.ReadDir(filepath.Join(root, layout.Images))
		if err == nil || len(left) != 1 || errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, %v", name, err, left)
		}
	}
}

func TestRenames(t *testing.T) {
	root := partition(t, "komainu-2+1-2.efi", "komainu-1.efi")
	i, err := ResetTries(root, image(t, "2+1-2"))
	if err != nil || listed(t, root) != "2+3 1" {
		t.Fatal(err, listed(t, root))
	}
	if i, err = Fail(root, i); err != nil || listed(t, root) != "2+0-1 1" {
		t.Fatal(err, listed(t, root))
	}
	if i, err = Accept(root, i); err != nil || listed(t, root) != "2 1" {
		t.Fatal(err, listed(t, root))
	}
	for range 2 {
		if i, err = Accept(root, i); err != nil || i.Counted {
			t.Fatal(err)
		}
	}
	if _, err = Accept(root, image(t, "7+1")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	root = partition(t, "komainu-2+1-2.efi", "komainu-2.efi")
	if _, err := Accept(root, image(t, "2+1-2")); err == nil || listed(t, root) != "2+1-2 2" {
		t.Error("a file was replaced", err, listed(t, root))
	}
	if err := Remove(root, image(t, "2+1-2")); err != nil || listed(t, root) != "2" {
		t.Error(err)
	}
}

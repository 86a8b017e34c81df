package bundle

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"aead.dev/minisign"

	"komainu/images/layout"
)

// keys are the same in every run.
func keys(tb testing.TB, seed byte) ([]minisign.PublicKey, minisign.PrivateKey) {
	tb.Helper()
	public, private, err := minisign.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{seed}, 64)))
	if err != nil {
		tb.Fatal(err)
	}
	return []minisign.PublicKey{public}, private
}

var (
	image = Manifest{Kind: KindImage, Version: "2026.11.22.1849", Machine: layout.Machine, Floor: "2026.10.1", Unix: 1795373340}
	site  = Manifest{Kind: KindSite, Site: "hinata-cho", Unix: 1795373340}
)

func source(name string, mode uint32, text string) Source {
	return Source{name, mode, strings.NewReader(text)}
}

func imageFiles() []Source {
	return []Source{source(ImageFile, 0o644, strings.Repeat("kernel", 300)), source("sbom.json", 0o644, "{}"), source("empty", 0o644, "")}
}

func siteFiles() []Source {
	return []Source{source(ConfigFile, 0o644, "schema = 1\n"), source("secrets/sato", 0o600, "hash"), source("secrets/Box.key", 0o600, "key")}
}

func made(tb testing.TB, m Manifest, files []Source, key minisign.PrivateKey) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := Create(&b, m, files, key); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	public, private := keys(t, 1)
	for _, c := range []struct {
		m     Manifest
		files []Source
	}{{image, imageFiles()}, {site, siteFiles()}} {
		b := made(t, c.m, c.files, private)
		if !bytes.Equal(b, made(t, c.m, c.files, private)) {
			t.Error("the same input gave other bytes")
		}
		r, err := Open(iotest.OneByteReader(bytes.NewReader(b)), public)
		if err != nil {
			t.Fatal(err)
		}
		if m := r.Manifest(); m.Kind != c.m.Kind || m.Version != c.m.Version || m.Site != c.m.Site || len(m.Files) != len(c.files) {
			t.Errorf("manifest %+v", m)
		}
		for _, want := range c.files {
			f, content, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(content)
			text, err2 := rest(want)
			if f.Name != want.Name || f.Mode != want.Mode || !bytes.Equal(got, text) || errors.Join(err, err2) != nil {
				t.Errorf("%+v: %q, %v", f, got, err)
			}
		}
		if _, _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
	}
}

func rest(s Source) ([]byte, error) {
	var b bytes.Buffer
	_, err := rewound(&b, s.Data)
	return b.Bytes(), err
}

// Every sampled change of one byte and every sampled truncation is refused,
// and by the error that says what happened.
func TestEveryChangeIsRefused(t *testing.T) {
	public, private := keys(t, 1)
	rng := rand.New(rand.NewPCG(1, 2))
	for _, b := range [][]byte{made(t, image, imageFiles(), private), made(t, site, siteFiles(), private)} {
		if _, err := Verify(bytes.NewReader(b), public); err != nil {
			t.Fatal(err)
		}
		for range 600 {
			at := rng.IntN(len(b))
			changed := bytes.Clone(b)
			changed[at] ^= byte(1 + rng.IntN(255))
			_, err := Verify(bytes.NewReader(changed), public)
			if !errors.Is(err, ErrSignature) && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrAltered) && !errors.Is(err, ErrTruncated) {
				t.Errorf("byte %d of %d changed from %q to %q: %v", at, len(b), b[at], changed[at], err)
			}
			cut := rng.IntN(len(b))
			if _, err := Verify(bytes.NewReader(b[:cut]), public); !errors.Is(err, ErrTruncated) {
				t.Errorf("cut at %d of %d: %v", cut, len(b), err)
			}
		}
		if _, err := Verify(bytes.NewReader(append(bytes.Clone(b), 0)), public); !errors.Is(err, ErrAltered) {
			t.Errorf("one byte behind its end: %v", err)
		}
	}
}

func TestOtherKeys(t *testing.T) {
	public, private := keys(t, 1)
	others, _ := keys(t, 2)
	b := made(t, image, imageFiles(), private)
	for name, known := range map[string][]minisign.PublicKey{"another": others, "none": nil} {
		if _, err := Verify(bytes.NewReader(b), known); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Verify(bytes.NewReader(b), append(others, public...)); err != nil {
		t.Errorf("the second of two keys: %v", err)
	}
}

// A stick that is pulled out is no damaged bundle.
func TestReadError(t *testing.T) {
	public, private := keys(t, 1)
	b := made(t, image, imageFiles(), private)
	gone := errors.New("no such device")
	for _, n := range []int{4, 100, len(b) - 100} {
		_, err := Verify(io.MultiReader(bytes.NewReader(b[:n]), iotest.ErrReader(gone)), public)
		if !errors.Is(err, gone) || errors.Is(err, ErrTruncated) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

func TestManifestsThatAreRefused(t *testing.T) {
	_, private := keys(t, 1)
	with := func(m Manifest, change func(*Manifest)) Manifest {
		change(&m)
		return m
	}
	config := source(ConfigFile, 0o644, "")
	for name, c := range map[string]struct {
		m     Manifest
		files []Source
		want  error
	}{
		"unknown kind":       {with(image, func(m *Manifest) { m.Kind = "rescue" }), imageFiles(), ErrKind},
		"no version":         {with(image, func(m *Manifest) { m.Version = "" }), imageFiles(), ErrFormat},
		"odd version":        {with(image, func(m *Manifest) { m.Version = "1.02" }), imageFiles(), ErrFormat},
		"floor too high":     {with(image, func(m *Manifest) { m.Floor = "2027.1" }), imageFiles(), ErrFormat},
		"no machine":         {with(image, func(m *Manifest) { m.Machine = "" }), imageFiles(), ErrFormat},
		"no image":           {image, nil, ErrFormat},
		"image elsewhere":    {image, append(imageFiles(), source("../x", 0o644, "")), ErrFormat},
		"two of a name":      {image, append(imageFiles(), imageFiles()...), ErrFormat},
		"no site":            {with(site, func(m *Manifest) { m.Site = "" }), siteFiles(), ErrFormat},
		"site of two lines":  {with(site, func(m *Manifest) { m.Site = "a\nb" }), siteFiles(), ErrFormat},
		"no configuration":   {site, siteFiles()[1:], ErrFormat},
		"secret elsewhere":   {site, []Source{config, source("secrets/../x", 0o600, "")}, ErrFormat},
		"secret in a folder": {site, []Source{config, source("secrets/a/b", 0o600, "")}, ErrFormat},
		"hidden secret":      {site, []Source{config, source("secrets/.x", 0o600, "")}, ErrFormat},
		"no secret":          {site, []Source{config, source("secrets/", 0o600, "")}, ErrFormat},
		"other file":         {site, []Source{config, source("passwd", 0o600, "")}, ErrFormat},
		"open secret":        {site, []Source{config, source("secrets/x", 0o644, "")}, ErrFormat},
		"odd mode":           {image, []Source{source(ImageFile, 0o4755, "")}, ErrFormat},
		"huge":               {site, []Source{source(ConfigFile, 0o644, strings.Repeat("x", maxSite+1))}, ErrFormat},
	} {
		if err := Create(io.Discard, c.m, c.files, private); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAllow(t *testing.T) {
	for _, c := range []struct {
		got, want error
	}{
		{image.AllowImage(layout.Machine, ""), nil},
		{image.AllowImage(layout.Machine, "2026.11.22.1849"), nil},
		{image.AllowImage(layout.Machine, "2026.11.22.1850"), ErrOlder},
		{image.AllowImage("aarch64-uefi", ""), ErrMachine},
		{site.AllowImage(layout.Machine, ""), ErrKind},
		{site.AllowSite("", 0), nil},
		{site.AllowSite("hinata-cho", site.Unix), nil},
		{site.AllowSite("hinata-cho", site.Unix+1), ErrOlder},
		{site.AllowSite("midori-mura", 0), ErrSite},
		{image.AllowSite("", 0), ErrKind},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("got %v, want %v", c.got, c.want)
		}
	}
}

func TestKeys(t *testing.T) {
	dir := t.TempDir()
	if _, err := PublicKeys(dir); err == nil {
		t.Error("an empty folder of keys was taken")
	}
	if err := GenerateKey(dir, "release", ""); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(dir, "release.key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("private key: %v, %v", st.Mode(), err)
	}
	if err := GenerateKey(dir, "release", ""); !errors.Is(err, os.ErrExist) {
		t.Errorf("a key was replaced: %v", err)
	}
	private, err := PrivateKey(filepath.Join(dir, "release.key"), "")
	if err != nil {
		t.Fatal(err)
	}
	public, err := PublicKeys(dir)
	if err != nil || len(public) != 1 || public[0].ID() != private.ID() {
		t.Fatalf("%v, %v", public, err)
	}
	if _, err := Verify(bytes.NewReader(made(t, site, siteFiles(), private)), public); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "damaged.pub"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := PublicKeys(dir); err == nil || !strings.Contains(err.Error(), "damaged.pub") {
		t.Errorf("a damaged key: %v", err)
	}
	if err := GenerateKey(dir, "../x", ""); err == nil {
		t.Error("a key outside of the folder was made")
	}
}

// encrypted is a key with the password "secret".
const encrypted = `untrusted comment: minisign encrypted secret key
RWRTY0Iyf94JM0iH3BRI4DTHuOZhXrdAbRFUsJB+VQUOB+oddOQAAAACAAAAAAAAAEAAAAAA9yqaRPwHkbkOXqAVWvL/6rm3qwxYr0jt+K0r+eJwImXvLvvjpnz6Sx9eIO11o27D8Mm4riKeziy7bY5/o9JyFhUDQTCknzqDEHhOF88uXQxkKynD5HwuvkPyDcTWNwY2MJtBh7bo1ZE=`

func TestPassword(t *testing.T) {
	path := filepath.Join(t.TempDir(), "release.key")
	if err := os.WriteFile(path, []byte(encrypted), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := PrivateKey(path, ""); !errors.Is(err, ErrPassword) {
		t.Errorf("without: %v", err)
	}
	if testing.Short() {
		t.Skip("scrypt as minisign sets it takes seconds and a gigabyte")
	}
	if _, err := PrivateKey(path, "secret"); err != nil {
		t.Errorf("with: %v", err)
	}
	if _, err := PrivateKey(path, "other"); !errors.Is(err, ErrPassword) {
		t.Errorf("with another: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	public, private := keys(f, 1)
	b := made(f, image, imageFiles(), private)
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add(made(f, site, siteFiles(), private))
	f.Add([]byte(magic + "\x00\x00\xff\xff\x00\x00\x00\x01{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Verify(bytes.NewReader(data), public)
		if err == nil && m.Check() != nil {
			t.Errorf("took %+v", m)
		}
	})
}

// FuzzManifest looks behind the signature: whatever is signed, names stay
// inside the folder they are unpacked to.
func FuzzManifest(f *testing.F) {
	f.Add("site", "secrets/x", int64(1), uint32(0o600))
	f.Add("image", "../../etc/passwd", int64(-1), uint32(0))
	f.Fuzz(func(t *testing.T, kind, name string, size int64, mode uint32) {
		m := Manifest{Kind: kind, Version: "1", Machine: "x", Floor: "1", Site: "s"}
		digest := strings.Repeat("00", 32)
		m.Files = []File{{ConfigFile, 1, digest, 0o644}, {ImageFile, 1, digest, 0o644}, {name, size, digest, mode}}
		if kind == KindSite {
			m.Files = append(m.Files[:1], m.Files[2:]...)
		}
		if m.Check() == nil && (!filepath.IsLocal(name) || size < 0 || mode > 0o777) {
			t.Errorf("took %s %q %d %o", kind, name, size, mode)
		}
	})
}

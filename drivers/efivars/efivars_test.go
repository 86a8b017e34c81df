package efivars

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestLoader(t *testing.T) {
	v := Vars{t.TempDir()}
	for name, s := range map[string]string{
		"LoaderBootCountPath": `\EFI\Linux\komainu-2026.11.22.1849+2-1.efi`, "LoaderEntrySelected": "komainu-2026.11.22.1849+2-1.efi",
		"LoaderDevicePartUUID": "7A9D4B5C-0000-4000-8000-0123456789AB", "LoaderInfo": "systemd-boot 252.39-1~deb12u1",
	} {
		if err := os.WriteFile(v.path(name), encode(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := v.Loader()
	want := Loader{"EFI/Linux/komainu-2026.11.22.1849+2-1.efi", "komainu-2026.11.22.1849+2-1.efi", "7a9d4b5c-0000-4000-8000-0123456789ab", "systemd-boot 252.39-1~deb12u1", ""}
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if err := os.WriteFile(v.path("StubInfo"), []byte{7, 0, 0, 0, 'x'}, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := v.Loader(); err == nil || got.Entry != want.Entry {
		t.Errorf("half a character: %+v, %v", got, err)
	}
}

func TestStartOnce(t *testing.T) {
	v := Vars{t.TempDir()}
	for _, entry := range []string{"something-long.conf", "rescue.conf", "ärger-😀.conf"} {
		if err := v.StartOnce(entry); err != nil {
			t.Fatal(err)
		}
		if got, err := v.get("LoaderEntryOneShot"); err != nil || got != entry {
			t.Errorf("%q, %v", got, err)
		}
	}
	for range 2 {
		if err := v.StartOnce(""); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := v.get("LoaderEntryOneShot"); got != "" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	none := Vars{filepath.Join(v.Dir, "none")}
	if _, err := none.Loader(); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
	if err := none.StartOnce("rescue.conf"); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
}

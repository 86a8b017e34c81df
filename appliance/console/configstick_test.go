package console

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"komainu/appliance/control"
	"komainu/appliance/say"
)

// TestConfigOnStick: what lies on a stick, in a folder in its place.
func TestConfigOnStick(t *testing.T) {
	root := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bad := func(name, want string) {
		t.Helper()
		_, err := configOn(root, name)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
	bad("", "no file .toml")
	bad("a.toml", "no file .toml")
	if err := configTo(root, "a.toml", "schema = 1\n"); err != nil {
		t.Error(err)
	}
	if err := configTo(root, "a.toml", "schema = 2\n"); err == nil || !strings.Contains(err.Error(), "a.toml is on the stick already") {
		t.Error(err)
	}
	for _, name := range []string{"", "a", "a.toml"} {
		if text, err := configOn(root, name); text != "schema = 1\n" || err != nil {
			t.Errorf("%q: %q %v", name, text, err)
		}
	}
	put("c.toml", "\x83\x65") // Shift_JIS
	put("zeros.txt", "\x00\x00")
	put("big.txt", strings.Repeat("#", candidateMost+1))
	bad("", "several files .toml are on the stick, name one of them: a.toml, c.toml")
	bad("b.toml", "b.toml isn't on the stick; there are: a.toml, c.toml")
	if err := os.Symlink("a.toml", filepath.Join(root, "link.toml")); err != nil {
		t.Fatal(err)
	}
	bad("link", "link.toml can't be read from the stick: is it still plugged in?")
	bad("../a.toml", "no name of a file")
	bad("c.toml", "c.toml isn't UTF-8 text")
	bad("zeros.txt", "zeros.txt isn't UTF-8 text")
	bad("big.txt", "larger than 1024 KiB")
	if ja := say.Text("ja", "stick-missing", "b.toml", "a.toml", "c.toml"); ja != "b.toml はUSBメモリにありません。あるファイル：a.toml, c.toml" {
		t.Error(ja)
	}
}

// TestStickTranscript: a configuration goes to a stick and comes back; what
// can't be taken leaves the candidate as it was.
func TestStickTranscript(t *testing.T) {
	for _, lang := range say.Languages() {
		root := t.TempDir()
		for name, text := range map[string]string{"sjis.toml": "\x83\x65", "typo.toml": "set schema 3\r\nset interface\r\n", "new.toml": "\ufeffschema = 1\r\n\t［site］\r\nname =\t\"a\"\r\n"} {
			if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		k := newKeeper(wan)
		golden(t, "stick-"+lang, typesWith(t, k.serve(t), lang, control.Field, strings.ReplaceAll(`copy config usb:site
copy config usb:site.toml
copy config usb:a/b
copy config site
configure
set interface wan mtu 1400
load usb:
load usb:none
load usb:../new.toml
load usb:sjis
load usb:typo
load site
compare
load usb:new
compare
load usb:site
compare
exit
exit
`, "\n", "\r"), func(_ string, do func(root string) error) error { return do(root) }))
		if b, err := os.ReadFile(filepath.Join(root, "site.toml")); string(b) != wan || err != nil {
			t.Errorf("%q %v", b, err)
		}
		got := types(t, k.serve(t), lang, control.Viewer, "configure load usb:new\rcopy config usb:\rexit\r")
		if strings.Contains(got, say.Text(lang, "usb-none")) {
			t.Errorf("a viewer comes as far as to the stick\n%s", got)
		}
	}
}

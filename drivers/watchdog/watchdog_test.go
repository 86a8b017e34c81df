package watchdog

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestFind(t *testing.T) {
	sys := t.TempDir()
	if _, err := Find(sys, "/dev"); !errors.Is(err, ErrNone) {
		t.Errorf("none: %v", err)
	}
	for name, identity := range map[string]string{"watchdog0": "Software Watchdog\n", "watchdog10": "x\n", "watchdog2": "i6300ESB timer\n"} {
		if err := os.Mkdir(filepath.Join(sys, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sys, name, "identity"), []byte(identity), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Find(sys, "/dev"); err != nil || got != "/dev/watchdog2" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestOpenWhatIsNone(t *testing.T) {
	p := filepath.Join(t.TempDir(), "watchdog0")
	if err := os.WriteFile(p, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := Open(p, 30*time.Second); err == nil {
		t.Errorf("opened %+v", d)
	}
}

// TestHostSoftdog arms the guest's own timer and stops it again.
func TestHostSoftdog(t *testing.T) {
	if os.Getenv("KOMAINU_VM") == "" {
		t.Skip("needs the guest of tools/vmtest: it arms a watchdog")
	}
	if out, err := exec.Command("modprobe", "softdog", "soft_noboot=1").CombinedOutput(); err != nil {
		t.Skipf("no softdog: %v %s", err, out)
	}
	path, err := Find(Sys, Dev)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(path, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if i := d.Info(); i.Timeout != 30*time.Second || i.Identity != softIdentity || i.CardReset {
		t.Errorf("got %+v", i)
	}
	if err := errors.Join(d.Feed(), d.Stop()); err != nil {
		t.Error(err)
	}
}

package revisions

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"komainu/appliance/control"
	"komainu/drivers/files"
	"komainu/ntp/instant"
)

var errPower = errors.New("power is gone")

// keeper has a disk that fails for good after so many steps; -1: never.
func keeper(t *testing.T, dir, boot string, now *instant.Instant, steps int) *Keeper {
	t.Helper()
	step := func(do func() error) error {
		if steps == 0 {
			return errPower
		}
		steps--
		return do()
	}
	return New(Options{
		Config: filepath.Join(dir, "komainu.toml"), State: filepath.Join(dir, "config"), BootID: boot,
		Check: func([]byte, string) error { return nil },
		Apply: func(context.Context, []byte, []byte) ([]string, []string, error) { return nil, nil, nil },
		Now:   func() instant.Instant { return *now },
		Wall:  func() time.Time { return time.Unix(0, 0) },
		Disk: Disk{
			Replace: func(p string, d []byte, m os.FileMode) error {
				return step(func() error { return files.Replace(p, d, m) })
			},
			Remove: func(p string) error { return step(func() error { return remove(p) }) },
		},
	})
}

// TestKilledAtAnyStep: the file in use is the old or the new one, and the old
// one after a restart of the box that nobody confirmed before.
func TestKilledAtAnyStep(t *testing.T) {
	for steps := range 8 {
		dir, now := t.TempDir(), instant.Instant(0)
		k := keeper(t, dir, "a", &now, -1)
		if err := k.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := k.commit(t.Context(), control.CommitOrder{Text: "old"}); err != nil {
			t.Fatal(err)
		}
		k = keeper(t, dir, "a", &now, steps)
		if err := k.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := k.commit(t.Context(), control.CommitOrder{Text: "new", ConfirmS: 60})
		if got := read(t, k); got != "old" && got != "new" {
			t.Fatalf("%d steps: the file is %q", steps, got)
		}
		if err == nil && steps < 4 {
			t.Fatalf("%d steps sufficed", steps)
		}
		k = keeper(t, dir, "b", &now, -1)
		if err := k.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := read(t, k); got != "old" {
			t.Fatalf("%d steps: after the restart the file is %q", steps, got)
		}
	}
}

func read(t *testing.T, k *Keeper) string {
	t.Helper()
	text, err := os.ReadFile(k.o.Config)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

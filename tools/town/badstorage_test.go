package town

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"komainu/appliance/control"
	"komainu/tools/lab"
)

func TestHostBadStorage(t *testing.T) {
	onOneTown(t, "badstorage", []part{
		{"standby's disk full", diskFull},
		{"slot beyond its limit", slotLost},
	})
}

// write makes the DC's database write about mb megabytes of log.
func write(t *testing.T, ctx context.Context, w *World, mb int) {
	t.Helper()
	c, err := pgx.Connect(ctx, w.ServerDSN(w.DB))
	must(t, err)
	defer c.Close(ctx)
	for _, q := range []string{
		"create table if not exists bulk (body text)", "truncate bulk",
		// Stored as it is, uncompressed: a kilobyte a row.
		"alter table bulk alter body set storage external",
		fmt.Sprintf("insert into bulk select repeat(md5(i::text), 32) from generate_series(1, %d) i", mb*1000),
		"checkpoint",
	} {
		_, err := c.Exec(ctx, q)
		must(t, err)
	}
}

// slotLost: with both lines cut the DC writes more than it may keep for the
// town hall. It gives the slot up, says so, and the standby is copied anew.
func slotLost(t *testing.T, ctx context.Context, w *World) {
	must(t, w.DB.PowerOff(ctx))
	b, err := os.ReadFile(config(w.DB))
	must(t, err)
	b = bytes.Replace(b, []byte("[[database]]\n"), []byte("[[database]]\nmax-slot-wal = \"64MB\"\n"), 1)
	must(t, os.WriteFile(config(w.DB), b, 0o600))
	must(t, w.DB.PowerOn(ctx))
	eventually(t, ctx, func() error { // the town hall may not have noticed yet
		st, err := w.Status(ctx, w.DB)
		if err == nil && !st.Databases[0].Ready {
			err = fmt.Errorf("the DC is %v", st.Databases[0].ReadyReasons)
		}
		return err
	})
	atDC(t, ctx, w)
	copies := count(w, "hall", "server-copy")

	cutAll(w, (*lab.Line).Cut)
	hall(t, ctx, w, inMode("local-read"))
	write(t, ctx, w, 128)
	eventually(t, ctx, func() error {
		st, err := w.Status(ctx, w.DB)
		if err == nil && !slices.ContainsFunc(st.Alarms, func(a control.Alarm) bool { return a.ID == "slot-lost" }) {
			err = fmt.Errorf("no alarm slot-lost: %v", st.Alarms)
		}
		return err
	})
	works(t, ctx, w, Local) // the old copy goes on serving reads
	cutAll(w, (*lab.Line).Heal)
	eventually(t, ctx, func() error {
		if count(w, "hall", "server-copy") == copies {
			st, err := w.Status(ctx, w.Hall)
			return errors.Join(fmt.Errorf("the standby isn't copied anew: %+v, mode %v", st.Databases, st.Groups), err)
		}
		return nil
	})
	atDC(t, ctx, w)
	inStep(t, ctx, w)
	eventually(t, ctx, func() error {
		st, err := w.Status(ctx, w.DB)
		if err == nil && len(st.Alarms) > 0 {
			err = fmt.Errorf("alarms still stand: %v", st.Alarms)
		}
		return err
	})
}

func count(w *World, host, code string) int {
	n := 0
	for _, e := range w.Events.All() {
		if e.Host == host && e.Code == code {
			n++
		}
	}
	return n
}

// inStep waits until the standby has all that the DC has now.
func inStep(t *testing.T, ctx context.Context, w *World) {
	t.Helper()
	hall(t, ctx, w, func(st control.Status) error {
		if d := st.Databases[0]; d.LagBytes > 0 || d.Flush != d.Remote.Flush {
			return fmt.Errorf("standby at %s, %d B behind %s", d.Flush, d.LagBytes, d.Remote.Flush)
		}
		return nil
	})
}

// diskFull: the standby's data lie on a small disk of their own, which fills
// up. The state names it, and the standby catches up when there is room again.
func diskFull(t *testing.T, ctx context.Context, w *World) {
	base := filepath.Join(w.Hall.StateDir(), "databases", Group)
	must(t, w.Hall.PowerOff(ctx))
	aside := base + ".aside"
	must(t, os.Rename(base, aside))
	must(t, os.MkdirAll(base, 0o755))
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, "size=600m,mode=755"); err != nil {
		must(t, errors.Join(os.Remove(base), os.Rename(aside, base), w.Hall.PowerOn(ctx)))
		t.Skipf("a disk of its own for the standby needs mount(2): %v", err)
	}
	// Whatever happens, nothing stays mounted below the lab's folder.
	defer func() {
		err := errors.Join(w.Hall.PowerOff(context.WithoutCancel(ctx)), unix.Unmount(base, unix.MNT_DETACH))
		must(t, errors.Join(err, os.Remove(base), os.Rename(aside, base), w.Hall.PowerOn(context.WithoutCancel(ctx))))
	}()
	must(t, copyTree(ctx, aside+"/.", base))
	must(t, w.Hall.PowerOn(ctx))
	atDC(t, ctx, w)

	filler := filepath.Join(base, "filler")
	f, err := os.Create(filler)
	must(t, err)
	defer f.Close()
	var st unix.Statfs_t
	must(t, unix.Statfs(base, &st))
	must(t, unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-(8<<20)))
	write(t, ctx, w, 64)
	hall(t, ctx, w, func(st control.Status) error {
		if d := st.Databases[0]; d.Reason != "postgres-disk-full" || d.LagBytes == 0 {
			return fmt.Errorf("no word of the full disk: %+v", d)
		}
		return inMode("dc")(st)
	})
	t.Log(w.console(t, ctx, false, "show", "database", "--lang", "en", "--run", w.Hall.RunDir()))
	works(t, ctx, w, AtDC)
	must(t, os.Remove(filler))
	must(t, f.Close())
	atDC(t, ctx, w)
	inStep(t, ctx, w)
}

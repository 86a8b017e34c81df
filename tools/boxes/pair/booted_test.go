package pair

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"komainu/tools/boxes"
	"komainu/tools/lab"
	"komainu/tools/ledger"
	"komainu/tools/town"
)

// outage is the main job at the pace of emulated machines: the standby is copied
// over the line, both lines are cut, reads go on, writes are ordered, and all
// comes back. Every time is a deadline, not a figure.
const outage = `
within 600s ready resident
start clerks
after 10s cut both
within 120s mode resident local-read
within 120s reads local
order write resident "both lines are cut"
within 120s writes local
after 5s heal both
within 240s fenced dc
order dc resident
within 600s returned resident
within 120s writes dc
stop clerks
expect no-lost-rows
`

// memoryGoal is what a town-hall box may use with an idle standby, MiB.
const memoryGoal = 350

// TestBootedPair plays an outage and a return on a town whose two boxes are
// machines of the built image, driven over their serial lines.
func TestBootedPair(t *testing.T) {
	image, key := built(t)
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	p := &Pair{Image: image, Key: key}
	w, err := town.Build(ctx, town.Options{
		Name: "pair", Seed: 1, Boxes: p, Keep: os.Getenv("KEEP") != "",
		Settings: town.Settings{Interval: time.Second, Probe: 5 * time.Second, Pause: 200 * time.Millisecond, HoldDown: 5 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Errorf("tear the town down: %v", err)
		}
	}()
	hall, edge := p.Of(w.Hall), p.Of(w.Edge)
	t.Logf("power on to login: hall %.1f s, edge %.1f s", hall.Booted.Seconds(), edge.Booted.Seconds())
	sc, err := town.ScenarioText(w, "outage", outage)
	if err != nil {
		t.Fatal(err)
	}
	began, at := time.Now(), map[string]time.Time{}
	for _, s := range sc.Steps {
		one := *sc
		one.Steps = []lab.Step{s}
		if s.Verb == "start" {
			look, done := context.WithTimeout(ctx, 3*time.Minute)
			used, err := hall.MemoryUsed(look)
			done()
			if err != nil {
				t.Error(err)
			}
			t.Logf("hall box with an idle standby: %d MiB used (goal %d)", used, memoryGoal)
			if used > memoryGoal {
				t.Error("that is more than the goal")
			}
		}
		step := time.Now().Add(s.After)
		if err := one.Play(ctx, nil); err != nil {
			t.Error(err)
			explain(ctx, t, w, p)
			return
		}
		t.Logf("%6.1f s  %s (%.1f s)", time.Since(began).Seconds(), s.Text, time.Since(step).Seconds())
		at[strings.Join(append([]string{s.Verb}, s.Args...), " ")] = step
	}
	figure(t, w, "cut to first local read", at["cut both"], func(op ledger.Op) bool { return ledger.GoodRead(op) && town.Local(op) })
	figure(t, w, "write order to first local write", at["order write resident both lines are cut"], func(op ledger.Op) bool { return ledger.GoodWrite(op) && town.Local(op) })
	if tally, err := w.Tally(ctx); err != nil {
		t.Error(err)
	} else {
		t.Logf("account: %+v", tally)
	}
}

// figure tells how long something took, as the clerks saw it.
func figure(t *testing.T, w *town.World, what string, from time.Time, keep func(ledger.Op) bool) {
	op, ok := ledger.First(w.Recorder.Ops(), from, keep)
	if !ok {
		t.Errorf("%s: no clerk saw it", what)
		return
	}
	t.Logf("%s: %.1f s in emulation, heartbeats every second", what, op.End.Sub(from).Seconds())
}

// explain shows what somebody with the boxes' consoles would look at.
func explain(ctx context.Context, t *testing.T, w *town.World, p *Pair) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	for _, h := range []*lab.Host{w.Hall, w.Edge} {
		m := p.Of(h)
		for _, command := range []string{"show status", "show box"} {
			said, err := m.Do(ctx, command)
			t.Logf("%s> %s\n%s%v", m.Site, command, said, err)
		}
		for _, command := range []string{
			"dmesg | tail -n 40", "tail -n 30 /data/state/log/agent.log", "tail -n 40 /data/state/journal.ndjson",
			"ls -l /data/state /data/state/log /data/state/databases/resident", "ip addr", "ip route",
		} {
			said, err := m.Shell(ctx, command)
			t.Logf("%s# %s\n%s%v", m.Site, command, said, err)
		}
	}
}

// built is the image with its key; the test is skipped where it can't be run.
func built(t *testing.T) (image, key string) {
	t.Helper()
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("boots two machines, which needs root and minutes")
	}
	for _, name := range []string{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"} {
		if _, err := os.Stat(name); err != nil {
			t.Skip("install ovmf and systemd-boot-efi:", err)
		}
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("install qemu-system-x86:", err)
	}
	root, err := boxes.Repository()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "out/komainu")); err != nil {
		t.Skip("the database host's program isn't built: run make build:", err)
	}
	return boxes.Image(t), filepath.Join(root, "out/keys/development.key")
}

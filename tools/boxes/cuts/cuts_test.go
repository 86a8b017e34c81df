package cuts_test

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"testing"
	"time"

	"komainu/tools/boxes/cuts"
)

var (
	number = flag.Int("cuts", len(cuts.Kinds()), "how many `cuts` TestBootedCuts makes")
	seed   = flag.Uint64("seed", 1, "the first cut's `seed`")
	record = flag.String("record", "", "`FILE` that gets a line for each cut")
)

// TestBootedCuts cuts the power of one box again and again, in updates, writes
// and starts by turns.
func TestBootedCuts(t *testing.T) {
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("boots machines, which needs root and minutes")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("install qemu-system-x86:", err)
	}
	if _, err := os.Stat("/usr/share/OVMF/OVMF_CODE_4M.fd"); err != nil {
		t.Skip("install ovmf:", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute+time.Duration(*number)*5*time.Minute)
	defer cancel()
	err := cuts.Soak(ctx, *seed, *number, *record, func(r cuts.Result) { t.Logf("%+v", r) })
	if err != nil {
		t.Fatal(err)
	}
}

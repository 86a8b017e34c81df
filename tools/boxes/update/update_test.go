package update_test

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"komainu/tools/boxes"
	"komainu/tools/boxes/update"
)

// limit of a run on a busy machine.
const limit = 22 * time.Minute

func machines(t *testing.T) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("boots machines for minutes: not with -short")
	}
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("needs qemu-system-x86")
	}
	if _, err := os.Stat("/usr/share/OVMF/OVMF_CODE_4M.fd"); err != nil {
		t.Skip("needs the package ovmf")
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// TestBootedUpdate: a good version from a stick is tried and kept.
func TestBootedUpdate(t *testing.T) {
	r, err := update.Good(machines(t))
	t.Logf("%+v", r)
	if err != nil {
		t.Fatal(err)
	}
	if r.Starts != 1 {
		t.Errorf("%d starts", r.Starts)
	}
}

// TestBootedWayBack: from a version whose kernel panics, and from one whose agent
// never lives. tools/bench and the soak test take every fault.
func TestBootedWayBack(t *testing.T) {
	for _, fault := range []boxes.Fault{boxes.NoRoot, boxes.Agent} {
		t.Run(string(fault), func(t *testing.T) {
			r, err := update.Broken(machines(t), fault)
			t.Logf("%+v", r)
			if err != nil || !r.Back {
				t.Fatal(err)
			}
		})
	}
}

// TestBootedBadLuck: bad bundles, a full partition, a stick that is pulled out.
func TestBootedBadLuck(t *testing.T) {
	if err := update.BadLuck(machines(t)); err != nil {
		t.Fatal(err)
	}
}

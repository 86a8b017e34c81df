package vmclock

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"komainu/drivers/clock"
)

// With --no-clock (what the daemon says without CAP_SYS_TIME is proved by
// appliance's TestHostTimedNotAllowed) the kernel's clock stays as somebody else has it: wrong, with
// a frequency and a slew of its own.
func TestHostNoClock(t *testing.T) {
	town := newTown(t)
	must(t, clock.SetFrequency(33))
	must(t, clock.SetTAI(37))
	must(t, clock.SetSync(true, time.Millisecond))
	u := truth{began: clock.Read(), ahead: 300 * time.Millisecond}
	seen := watch(t, u)
	before, err := clock.ReadState()
	must(t, err)
	from := now()
	d := start(t, town, t.TempDir(), follow(serve(t, town, u, 0)), "--no-clock")
	st := d.in(t, "synchronised", 40*time.Second)
	after(t, 3*time.Second)
	k, err := clock.ReadState()
	must(t, err)
	before.Bound, k.Bound = 0, 0 // it grows by itself
	if diff := cmp.Diff(before, k); diff != "" || len(seen.jumps(from, now())) != 0 {
		t.Errorf("the kernel's clock was changed: %s", diff)
	}
	if !st.NoClock || st.OffsetS < 0.29 || st.OffsetS > 0.31 {
		t.Errorf("%+v", st)
	}
}

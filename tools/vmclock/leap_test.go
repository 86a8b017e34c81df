package vmclock

import (
	"crypto/sha1" //nolint:gosec // the list's own checksum is SHA-1
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/clock"
	"komainu/ntp/packet"
	"komainu/ntp/wall"
)

// midnight is the end of 2026-12-31, which the built-in list doesn't reach.
var midnight = wall.Time(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())

// night sets the clock to before midnight, with the truth at the same time.
func night(t *testing.T, before time.Duration) truth {
	t.Helper()
	ts := unix.NsecToTimespec(int64(midnight.Add(-before)))
	must(t, unix.ClockSettime(unix.CLOCK_REALTIME, &ts))
	return truth{began: clock.Read(), leap: midnight}
}

// list is a leap-seconds.list with a second before midnight.
func list(t *testing.T) string {
	t.Helper()
	const epoch = 2208988800
	last := int64(midnight)/1e9 + epoch
	updated, expires := int64(3960835200), last+180*86400
	rows := []int64{3692217600, 37, last, 38}
	text, sum := fmt.Sprintf("#$ %d\n#@ %d\n", updated, expires), fmt.Sprint(updated, expires)
	for i := 0; i < len(rows); i += 2 {
		text += fmt.Sprintf("%d %d\n", rows[i], rows[i+1])
		sum += fmt.Sprint(rows[i], rows[i+1])
	}
	h := sha1.Sum([]byte(strings.ReplaceAll(sum, " ", ""))) //nolint:gosec // see above
	text += "#h"
	for i := 0; i < len(h); i += 4 {
		text += fmt.Sprintf(" %x", h[i:i+4])
	}
	path := filepath.Join(t.TempDir(), "leap-seconds.list")
	must(t, os.WriteFile(path, []byte(text+"\n"), 0o600))
	return path
}

// The servers announce the second: the kernel inserts it, clients are told
// before, during and after, and nobody takes it for a foreign hand.
func TestHostLeapAnnounced(t *testing.T) {
	town := newTown(t)
	u := night(t, 20*time.Second)
	seen, asked := watch(t, u), ask(t, town, u)
	d := start(t, town, t.TempDir(), follow(serve(t, town, u, 0), serve(t, town, u, 0)))
	armed(t, d, u)
	after(t, time.Duration(u.moment(midnight)-now())+8*time.Second)
	leapt(t, d, u, seen, asked, "synchronised")
}

// The servers fall silent before the second comes: the list still has it.
// Somebody sets the clock far past midnight while it is awaited, which the
// kernel forgets it by.
func TestHostLeapInHoldover(t *testing.T) {
	town := newTown(t)
	u := night(t, 60*time.Second) // silence is one after up to half a minute
	seen, asked := watch(t, u), ask(t, town, u)
	up := serve(t, town, u, 0)
	d := start(t, town, t.TempDir(), follow(up)+fmt.Sprintf("leap-file = %q\n", list(t)))
	armed(t, d, u)
	up.close()
	d.in(t, "holdover", time.Duration(u.moment(midnight)-now())-5*time.Second)
	at := handSet(t, 5*time.Minute)
	until(t, "the foreign step is undone", 2*time.Second, func() bool { return u.error(clock.Read()).Abs() < right })
	_, _, last := asked.lies(at, now(), slack)
	t.Logf("in holdover, set by 5 min %v before midnight: undone after %v, told to clients for %v",
		time.Duration(u.moment(midnight)-at), now().Sub(at), last)
	if last > atOnce {
		t.Errorf("clients were told a wrong time for %v", last)
	}
	armed(t, d, u)
	after(t, time.Duration(u.moment(midnight)-now())+4*time.Second)
	leapt(t, d, u, seen, asked, "holdover")
}

// armed waits until the kernel knows of the second and clients are told.
func armed(t *testing.T, d *daemon, u truth) {
	t.Helper()
	until(t, "the leap second is announced to the kernel", time.Duration(u.moment(midnight)-now())-2*time.Second, func() bool {
		k, err := clock.ReadState()
		must(t, err)
		return k.Leap == 1 && k.Phase == clock.PhaseInsert && d.status().Leap == packet.LeapInsert
	})
	t.Logf("announced %v before midnight", time.Duration(u.moment(midnight)-now()))
}

// leapt judges the second once it is over.
func leapt(t *testing.T, d *daemon, u truth, seen *record, asked *client, state string) {
	t.Helper()
	// The kernel moves the clock at the first tick of the new second.
	const tick = 100 * time.Millisecond
	leap, over, end := u.moment(midnight), u.moment(midnight.Add(time.Second)), now()
	jumps := seen.jumps(leap-wall.Raw(4*time.Second), end)
	before, _ := seen.worst(leap-wall.Raw(4*time.Second), leap-wall.Raw(recordEvery))
	during, _ := seen.worst(leap+wall.Raw(tick), over)
	later, _ := seen.worst(over, end)
	late := seen.wrong(leap-wall.Raw(tick), leap+wall.Raw(tick), 100*time.Millisecond)
	n, of, last := asked.lies(leap-wall.Raw(4*time.Second), end, slack)
	t.Logf("largest error before midnight %v, in 23:59:60 %v, later %v; the clock a second wrong for %v, clients told so %d of %d times, until %v",
		before, during, later, late, n, of, last-4*time.Second)
	if len(jumps) != 1 || (jumps[0].by+time.Second).Abs() > right {
		t.Errorf("steps: %+v, want one of -1 s", jumps)
	}
	if max(before, during, later) > right || last-4*time.Second > tick {
		t.Errorf("the clock was wrong by %v before, %v in and %v after the leap second", before, during, later)
	}
	bits := map[string][4]int{}
	for name, s := range map[string][2]wall.Raw{
		"before": {leap - wall.Raw(3*time.Second), leap}, "during": {leap + wall.Raw(tick), over - wall.Raw(tick)}, "after": {over + wall.Raw(500*time.Millisecond), end},
	} {
		var count [4]int
		for _, a := range asked.between(s[0], s[1]) {
			count[a.header.Leap]++
		}
		bits[name] = count
	}
	t.Logf("leap bits told (none, insert, delete, not synchronised): %v", bits)
	if b := bits["before"]; b[1] == 0 || b[0]+b[2]+b[3] > 0 {
		t.Errorf("before midnight clients were told %v", b)
	}
	if b := bits["after"]; b[0] == 0 || b[1]+b[2]+b[3] > 0 {
		t.Errorf("after the leap second clients were told %v", b)
	}
	st := d.status()
	k, err := clock.ReadState()
	must(t, err)
	if st.State != state || st.LeapTable.Pending != 0 || alarmed(st, "time-clock-set") != (state == "holdover") {
		t.Errorf("afterwards: %s, pending %d, alarms %+v", st.State, st.LeapTable.Pending, st.Alarms)
	}
	if !k.Synced || k.Leap != 0 || k.Phase != clock.PhaseOK {
		t.Errorf("afterwards the kernel says %+v", k)
	}
	if k.TAI != 38 && state == "holdover" { // otherwise nobody knows it: the built-in list ended before
		t.Errorf("afterwards the kernel says that TAI − UTC is %d", k.TAI)
	}
}

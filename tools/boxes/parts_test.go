package boxes_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"komainu/tools/boxes"
	"komainu/tools/lab"
)

// TestHostMachineParts boots a machine whose parts are the other ones: NVMe,
// SATA, sticks, two serial lines, a clock that has lost its time, a watchdog.
func TestHostMachineParts(t *testing.T) {
	l := machines(t)
	const mib = 1 << 20
	box, err := boxes.New(host(t, l, "box", lab.Wiring{}), boxes.Options{
		Memory: 512, Watchdog: true, SecondSerial: true, Clock: time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC),
		NICs: []boxes.NIC{{}, {Model: "e1000e"}},
		Disks: []boxes.Disk{
			{Name: "system", From: trivialDisk(t, l), Bus: boxes.NVMe},
			{Name: "data", Size: 64 * mib, Bus: boxes.AHCI},
			{Name: "other", Size: 64 * mib, Serial: "S0"},
			{Name: "stick", Size: 64 * mib, Bus: boxes.USB, Plain: true},
			{Name: "late", Size: 64 * mib, Bus: boxes.USB, Out: true},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err = box.Boot(ctx, ready)
	ok(err)
	date, err := box.Console.Do(ctx, "date")
	ok(err)
	if !strings.HasPrefix(date, "2001-02-03 04:05:") {
		t.Errorf("the clock says %s", date)
	}
	ok(box.Plug(ctx, "late"))
	ok(box.Unplug(ctx, "stick"))
	ok(box.Unplug(ctx, "late"))
	ok(box.Plug(ctx, "stick"))
	var disks []struct {
		Inserted struct {
			Node string `json:"node-name"`
		} `json:"inserted"`
	}
	ok(box.QMP(ctx, "query-block", nil, &disks))
	var names []string
	for _, d := range disks {
		switch d.Inserted.Node {
		case "system", "data", "other", "stick", "late":
			names = append(names, d.Inserted.Node)
		}
	}
	if got := strings.Join(names, " "); got != "system data other stick" {
		t.Errorf("the machine has the disks %s", got)
	}
	ok(box.NMI(ctx))
	ok(box.Console.Send("watch 2"))
	_, err = box.Event(ctx, "WATCHDOG")
	ok(err)
	_, err = box.Event(ctx, "RESET")
	ok(err)
	_, err = box.Console.Expect(ctx, ready)
	ok(err)
}

package town

import (
	"os"
	"testing"
	"time"
)

// trunk is the town hall with one bond for everything: a member of it dies, all
// of it dies, a VLAN is deleted by hand, then the stock outage and return.
const trunk = `
within 240s ready resident
within 30s settled
start clerks
after 3s unplug hall port0
after 3s within 30s reads dc
plug hall port0
after 5s unplug hall port1
after 3s within 30s writes dc
plug hall port1
after 5s delete link bond0.110 on hall
within 20s drift bond0.110
within 20s settled
within 30s writes dc
expect no-mode-change
unplug hall port0
unplug hall port1
within 20s verdict verdict.own-lan
after 8s expect no-mode-change
plug hall port0
plug hall port1
within 60s reads dc
within 30s writes dc
expect no-mode-change
after 5s cut both
within 60s mode resident local-read
within 30s reads local
order write resident "both lines are cut"
within 30s writes local
heal both
within 60s fenced dc
order dc resident
within 240s returned resident
within 60s writes dc
stop clerks
expect no-lost-rows
`

// TestHostTrunkTown plays the town on VLANs over an 802.3ad bond, which the
// hall's agent makes, against a switch that is one.
func TestHostTrunkTown(t *testing.T) {
	if os.Getenv("KOMAINU_VM") != "1" {
		t.Skip("bonds and VLANs need the stock kernel: make vm")
	}
	playOn(t, trunk, Options{Name: "trunk", Trunk: true,
		Settings: Settings{Interval: time.Second, Probe: 5 * time.Second, Pause: 200 * time.Millisecond, HoldDown: 5 * time.Second}})
}

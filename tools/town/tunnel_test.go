package town

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"komainu/tools/lab"
	"komainu/tools/linelab"
)

// closedLine is the town over tunnels: one line is cut and the other carries,
// charon dies at one end and hangs at the other, and nobody notices; then the
// stock outage and return.
const closedLine = `
within 720s ready resident
within 180s settled
start clerks
after 3s cut main
within 90s carries alt
within 90s writes dc
heal main
within 180s carries main
within 90s writes dc
after 2s restart charon on hall
after 5s within 90s writes dc
stop charon on edge
after 5s within 90s writes dc
expect no-mode-change
after 5s cut both
within 180s mode resident local-read
within 90s reads local
order write resident "both lines are cut"
within 90s writes local
heal both
within 180s fenced dc
order dc resident
within 720s returned resident
within 180s writes dc
stop clerks
expect no-lost-rows
`

// slow is how much longer the emulated machine may take for everything than a
// scenario's bounds say.
const slow = 20

var within = regexp.MustCompile(`\bwithin (\d+)s`)

// TestHostTunnelTown plays the town through real tunnels, and listens at both
// lines: nothing may pass in clear, in any state (AT-173).
func TestHostTunnelTown(t *testing.T) {
	playClosed(t, "tunnel", closedLine, time.Second)
}

// TestHostTunnelScenarios plays every shipped scenario likewise.
func TestHostTunnelScenarios(t *testing.T) {
	for _, name := range names(t) {
		t.Run(name, func(t *testing.T) {
			src, err := fs.ReadFile(lab.Scenarios, "scenarios/"+name+".txt")
			if err != nil {
				t.Fatal(err)
			}
			playClosed(t, name, within.ReplaceAllStringFunc(string(src), func(s string) string {
				n, err := strconv.Atoi(within.FindStringSubmatch(s)[1])
				if err != nil {
					t.Fatal(err)
				}
				return fmt.Sprintf("within %ds", slow*n)
			}), 400*time.Millisecond)
		})
	}
}

func playClosed(t *testing.T, name, src string, heartbeat time.Duration) {
	if os.Getenv("KOMAINU_VM") != "1" {
		t.Skip("XFRM interfaces and the kernel's ESP need the stock kernel: make vm")
	}
	var ear *linelab.Ear
	playOn(t, src, Options{Name: name,
		Built: func(_ context.Context, w *lab.Town) error {
			ear = linelab.Listen(w.Main, w.Alt)
			return nil
		},
		Settings: Settings{Tunnel: true, Interval: heartbeat, Probe: 5 * time.Second, Pause: 200 * time.Millisecond, Patience: 15 * time.Second, HoldDown: 5 * time.Second}})
	secret, ike, _ := ear.Counts()
	if clear := ear.Clear(); len(clear) > 0 || secret == 0 || ike == 0 {
		t.Errorf("%d packets of ESP and %d of IKE passed, and in clear: %v", secret, ike, fmt.Sprint(clear))
	}
}

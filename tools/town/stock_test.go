package town

import (
	"os"
	"testing"
	"time"
)

// stock is the main job at the pace of an emulated machine, where everything
// takes ten times as long.
const stock = `
within 240s ready resident
start clerks
after 5s cut both
within 30s mode resident local-read
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

// TestHostStockKernel plays an outage and a return on Debian's own kernel; the
// host's kernel is covered by TestHostScenarios.
func TestHostStockKernel(t *testing.T) {
	if os.Getenv("KOMAINU_VM") != "1" {
		t.Skip("is for the stock kernel: make vm")
	}
	playText(t, "stock", stock, Settings{Interval: time.Second, Probe: 5 * time.Second, Pause: 200 * time.Millisecond, HoldDown: 5 * time.Second})
}

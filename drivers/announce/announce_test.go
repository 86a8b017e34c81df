package announce_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"komainu/drivers/announce"
	"komainu/drivers/netns/netnstest"
)

// The client has the stable addresses under a wrong MAC address; the
// announcement corrects both.
func TestNeighboursLearnTheNewPlace(t *testing.T) {
	town := netnstest.New(t)
	const wrong = "02:00:00:00:00:99"
	for _, a := range netnstest.Stable {
		netnstest.IP(t, town.Client, "neigh replace "+a.String()+" lladdr "+wrong+" dev lan nud stale")
	}
	netnstest.Do(t, town.Box, func() error {
		return announce.Announce("lan", []netip.Addr{netnstest.Stable[0], netnstest.Stable[1]})
	})
	for _, a := range netnstest.Stable {
		for end := time.Now().Add(2 * time.Second); ; {
			if !strings.Contains(netnstest.Run(t, town.Client, "ip", "neigh", "show", a.String()), wrong) {
				break
			}
			if time.Now().After(end) {
				t.Errorf("%s still has the wrong neighbour", a)
				break
			}
		}
	}
	netnstest.Do(t, town.Box, func() error {
		if err := announce.Announce("lo", nil); err == nil {
			t.Error("announced on the loopback, want an error")
		}
		return nil
	})
}

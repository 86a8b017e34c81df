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
		return announce.Announce(map[string][]netip.Addr{"lan": netnstest.Stable[:], "lo": netnstest.Stable[:], "none": netnstest.Stable[:]})
	})
	for _, a := range netnstest.Stable {
		for end := time.Now().Add(netnstest.Patience); ; {
			if !strings.Contains(netnstest.Run(t, town.Client, "ip", "neigh", "show", a.String()), wrong) {
				break
			}
			if time.Now().After(end) {
				t.Errorf("%s still has the wrong neighbour", a)
				break
			}
		}
	}
}

package firewall

import (
	"fmt"
	"strings"
	"testing"
)

// Networks of another zone are kept out of z but for smaller ones that are
// expected here, as a route to them would be.
func TestTheSmallerNetworkWins(t *testing.T) {
	for _, c := range []struct{ networks, holes, want string }{
		{"10.0.0.0/8", "", "[10.0.0.0/8]"},
		{"10.0.0.0/8", "10.0.0.0/8 0.0.0.0/0 192.0.2.0/24", "[10.0.0.0/8]"},
		{"10.0.0.0/8", "10.128.0.0/9", "[10.0.0.0/9]"},
		{"10.0.0.0/30", "10.0.0.1/32", "[10.0.0.0/32 10.0.0.2/31]"},
		{"10.0.0.0/30 10.0.0.0/31", "10.0.0.1/32", "[10.0.0.0/32 10.0.0.2/31]"},
		{"10.0.0.0/24 192.0.2.0/24", "10.0.0.0/25 10.0.0.128/25", "[192.0.2.0/24]"},
		{"fd00::/16", "fd80::/9 10.0.0.0/8", "[fd00::/16]"},
		{"fd00::/16", "fd00:8000::/17", "[fd00::/17]"},
	} {
		if got := fmt.Sprint(merge(without(prefixes(strings.Fields(c.networks)...), prefixes(strings.Fields(c.holes)...)))); got != c.want {
			t.Errorf("%s without %s gave %s, want %s", c.networks, c.holes, got, c.want)
		}
	}
}

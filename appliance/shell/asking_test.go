package shell

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"komainu/netstack/spec"
	"komainu/ntp/instant"
)

func TestAsking(t *testing.T) {
	at := func(s float64) instant.Instant {
		return instant.Instant(1).Add(time.Duration(s * float64(time.Second)))
	}
	office := spec.Address{Link: "office", Prefix: netip.MustParsePrefix("192.168.50.1/24")}
	late := spec.Address{Link: "late", Prefix: netip.MustParsePrefix("10.5.0.1/24")}
	six := spec.Address{Link: "office", Prefix: netip.MustParsePrefix("2001:db8::1/64")}
	a := newAsking()
	// asked is when each link is asked between two moments, looked at each tenth of a second.
	asked := func(from, to float64, noCarrier ...string) map[string][]float64 {
		all := map[string][]float64{}
		for s := from; s < to; s += 0.1 {
			byLink, _ := a.due(at(s))
			for link, addrs := range byLink {
				if len(addrs) != 1 || addrs[0].Is6() {
					t.Errorf("%s: asks for %v", link, addrs)
				}
				if slices.Contains(noCarrier, link) {
					a.missed(at(s), link)
					continue
				}
				all[link] = append(all[link], float64(int(s+0.05)))
			}
		}
		return all
	}
	a.own(at(0), []spec.Address{office, six, late})
	got := asked(0, 50, "late")
	if want := []float64{1, 2, 4, 8, 16, 32}; !slices.Equal(got["office"], want) || len(got) != 1 {
		t.Errorf("asked at %v, want the office at %v", got, want)
	}
	a.own(at(50), []spec.Address{office, late}) // what is known goes on as planned
	a.carrier(at(60), "late")
	a.carrier(at(60), "office") // asked for to the end: no more
	got = asked(60, 70)
	if want := []float64{61, 62, 64, 68}; !slices.Equal(got["late"], want) || len(got) != 1 {
		t.Errorf("asked at %v, want late at %v", got, want)
	}
	if byLink, next := a.due(at(1000)); len(byLink) != 1 || next != 0 {
		t.Errorf("late: %v, next %v", byLink, next)
	}
	a.own(at(1000), nil)
	if byLink, next := a.due(at(2000)); len(byLink) != 0 || next != 0 {
		t.Errorf("of addresses that are gone: %v, next %v", byLink, next)
	}
}

package ntpio

import (
	"strings"
	"testing"
	"time"

	"komainu/drivers/netns/netnstest"
	"komainu/ntp/wall"
)

const second = wall.Time(time.Second)

// An interface's clock that is 5 s off and 40 ppm fast leads to the right time.
func TestInterfaceClock(t *testing.T) {
	own := func(at wall.Time) wall.Time { return at + 5*second + (at-1000*second)*40/1_000_000 }
	n := &nic{}
	for _, at := range []wall.Time{1000 * second, 1001 * second, 1002 * second} {
		n.scale.Store(n.scale.Load().next(own(at), at))
	}
	departed := 1002*second + second/2
	if got := n.best(0, own(departed), departed+1000).Sub(departed); got < -2 || got > 2 {
		t.Errorf("%d ns off", got)
	}
}

func TestImplausibleStampsOfAnInterface(t *testing.T) {
	n := &nic{}
	n.scale.Store(n.scale.Load().next(7*second, 1000*second))
	const kernel, seen = 1001 * second, 1001 * second
	for name, c := range map[string]struct{ stamp, want wall.Time }{
		"none":             {0, kernel},
		"just before":      {8*second - 1000, 1001*second - 1000},
		"later than seen":  {8*second + 1000, kernel},
		"long before":      {8*second - second/2, kernel},
		"of another clock": {99 * second, kernel},
	} {
		if got := n.best(kernel, c.stamp, seen); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	if got := (*nic)(nil).best(kernel, 8*second, seen); got != kernel {
		t.Errorf("without an interface: %d", got)
	}
}

// After one of the clocks was set, the rate isn't learned from the jump.
func TestInterfaceClockThatWasSet(t *testing.T) {
	var s *scale
	for _, at := range []wall.Time{1, 2, 3} {
		s = s.next(at*second, at*second)
	}
	if s = s.next(4*second, 1004*second); s.rate != 1 || s.toWall(5*second) != 1005*second {
		t.Errorf("%+v", *s)
	}
}

func TestHostInterfaceWithoutAClock(t *testing.T) {
	town := netnstest.New(t)
	e := at("192.0.2.1:123")
	s := endpoint(t, town.Box, &echo{}, e, at("0.0.0.0:124"))
	for i, want := range []string{"interface lan stamps no packets", "no interface has the address 0.0.0.0"} {
		if nic, why := s.Stamping(i); nic != "" || why == nil || !strings.Contains(why.Error(), want) {
			t.Errorf("%q, %v", nic, why)
		}
	}
}

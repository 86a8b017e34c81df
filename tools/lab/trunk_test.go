package lab_test

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"komainu/tools/lab"
)

// TestLineToLAN: a line whose near end is a switch carries Ethernet, keeps its
// parameters, and finds its far host again after that had no power.
func TestLineToLAN(t *testing.T) {
	l := open(t)
	wan, err := l.NewLAN("wan")
	if err != nil {
		t.Fatal(err)
	}
	addresses := func(s ...string) (out []netip.Prefix) {
		for _, a := range s {
			out = append(out, netip.MustParsePrefix(a))
		}
		return out
	}
	near, err := l.NewHost("near", lab.Wiring{Ports: []lab.Port{{Link: "wan", LAN: wan, Addresses: addresses(lab.MainHall4+"/29", lab.MainHall6+"/64")}}})
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.NewHost("far", lab.Wiring{})
	if err != nil {
		t.Fatal(err)
	}
	line, err := l.NewLine("main", lab.LineEnd{LAN: wan}, lab.LineEnd{Host: far, Addresses: addresses(lab.MainEdge4+"/29", lab.MainEdge6+"/64")})
	if err != nil {
		t.Fatal(err)
	}
	both := func() {
		t.Helper()
		echo(t, far)
		reach(t, near, lab.MainEdge4)
		reach(t, near, lab.MainEdge6)
	}
	both()
	line.Cut(lab.HallToDC)
	unreachable(t, near, lab.MainEdge4)
	line.Heal(lab.HallToDC)
	line.Set(lab.HallToDC, lab.Params{MTU: 1060, TooBig: true})
	p := dial(t, near, lab.MainEdge4)
	if _, err := p.ping(1060-28, time.Second); err != nil {
		t.Errorf("a packet of exactly the MTU: %v", err)
	}
	if _, err := p.ping(1061-28, 60*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a packet above the MTU gave %v, want silence", err)
	}
	line.Set(lab.HallToDC, lab.Params{})
	if err := errors.Join(far.PowerOff(t.Context()), far.PowerOn(t.Context())); err != nil {
		t.Fatal(err)
	}
	both()
}

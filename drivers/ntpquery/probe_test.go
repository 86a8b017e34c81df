package ntpquery

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"komainu/drivers/clock"
	"komainu/ntp/packet"
)

func TestProbe(t *testing.T) {
	const ahead = 3 * time.Second
	s := serve(t, "127.0.0.1:0", func(s *server, n int, req []byte, from netip.AddrPort) {
		h := answer(req)
		h.Receive = packet.Stamp(clock.Read().Wall.Add(ahead))
		h.Transmit = h.Receive
		switch n {
		case 2:
			h.Stratum, h.RefID = 0, packet.KissRate
		case 3:
			h.Origin++
		}
		s.send(from, put(h))
	})
	r, err := Probe(context.Background(), s.addr.String(), Options{Pause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if off := (r.Offset - ahead).Abs(); off > r.Delay/2+time.Millisecond || r.Delay < 0 {
		t.Errorf("offset %v, delay %v", r.Offset, r.Delay)
	}
	want := Report{
		Name: "127.0.0.1", Server: s.addr, Sent: 4, Answered: 3, Offset: r.Offset, Delay: r.Delay, Stratum: 2, Precision: -23,
		RootDelay: r.RootDelay, RootDispersion: r.RootDispersion, RootDistance: r.RootDispersion + (r.RootDelay+r.Delay)/2,
		Reference: "192.0.2.1", Kiss: "RATE", Discarded: 1,
	}
	if diff := cmp.Diff(want, r, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestProbeWithoutAnswer(t *testing.T) {
	s := serve(t, "127.0.0.1:0", func(*server, int, []byte, netip.AddrPort) {})
	r, err := Probe(context.Background(), s.addr.String(), Options{Timeout: 20 * time.Millisecond, Pause: time.Millisecond})
	if codeOf(t, err) != Timeout || r.Sent != 2 || r.Server != s.addr {
		t.Errorf("%+v, %v", r, err)
	}
	for _, host := range []string{"192.0.2.1:0", "192.0.2.1:x", "[fd00::1"} {
		if _, err := Probe(context.Background(), host, Options{}); codeOf(t, err) != Unreachable {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestProbeKissed(t *testing.T) {
	s := serve(t, "127.0.0.1:0", func(s *server, _ int, req []byte, from netip.AddrPort) {
		h := answer(req)
		h.Stratum, h.RefID = 0, packet.KissDeny
		s.send(from, put(h))
	})
	r, err := Probe(context.Background(), s.addr.String(), Options{Pause: time.Millisecond})
	if codeOf(t, err) != Kiss || r.Kiss != "DENY" || r.Answered != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestSplit(t *testing.T) {
	for host, want := range map[string]string{
		"ntp.example": "ntp.example 123", "ntp.example:1123": "ntp.example 1123", "192.0.2.1": "192.0.2.1 123",
		"fd00::1": "fd00::1 123", "[fd00::1]:1123": "fd00::1 1123", "[fd00::1]": "fd00::1 123",
	} {
		name, port, err := split(host)
		if got := netip.AddrPortFrom(netip.IPv4Unspecified(), port).String()[len("0.0.0.0:"):]; err != nil || name+" "+got != want {
			t.Errorf("%s: %s %d, %v", host, name, port, err)
		}
	}
}

func TestReference(t *testing.T) {
	for _, c := range []struct {
		stratum uint8
		id      uint32
		want    string
	}{{1, packet.RefIDCode("GPS"), "GPS"}, {2, 0xc0000201, "192.0.2.1"}, {1, 1, "0.0.0.1"}} {
		if got := reference(c.stratum, c.id); got != c.want {
			t.Errorf("%d %x: %s", c.stratum, c.id, got)
		}
	}
}

package icmp_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"komainu/drivers/icmp"
	"komainu/drivers/netns/netnstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, ns string, target icmp.Target) *icmp.Conn {
	t.Helper()
	var c *icmp.Conn
	netnstest.Do(t, ns, func() (err error) {
		c, err = icmp.Open(t.Context(), target)
		return err
	})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func quick(count int) icmp.Pings {
	return icmp.Pings{Count: count, Size: 84, Every: 5 * time.Millisecond, Wait: 2 * time.Second}
}

func TestHostPing(t *testing.T) {
	town := netnstest.New(t)
	for i, host := range netnstest.DCAddr {
		c := open(t, town.Client, icmp.Target{Host: host})
		var got []icmp.Reply
		s, err := c.Ping(t.Context(), quick(5), func(r icmp.Reply) error { got = append(got, r); return nil })
		if err != nil || s.Sent != 5 || s.Received != 5 || s.Duplicates != 0 || s.Least <= 0 || s.Mean < s.Least || s.Most < s.Mean {
			t.Fatalf("%s: %+v %v", host, s, err)
		}
		for n, r := range got {
			if r.Kind != icmp.EchoReply || r.Number != n+1 || r.From != host || r.TTL != 63 || r.Size != 84 {
				t.Errorf("%s: %+v", host, r)
			}
		}
		// From an address of its own, and by a link.
		c = open(t, town.Box, icmp.Target{Host: host, Source: netnstest.Stable[i], Interface: "wan"})
		if s, err := c.Ping(t.Context(), quick(1), func(icmp.Reply) error { return nil }); err != nil || s.Received != 1 {
			t.Errorf("%s from %s: %+v %v", host, netnstest.Stable[i], s, err)
		}
	}
	if _, err := icmp.Open(t.Context(), icmp.Target{Host: netnstest.DCAddr[0], Source: netnstest.BoxLAN[1]}); !errors.Is(err, icmp.ErrFamily) {
		t.Error(err)
	}
}

// box: it may speak from any address that its LAN side has.
func box(a netip.Addr) bool {
	return slices.Contains(netnstest.BoxLAN[:], a) || slices.Contains(netnstest.Stable[:], a)
}

func one(t *testing.T, c *icmp.Conn, size int) icmp.Reply {
	t.Helper()
	var got icmp.Reply
	p := quick(1)
	p.Size, p.Wait = size, 5*time.Second
	if _, err := c.Ping(t.Context(), p, func(r icmp.Reply) error { got = r; return nil }); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestHostRefusals(t *testing.T) {
	town := netnstest.New(t)
	netnstest.IP(t, town.Box, "link set wan mtu 1400\nroute add unreachable 203.0.113.0/24\nroute add prohibit fd00:9::/64\nroute add unreachable fd00:8::/64")
	netnstest.IP(t, town.DC, "link set wan mtu 1400")
	for host, want := range map[string]icmp.Kind{
		"198.51.100.77": icmp.NoHost,
		"203.0.113.1":   icmp.NoHost, // Linux says so for such a route
		"fd00:9::1":     icmp.Forbidden,
		"fd00:8::1":     icmp.NoRoute,
	} {
		r := one(t, open(t, town.Client, icmp.Target{Host: netip.MustParseAddr(host)}), 84)
		if r.Kind != want || !box(r.From) {
			t.Errorf("%s: %+v, want %s", host, r, want)
		}
	}
	for _, host := range netnstest.DCAddr {
		if r := one(t, open(t, town.Client, icmp.Target{Host: host}), 1500); r.Kind != icmp.TooBig || r.MTU != 1400 || !box(r.From) {
			t.Errorf("%s: %+v, want too big", host, r)
		}
		if r := one(t, open(t, town.Client, icmp.Target{Host: host}), 1501); r.Kind != icmp.LongHere {
			t.Errorf("%s: %+v, want long here", host, r)
		}
	}
}

func TestHostSilenceAndStop(t *testing.T) {
	town := netnstest.New(t)
	netnstest.Run(t, town.DC, "nft", "add table inet t; add chain inet t i { type filter hook input priority 0; }; add rule inet t i icmp type echo-request drop")
	c := open(t, town.Client, icmp.Target{Host: netnstest.DCAddr[0]})
	p := quick(3)
	p.Wait = 50 * time.Millisecond
	lost := 0
	s, err := c.Ping(t.Context(), p, func(r icmp.Reply) error {
		if r.Kind == icmp.Silent {
			lost++
		}
		return nil
	})
	if err != nil || s.Received != 0 || s.Lost() != 1 || lost != 3 {
		t.Errorf("%+v %v, %d silent", s, err, lost)
	}

	// Stopped in the middle: what has ended is told.
	c = open(t, town.Client, icmp.Target{Host: netnstest.BoxLAN[0]})
	ctx, stop := context.WithCancel(t.Context())
	s, err = c.Ping(ctx, icmp.Pings{Count: 1000, Size: 84, Every: time.Hour, Wait: time.Hour}, func(icmp.Reply) error { stop(); return nil })
	if err != nil || s.Sent != 1 || s.Received != 1 {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := c.Receive(t.Context(), time.Now().Add(time.Millisecond)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

func TestHostTrace(t *testing.T) {
	town := netnstest.New(t)
	for _, host := range netnstest.DCAddr {
		var hops []icmp.Hop
		began := time.Now()
		reached, err := open(t, town.Client, icmp.Target{Host: host}).Trace(t.Context(), 60, func(h icmp.Hop) error { hops = append(hops, h); return nil })
		if err != nil || !reached || len(hops) != 2 {
			t.Fatalf("%s: %v %v %+v after %v", host, reached, err, hops, time.Since(began))
		}
		for k := range icmp.HopProbes {
			if a := hops[0].Answers[k]; a.Kind != icmp.TimeOut || !box(a.From) || hops[0].RTT[k] <= 0 {
				t.Errorf("%s, first hop: %+v", host, a)
			}
			if a := hops[1].Answers[k]; a.Kind != icmp.EchoReply || a.From != host {
				t.Errorf("%s, second hop: %+v", host, a)
			}
		}
	}
	// Nothing but silence: bounded.
	netnstest.Run(t, town.Box, "nft", "add table inet t; add chain inet t f { type filter hook forward priority 0; policy drop; }; add chain inet t o { type filter hook output priority 0; policy drop; }")
	began := time.Now()
	n := 0
	reached, err := open(t, town.Client, icmp.Target{Host: netnstest.DCAddr[0]}).Trace(t.Context(), 60, func(h icmp.Hop) error {
		n++
		if h.Number != n || h.Answers[0].Kind != icmp.Silent {
			t.Errorf("%+v", h)
		}
		return nil
	})
	if err != nil || reached || n != icmp.HopsMost || time.Since(began) > time.Minute {
		t.Errorf("%v %v, %d hops, %v", reached, err, n, time.Since(began))
	}
}

func search(t *testing.T, ns string, host netip.Addr) icmp.PathMTU {
	t.Helper()
	began := time.Now()
	p, err := open(t, ns, icmp.Target{Host: host}).MTU(t.Context(), func(icmp.Probe) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %+v after %v", host, p, time.Since(began))
	return p
}

func TestHostMTU(t *testing.T) {
	town := netnstest.New(t)
	for _, host := range netnstest.DCAddr {
		if p := search(t, town.Client, host); p != (icmp.PathMTU{Outcome: icmp.Found, Size: 1500, Probes: 2, Interface: 1500}) || p.BlackHole() {
			t.Errorf("%s: %+v", host, p)
		}
	}
	// The loopback takes more than an IP packet can have: no black hole.
	netnstest.IP(t, town.Client, "link set lo up mtu 65536")
	if p := search(t, town.Client, netip.MustParseAddr("127.0.0.1")); p.Outcome != icmp.Found || p.Size != icmp.SizeMost || p.BlackHole() {
		t.Errorf("%+v", p)
	}
	netnstest.IP(t, town.Box, "link set wan mtu 1400")
	for _, host := range netnstest.DCAddr {
		if p := search(t, town.Client, host); p.Outcome != icmp.Found || p.Size != 1400 || !p.Told || p.BlackHole() {
			t.Errorf("%s: %+v", host, p)
		}
	}
	// The router keeps silent about it: a black hole.
	netnstest.IP(t, town.Box, "link set wan mtu 1281")
	netnstest.Run(t, town.Box, "nft", `add table inet t; add chain inet t o { type filter hook output priority 0; }
add rule inet t o icmp type destination-unreachable drop
add rule inet t o icmpv6 type packet-too-big drop`)
	for _, host := range netnstest.DCAddr {
		if p := search(t, town.Client, host); p.Outcome != icmp.Found || p.Size != 1281 || p.Told || !p.BlackHole() {
			t.Errorf("%s: %+v", host, p)
		}
	}
}

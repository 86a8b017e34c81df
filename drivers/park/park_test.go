package park_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"komainu/drivers/netns/netnstest"
	"komainu/drivers/nft"
	"komainu/drivers/park"
	"komainu/netstack/steer"
)

func table(target steer.Target) steer.Table {
	var t steer.Table
	for i := range 2 {
		t.Entries = append(t.Entries, steer.Entry{Target: target, Epoch: 1, Service: steer.Service{
			Name: "db", Mark: 1, Protocol: "tcp",
			Stable: netip.AddrPortFrom(netnstest.Stable[i], 5432),
			DC:     netip.AddrPortFrom(netnstest.DCAddr[i], 5432),
			Local:  netip.AddrPortFrom(netnstest.BoxLAN[i], 15432),
		}})
	}
	return t
}

var stable = []netip.AddrPort{
	netip.AddrPortFrom(netnstest.Stable[0], 5432), netip.AddrPortFrom(netnstest.Stable[1], 5432),
}

func open(t *testing.T, town netnstest.Town) (*park.Park, *nft.Steering) {
	var p *park.Park
	var s *nft.Steering
	netnstest.Do(t, town.Box, func() (err error) {
		if s, err = nft.Open(); err != nil {
			return err
		}
		p, err = park.Open("park")
		return err
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		netnstest.Do(t, town.Box, p.Close)
		s.Close()
	})
	return p, s
}

type result struct {
	greeting string
	took     time.Duration
	err      error
}

// dial connects n times from ns to each stable address, in the background.
func dial(t *testing.T, ns string, n int) <-chan result {
	out := make(chan result, 2*n)
	for _, to := range stable {
		for range n {
			go func() {
				start := time.Now()
				c, err := netnstest.Dial(t, ns, to, netnstest.Patience)
				r := result{took: time.Since(start), err: err}
				if err == nil {
					r.greeting = c.Greeting
				}
				out <- r
			}()
		}
	}
	return out
}

// again is just less than what a lost SYN costs its client (RFC 6298, 2.1).
const again = 900 * time.Millisecond

// waitFor waits until n SYNs are parked.
func waitFor(t *testing.T, p *park.Park, n int) {
	t.Helper()
	for end := time.Now().Add(netnstest.Patience); p.Waiting() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d SYNs wait, want %d", p.Waiting(), n)
		}
	}
}

func apply(t *testing.T, s *nft.Steering, target steer.Target) {
	t.Helper()
	if _, err := s.Apply(table(target)); err != nil {
		t.Fatal(err)
	}
}

func TestParkedClientsConnectAfterTheSwitch(t *testing.T) {
	town := netnstest.New(t)
	netnstest.Do(t, town.Box, func() error { // the strictest check of sources
		return os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("1"), 0o644)
	})
	p, s := open(t, town)
	for i := range 2 {
		netnstest.Serve(t, town.DC, "dc", netip.AddrPortFrom(netnstest.DCAddr[i], 5432))
		netnstest.Serve(t, town.Box, "local", netip.AddrPortFrom(netnstest.BoxLAN[i], 15432))
	}
	apply(t, s, steer.DC)
	before := netnstest.MustDial(t, town.Client, stable[0], "dc "+netnstest.ClientAddr[0].String())
	for _, next := range []steer.Target{steer.Local, steer.DC} {
		p.Hold(stable...)
		apply(t, s, steer.Parked)
		const n = 10
		parked := time.Now()
		fromClient, own := dial(t, town.Client, n), dial(t, town.Box, 1)
		waitFor(t, p, 2*n+2)
		if err := before.Echo(netnstest.Patience); err != nil {
			t.Errorf("an established flow while parked: %v", err)
		}
		apply(t, s, next)
		if got, err := p.Release(stable...); got != 2*n+2 || err != nil {
			t.Errorf("released %d, %v, want %d", got, err, 2*n+2)
		}
		held := time.Since(parked)
		var most time.Duration
		for range 2 * n {
			r := <-fromClient
			want4, want6 := fmt.Sprint(next, " ", netnstest.ClientAddr[0]), fmt.Sprint(next, " ", netnstest.ClientAddr[1])
			if r.err != nil || r.greeting != want4 && r.greeting != want6 {
				t.Errorf("a parked client got %q, %v, want %q or %q", r.greeting, r.err, want4, want6)
			}
			most = max(most, r.took)
		}
		for range 2 {
			if r := <-own; r.err != nil || !strings.HasPrefix(r.greeting, next.String()) {
				t.Errorf("the box's own probe got %q, %v", r.greeting, r.err)
			} else {
				most = max(most, r.took)
			}
		}
		t.Logf("to %s: the slowest of %d connects took %v, %v of it parked", next, 2*n+2, most, held)
		if most > held+again {
			t.Errorf("a connect took %v beyond its wait: its SYN was lost", most-held)
		}
	}
}

// A SYN that is still on its way to the queue when it is released goes on, too.
func TestReleaseCatchesLateComers(t *testing.T) {
	town := netnstest.New(t)
	p, s := open(t, town)
	netnstest.Serve(t, town.DC, "dc", netip.AddrPortFrom(netnstest.DCAddr[0], 5432))
	netnstest.Serve(t, town.DC, "dc", netip.AddrPortFrom(netnstest.DCAddr[1], 5432))
	apply(t, s, steer.Parked)
	begun := time.Now()
	results := dial(t, town.Client, 20)
	waitFor(t, p, 1)
	apply(t, s, steer.DC)
	if _, err := p.Release(stable...); err != nil {
		t.Fatal(err)
	}
	held := time.Since(begun)
	for range 40 {
		if r := <-results; r.err != nil || r.took > held+again {
			t.Errorf("a connect took %v: %v", r.took, r.err)
		}
	}
	if n := p.Waiting(); n != 0 {
		t.Errorf("%d SYNs still wait", n)
	}
}

func TestDropAndRestart(t *testing.T) {
	town := netnstest.New(t)
	before := netnstest.Run(t, town.Box, "ip", "rule") + netnstest.Run(t, town.Box, "ip", "-6", "rule")
	for i := range 2 {
		netnstest.Serve(t, town.DC, "dc", netip.AddrPortFrom(netnstest.DCAddr[i], 5432))
	}
	var results <-chan result
	t.Run("an agent that dies", func(t *testing.T) {
		p, s := open(t, town)
		apply(t, s, steer.Parked)
		results = dial(t, town.Client, 1)
		waitFor(t, p, 2)
		if n := p.Drop(stable...); n != 2 || p.Waiting() != 0 {
			t.Errorf("dropped %d, %d wait, want 2 and 0", n, p.Waiting())
		}
	})
	if after := netnstest.Run(t, town.Box, "ip", "rule") + netnstest.Run(t, town.Box, "ip", "-6", "rule"); after != before {
		t.Errorf("rules after Close:\n%s\nwant\n%s", after, before)
	}
	_, s := open(t, town)
	apply(t, s, steer.DC)
	for range 2 {
		if r := <-results; r.err != nil {
			t.Errorf("a client whose SYN was dropped: %v", r.err)
		}
	}
}

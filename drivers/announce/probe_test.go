package announce_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"komainu/drivers/announce"
	"komainu/drivers/netns"
	"komainu/drivers/netns/netnstest"
)

// mac is the hardware address of a link.
func mac(t *testing.T, ns, link string) (m net.HardwareAddr) {
	t.Helper()
	netnstest.Do(t, ns, func() error {
		i, err := net.InterfaceByName(link)
		if err == nil {
			m = i.HardwareAddr
		}
		return err
	})
	return m
}

func probe(t *testing.T, ctx context.Context, ns, link string, addrs ...netip.Addr) (c []announce.Conflict, err error) {
	t.Helper()
	netnstest.Do(t, ns, func() error { c, err = announce.Probe(ctx, link, addrs); return nil })
	return c, err
}

func TestHostProbeFindsTheOwner(t *testing.T) {
	town := netnstest.New(t)
	free, taken := netip.MustParseAddr("192.0.2.77"), netnstest.ClientAddr[0]
	start := time.Now()
	c, err := probe(t, t.Context(), town.Box, "lan", free, taken, netnstest.BoxLAN[0], netnstest.ClientAddr[1], taken)
	if err != nil || len(c) != 1 || c[0].Addr != taken || c[0].Probed || c[0].MAC.String() != mac(t, town.Client, "lan").String() {
		t.Errorf("conflicts %v, error %v; want %s alone", c, err, taken)
	}
	t.Log("took", time.Since(start))
	if c, err := probe(t, t.Context(), town.Box, "lo", taken); len(c) != 0 || err != nil {
		t.Errorf("on the loopback: %v, %v", c, err)
	}
	netnstest.IP(t, town.Client, "link set lan down")
	if c, err := probe(t, t.Context(), town.Box, "lan", taken); len(c) != 0 || !errors.Is(err, announce.ErrNoCarrier) {
		t.Errorf("without carrier: %v, %v", c, err)
	}
	if _, err := probe(t, t.Context(), town.Box, "nolink", taken); err == nil {
		t.Error("probed on a link that isn't there")
	}
}

// Two that probe at once see each other, though neither has the address yet. Both
// go on until they have: a probe is over within 180 ms, and a busy machine may
// well start the other one only afterwards.
func TestHostProbeSeesOthersThatProbe(t *testing.T) {
	town := netnstest.New(t)
	a := netip.MustParseAddr("192.0.2.77")
	var both sync.WaitGroup
	both.Add(2)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { both.Wait(); cancel() }()
	probing := func(ns string, other net.HardwareAddr) error {
		defer cancel()
		seen := false
		for {
			c, err := announce.Probe(ctx, "lan", []netip.Addr{a})
			if len(c) > 1 || len(c) == 1 && (c[0].Addr != a || !c[0].Probed || c[0].MAC.String() != other.String()) {
				return fmt.Errorf("%s found %v, want %s of %s", ns, c, a, other)
			}
			if len(c) == 1 && !seen {
				seen = true
				both.Done()
			}
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
	box, client := mac(t, town.Box, "lan"), mac(t, town.Client, "lan")
	failed := make(chan error, 1)
	go func() { failed <- netns.Do(town.Client, func() error { return probing(town.Client, box) }) }()
	netnstest.Do(t, town.Box, func() error { return probing(town.Box, client) })
	if err := <-failed; err != nil {
		t.Error(err)
	}
}

func TestHostProbeEndsWithItsContext(t *testing.T) {
	town := netnstest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := probe(t, ctx, town.Box, "lan", netip.MustParseAddr("192.0.2.77")); err == nil {
		t.Error("no error after its context has ended")
	}
}

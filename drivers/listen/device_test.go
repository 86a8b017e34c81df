package listen_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"komainu/drivers/listen"
	"komainu/drivers/netns/netnstest"
)

// TestHostDevice: bound to the device towards the client, the same address
// takes nobody who comes in by another.
func TestHostDevice(t *testing.T) {
	town := netnstest.New(t)
	netnstest.IP(t, town.Box, "addr add 203.0.113.7/32 dev lo")
	var ln net.Listener
	netnstest.Do(t, town.Box, func() (err error) {
		ln, err = listen.TCPOn(t.Context(), netip.MustParseAddrPort("203.0.113.7:22"), "lan")
		return err
	})
	t.Cleanup(func() {
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
	})
	for name, want := range map[string]bool{town.Client: true, town.DC: false} {
		netnstest.Do(t, name, func() error {
			c, err := net.DialTimeout("tcp", "203.0.113.7:22", 5*time.Second)
			if (err == nil) != want {
				t.Errorf("%s: %v", name, err)
			}
			if err != nil {
				return nil //nolint:nilerr // as wanted, or told above
			}
			return c.Close()
		})
	}
	netnstest.Do(t, town.Box, func() error {
		if ln, err := listen.TCPOn(t.Context(), netip.MustParseAddrPort("203.0.113.7:23"), "no-such"); err == nil {
			t.Error("bound to a device that isn't there")
			return ln.Close()
		}
		return nil
	})
}

package sockdiag_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/netns/netnstest"
	"komainu/drivers/sockdiag"
)

func TestDestroyAllButPeersAndListener(t *testing.T) {
	town := netnstest.New(t)
	var c *sockdiag.Conn
	netnstest.Do(t, town.DC, func() (err error) { c, err = sockdiag.Open(); return err })
	t.Cleanup(func() { c.Close() })
	// One socket for both families, as PostgreSQL's "*" may be: IPv4 clients
	// are mapped addresses there.
	netnstest.Serve(t, town.DC, "dc", netip.MustParseAddrPort("[::]:5432"))
	netnstest.Serve(t, town.DC, "other", netip.MustParseAddrPort("0.0.0.0:5433"))
	keep := []netip.Addr{netnstest.BoxWAN[0], netnstest.BoxWAN[1]}
	var clients, kept []*netnstest.Client
	for i, a := range netnstest.DCAddr {
		to := netip.AddrPortFrom(a, 5432)
		clients = append(clients, netnstest.MustDial(t, town.Client, to, fmt.Sprint("dc ", netnstest.ClientAddr[i])))
		kept = append(kept, netnstest.MustDial(t, town.Box, to, fmt.Sprint("dc ", netnstest.BoxWAN[i])))
	}
	kept = append(kept, netnstest.MustDial(t, town.Client, netip.AddrPortFrom(netnstest.DCAddr[0], 5433), fmt.Sprint("other ", netnstest.ClientAddr[0])))

	if n, err := c.Count(5432, keep); n != 2 || err != nil {
		t.Errorf("counted %d, %v, want 2", n, err)
	}
	n, err := c.Destroy(5432, keep)
	if errors.Is(err, sockdiag.ErrUnsupported) {
		t.Skip(err)
	}
	if n != 2 || err != nil {
		t.Errorf("destroyed %d, %v, want 2", n, err)
	}
	if n, err := c.Count(5432, keep); n != 0 || err != nil {
		t.Errorf("counted %d, %v afterwards, want 0", n, err)
	}
	if n, err := c.Count(5432, nil); n != 2 || err != nil {
		t.Errorf("counted %d, %v with the peers, want 2", n, err)
	}
	for _, cl := range clients {
		cl.SetReadDeadline(time.Now().Add(netnstest.Patience))
		if _, err := cl.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the client ended with %v, want a reset", err)
		}
	}
	for _, cl := range kept {
		if err := cl.Echo(netnstest.Patience); err != nil {
			t.Errorf("a connection to be kept: %v", err)
		}
	}
	netnstest.MustDial(t, town.Client, netip.AddrPortFrom(netnstest.DCAddr[0], 5432), fmt.Sprint("dc ", netnstest.ClientAddr[0]))
}

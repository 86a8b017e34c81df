package conntrack_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"komainu/drivers/conntrack"
	"komainu/drivers/netns/netnstest"
)

// The box tracks and marks what it forwards: 7 for port 5432, 8 for 5433.
const marks = `add table inet foreign
add chain inet foreign c { type filter hook prerouting priority 0; }
add rule inet foreign c ct state new tcp dport 5432 ct mark set 0x207
add rule inet foreign c ct state new tcp dport 5433 ct mark set 0x208`

func TestListAndDeleteByMark(t *testing.T) {
	town := netnstest.New(t)
	netnstest.Run(t, town.Box, "nft", marks)
	var c *conntrack.Conn
	netnstest.Do(t, town.Box, func() (err error) { c, err = conntrack.Open(); return err })
	t.Cleanup(func() { c.Close() })

	for i, addr := range netnstest.DCAddr {
		for _, port := range []uint16{5432, 5433} {
			to := netip.AddrPortFrom(addr, port)
			netnstest.Serve(t, town.DC, "dc", to)
			netnstest.MustDial(t, town.Client, to, "dc "+netnstest.ClientAddr[i].String())
		}
	}
	list := func(mark, mask uint32) []conntrack.Flow {
		t.Helper()
		flows, err := c.Flows(context.Background(), mark, mask)
		if err != nil {
			t.Fatal(err)
		}
		return flows
	}
	if n := len(list(0x200, 0xff00)); n != 4 {
		t.Errorf("%d flows of the epoch, want 4", n)
	}
	if all, err := c.All(context.Background()); err != nil || len(all) != 4 {
		t.Errorf("all flows: %v, %v, want 4", all, err)
	}
	flows := list(7, 0xff)
	if len(flows) != 2 {
		t.Fatalf("flows of mark 7: %v, want one of each family", flows)
	}
	for _, f := range flows {
		i := 0
		if f.Original.Source.Addr().Is6() {
			i = 1
		}
		if f.Protocol != unix.IPPROTO_TCP || f.State != conntrack.Established || f.Mark != 0x207 ||
			f.Original.Source.Addr() != netnstest.ClientAddr[i] ||
			f.Original.Destination != netip.AddrPortFrom(netnstest.DCAddr[i], 5432) ||
			f.Reply.Source != f.Original.Destination || f.Reply.Destination != f.Original.Source {
			t.Errorf("flow %+v is not what was opened", f)
		}
	}
	if err := c.Delete(7, 0xff); err != nil {
		t.Fatal(err)
	}
	if n := len(list(7, 0xff)); n != 0 {
		t.Errorf("%d flows of mark 7 after their deletion, want 0", n)
	}
	if n := len(list(8, 0xff)); n != 2 {
		t.Errorf("%d flows of mark 8, want both to be left alone", n)
	}
}

func TestNoMaskIsRefused(t *testing.T) {
	c, err := conntrack.Open()
	if err != nil {
		t.Skip("ctnetlink needs CAP_NET_ADMIN:", err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Delete(7, 0); !errors.Is(err, conntrack.ErrMask) {
		t.Errorf("Delete without a mask gave %v, want ErrMask", err)
	}
	if _, err := c.Flows(context.Background(), 7, 0); !errors.Is(err, conntrack.ErrMask) {
		t.Errorf("Flows without a mask gave %v, want ErrMask", err)
	}
}

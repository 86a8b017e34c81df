package kick_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/conntrack"
	"komainu/drivers/kick"
	"komainu/drivers/netns/netnstest"
)

// A box that translates and marks, with nothing in it that resets by itself.
const translate = `add table inet foreign
add chain inet foreign c { type nat hook prerouting priority -100; }
add rule inet foreign c ip daddr 192.0.2.100 tcp dport 5432 ct mark set 7 dnat ip to 198.51.100.2
add rule inet foreign c ip6 daddr fd00:1::100 tcp dport 5432 ct mark set 7 dnat ip6 to fd00:2::2`

func town(t *testing.T) (netnstest.Town, *conntrack.Conn) {
	town := netnstest.New(t)
	netnstest.Run(t, town.Box, "nft", translate)
	var c *conntrack.Conn
	netnstest.Do(t, town.Box, func() (err error) { c, err = conntrack.Open(); return err })
	t.Cleanup(func() { c.Close() })
	return town, c
}

func kickAll(t *testing.T, town netnstest.Town, c *conntrack.Conn) kick.Result {
	t.Helper()
	flows, err := c.Flows(t.Context(), 7, 0xff)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(7, 0xff); err != nil {
		t.Fatal(err)
	}
	var r kick.Result
	netnstest.Do(t, town.Box, func() (err error) { r, err = kick.Kick(t.Context(), flows); return err })
	return r
}

func TestSilentClientsAreReset(t *testing.T) {
	town, c := town(t)
	const each = 75
	var clients []*netnstest.Client
	for i, addr := range netnstest.Stable {
		netnstest.Serve(t, town.DC, "dc", netip.AddrPortFrom(netnstest.DCAddr[i], 5432))
		for range each {
			clients = append(clients, netnstest.MustDial(t, town.Client, netip.AddrPortFrom(addr, 5432), "dc "+netnstest.ClientAddr[i].String()))
		}
	}
	netnstest.IP(t, town.Box, "link set wan down") // the line is cut, nobody hears of it
	type outcome struct {
		err error
		at  time.Time
	}
	ended := make(chan outcome)
	for _, cl := range clients {
		cl.SetReadDeadline(time.Now().Add(netnstest.Patience))
		go func() {
			_, err := cl.Read(make([]byte, 1))
			ended <- outcome{err, time.Now()}
		}()
	}
	start := time.Now()
	r := kickAll(t, town, c)
	var most time.Duration
	for range clients {
		o := <-ended
		if !errors.Is(o.err, unix.ECONNRESET) {
			t.Errorf("a client ended with %v, want a reset", o.err)
		}
		most = max(most, o.at.Sub(start))
	}
	t.Logf("%+v; the last of %d clients knew after %v", r, len(clients), most)
	if r.Reset != 2*each || r.Unanswered != 0 {
		t.Errorf("kicked %+v, want all %d reset", r, 2*each)
	}
}

func TestClientsWithoutAnAnswerFailAtOnce(t *testing.T) {
	town, c := town(t)
	netnstest.Run(t, town.DC, "nft", "add table inet f; add chain inet f c { type filter hook input priority 0; }; add rule inet f c tcp dport 5432 drop")
	type outcome struct {
		err  error
		took time.Duration
	}
	for _, addr := range netnstest.Stable {
		ended := make(chan outcome, 1)
		go func() {
			start := time.Now()
			_, err := netnstest.Dial(t, town.Client, netip.AddrPortFrom(addr, 5432), 5*time.Second)
			ended <- outcome{err, time.Since(start)}
		}()
		waitFlow(t, c)
		r := kickAll(t, town, c)
		o := <-ended
		if r.Reset != 1 {
			t.Errorf("kicked %+v, want 1 reset", r)
		}
		if !errors.Is(o.err, unix.ECONNRESET) && !errors.Is(o.err, unix.ECONNREFUSED) {
			t.Errorf("the client ended after %v with %v, want a reset", o.took, o.err)
		}
	}
}

func TestClientThatIsGoneIsUnanswered(t *testing.T) {
	town, c := town(t)
	netnstest.Serve(t, town.DC, "dc", netip.AddrPortFrom(netnstest.DCAddr[0], 5432))
	netnstest.MustDial(t, town.Client, netip.AddrPortFrom(netnstest.Stable[0], 5432), "dc "+netnstest.ClientAddr[0].String())
	netnstest.IP(t, town.Client, "link set lan down")
	start := time.Now()
	if r := kickAll(t, town, c); r.Reset != 0 || r.Unanswered != 1 {
		t.Errorf("kicked %+v, want 1 unanswered", r)
	}
	t.Logf("it took %v, should take 1.25 s at most", time.Since(start))
}

// A client whose neighbour entry is gone is resolved for the second round.
func TestForgottenNeighbourIsAskedFor(t *testing.T) {
	town, c := town(t)
	netnstest.Serve(t, town.DC, "dc", netip.AddrPortFrom(netnstest.DCAddr[0], 5432))
	netnstest.MustDial(t, town.Client, netip.AddrPortFrom(netnstest.Stable[0], 5432), "dc "+netnstest.ClientAddr[0].String())
	netnstest.IP(t, town.Box, "link set wan down\nneigh flush dev lan")
	if r := kickAll(t, town, c); r.Reset != 1 {
		t.Errorf("kicked %+v, want 1 reset", r)
	}
}

func TestCancelled(t *testing.T) {
	town, _ := town(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	flows := []conntrack.Flow{{
		Protocol: unix.IPPROTO_TCP, State: conntrack.Established,
		Original: conntrack.Tuple{Source: netip.MustParseAddrPort("192.0.2.77:1"), Destination: netip.MustParseAddrPort("192.0.2.100:5432")},
	}}
	netnstest.Do(t, town.Box, func() error {
		if _, err := kick.Kick(ctx, flows); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		return nil
	})
}

// waitFlow waits for a flow of mark 7 to show up: there is no event for it here.
func waitFlow(t *testing.T, c *conntrack.Conn) {
	t.Helper()
	for end := time.Now().Add(netnstest.Patience); time.Now().Before(end); {
		flows, err := c.Flows(t.Context(), 7, 0xff)
		if err != nil {
			t.Fatal(err)
		}
		if len(flows) > 0 {
			return
		}
	}
	t.Fatal("no connection attempt was seen")
}

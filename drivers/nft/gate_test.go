package nft_test

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"komainu/drivers/netns/netnstest"
	"komainu/drivers/nft"
	"komainu/netstack/steer"
)

func (f fixture) gate(t *testing.T, g steer.Gate) {
	t.Helper()
	if err := f.Gate(g); err != nil {
		t.Fatal(err)
	}
	got, err := f.ObserveGate(g.Name)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(g, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("observed gate (-want +got):\n%s", d)
	}
}

// The gate of a database host: clients come over routes, nothing is steered.
func TestGateOfADatabaseHost(t *testing.T) {
	f := town(t)
	netnstest.Do(t, f.DC, func() (err error) {
		f.Steering.Close()
		f.Steering, err = nft.Open()
		return err
	})
	if _, err := f.ObserveGate("resident"); !errors.Is(err, nft.ErrNoGate) {
		t.Errorf("observed a gate that isn't there: %v", err)
	}
	g := steer.Gate{Name: "resident", Port: 5432, Peers: []netip.Addr{netnstest.BoxWAN[0], netnstest.BoxWAN[1]}}
	f.gate(t, g)
	f.gate(t, steer.Gate{Name: "other", Port: 5433, Open: true, Epoch: 3})
	for i, addr := range netnstest.DCAddr {
		to, client := netip.AddrPortFrom(addr, 5432), netnstest.ClientAddr[i].String()
		g.Open = false
		f.gate(t, g)
		refusedDial(t, f.Client, to)
		peer := netnstest.MustDial(t, f.Box, to, "dc "+netnstest.BoxWAN[i].String())
		netnstest.MustDial(t, f.DC, to, "dc "+addr.String())

		g.Open, g.Epoch = true, uint16(10+10*i)
		f.gate(t, g)
		old := netnstest.MustDial(t, f.Client, to, "dc "+client)

		g.Open = false
		f.gate(t, g)
		if err := old.Echo(netnstest.Patience); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("a client at a closed gate: %v, want a reset", err)
		}
		g.Open, g.Epoch = true, g.Epoch+1
		f.gate(t, g)
		netnstest.MustDial(t, f.Client, to, "dc "+client)
		if err := peer.Echo(netnstest.Patience); err != nil {
			t.Errorf("the peer at the gate: %v", err)
		}
	}
	// The database moves to another port: the former one is nobody's.
	g.Port, g.Open = 6000, false
	f.gate(t, g)
	netnstest.MustDial(t, f.Client, netip.AddrPortFrom(netnstest.DCAddr[0], 5432), "dc "+netnstest.ClientAddr[0].String())
	for _, bad := range []steer.Gate{{Name: "resident"}, {Port: 1}, {Name: "two words", Port: 1}} {
		if err := f.Gate(bad); err == nil {
			t.Errorf("gate %+v was no error", bad)
		}
	}
	if err := f.Gate(steer.Gate{Name: "resident", Port: 1, Open: true}); !errors.Is(err, nft.ErrEpoch) {
		t.Errorf("epoch 0: %v, want ErrEpoch", err)
	}
}

// A reply that was blocked in one epoch is retransmitted by the kernel; it must
// not reach its client when the gate stands open for the next one.
func TestReplyBlockedInOneEpochNeverLeavesInALaterOne(t *testing.T) {
	f := town(t)
	netnstest.Do(t, f.DC, func() (err error) {
		f.Steering.Close()
		f.Steering, err = nft.Open()
		return err
	})
	g := steer.Gate{Name: "resident", Port: 5999, Open: true, Epoch: 1}
	f.gate(t, g)
	for i, addr := range netnstest.DCAddr {
		g.Epoch = uint16(2*i + 1)
		f.gate(t, g)
		send := make(chan struct{})
		sent := make(chan error, 1)
		to := netip.AddrPortFrom(addr, 5999)
		serveOnce(t, f.DC, to, send, sent)
		c, err := netnstest.Dial(t, f.Client, to, netnstest.Patience)
		if err != nil {
			t.Fatal(err)
		}
		g.Open = false
		f.gate(t, g)
		close(send) // the server commits and answers; the client says nothing
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		g.Open, g.Epoch = true, g.Epoch+1
		f.gate(t, g)
		// Retransmissions come after about 0.2, 0.6 and 1.4 s.
		c.SetReadDeadline(time.Now().Add(1600 * time.Millisecond))
		if n, err := c.Read(make([]byte, 10)); n > 0 || err == nil {
			t.Errorf("the client received %d bytes of a blocked reply", n)
		}
	}
}

// serveOnce greets one client, then sends one reply when it may.
func serveOnce(t *testing.T, ns string, at netip.AddrPort, send <-chan struct{}, sent chan<- error) {
	t.Helper()
	var l net.Listener
	netnstest.Do(t, ns, func() (err error) {
		l, err = net.Listen("tcp", at.String())
		return err
	})
	var served sync.WaitGroup
	served.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		t.Cleanup(func() { c.Close() })
		c.Write([]byte("dc\n"))
		<-send
		_, err = c.Write([]byte("committed\n"))
		sent <- err
	})
	t.Cleanup(func() { l.Close(); served.Wait() })
}

// The gate of a town-hall box: steering has marked the connections already.
func TestGateBehindSteering(t *testing.T) {
	f := town(t)
	g := steer.Gate{Name: "resident", Port: 15432, Open: true, Epoch: 5}
	f.gate(t, g)
	f.apply(t, table(steer.Local, 5))
	for i, e := range table(steer.Local, 5).Entries {
		me := netnstest.ClientAddr[i].String()
		f.swap(t, steer.Local, 5)
		c := netnstest.MustDial(t, f.Client, e.Stable, "local "+me)
		f.swap(t, steer.Local, 6) // another epoch than the gate's
		refusedDial(t, f.Client, e.Stable)
		if err := c.Echo(netnstest.Patience); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("a flow of the old epoch: %v, want a reset", err)
		}
		g.Open = false
		f.gate(t, g)
		f.swap(t, steer.Local, 5)
		refusedDial(t, f.Client, e.Stable)
		netnstest.MustDial(t, f.Box, e.Stable, "local "+e.Stable.Addr().String()) // over lo
		g.Open = true
		f.gate(t, g)
		netnstest.MustDial(t, f.Client, e.Stable, "local "+me)
	}
}

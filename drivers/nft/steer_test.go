package nft_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"komainu/drivers/conntrack"
	"komainu/drivers/netns/netnstest"
	"komainu/drivers/nft"
	"komainu/netstack/steer"
)

// table is a dual-stack service at Stable:5432, locally at BoxLAN:15432, with
// a locked listener at :15433 and the local endpoint known to clients as :25432.
func table(target steer.Target, epoch uint16) steer.Table {
	var t steer.Table
	for i := range 2 {
		t.Entries = append(t.Entries, steer.Entry{
			Service: steer.Service{
				Name: "resident-db", Mark: 7, Protocol: "tcp",
				Stable: netip.AddrPortFrom(netnstest.Stable[i], 5432),
				DC:     netip.AddrPortFrom(netnstest.DCAddr[i], 5432),
				Local:  netip.AddrPortFrom(netnstest.BoxLAN[i], 15432),
				Locked: netip.AddrPortFrom(netnstest.BoxLAN[i], 15433),
				Direct: netip.AddrPortFrom(netnstest.BoxLAN[i], 25432),
			},
			Target: target, Epoch: epoch,
		})
	}
	return t
}

type fixture struct {
	netnstest.Town
	*nft.Steering
	flows *conntrack.Conn
}

func town(t *testing.T) fixture {
	f := fixture{Town: netnstest.New(t)}
	netnstest.Do(t, f.Box, func() (err error) {
		if f.Steering, err = nft.Open(); err != nil {
			return err
		}
		f.flows, err = conntrack.Open()
		return err
	})
	t.Cleanup(func() { f.Steering.Close(); f.flows.Close() })
	for i := range 2 {
		netnstest.Serve(t, f.DC, "dc", netip.AddrPortFrom(netnstest.DCAddr[i], 5432))
		netnstest.Serve(t, f.Box, "local", netip.AddrPortFrom(netnstest.BoxLAN[i], 15432))
		netnstest.Serve(t, f.Box, "locked", netip.AddrPortFrom(netnstest.BoxLAN[i], 15433))
	}
	return f
}

func (f fixture) apply(t *testing.T, tab steer.Table, peers ...netip.Addr) int {
	t.Helper()
	n, err := f.Apply(tab, peers...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (f fixture) swap(t *testing.T, target steer.Target, epoch uint16) {
	t.Helper()
	f.apply(t, table(target, epoch))
	if err := f.flows.Delete(7, steer.ServiceMask); err != nil {
		t.Fatal(err)
	}
}

func refusedDial(t *testing.T, ns string, to netip.AddrPort) {
	t.Helper()
	if _, err := netnstest.Dial(t, ns, to, time.Second); !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("dial %s gave %v, want a refusal", to, err)
	}
}

func TestClientsFollowTheTableAndOldFlowsAreReset(t *testing.T) {
	f := town(t)
	f.apply(t, table(steer.DC, 1))
	for i, tab := 0, table(steer.DC, 1); i < 2; i++ {
		e, me := tab.Entries[i], netnstest.ClientAddr[i].String()
		f.swap(t, steer.DC, 1)
		old := netnstest.MustDial(t, f.Client, e.Stable, "dc "+me)
		netnstest.MustDial(t, f.Client, e.Direct, "locked "+me)
		netnstest.MustDial(t, f.Box, e.Stable, fmt.Sprint("dc ", e.Stable.Addr()))

		f.swap(t, steer.Local, 2)
		if err := old.Echo(netnstest.Patience); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("old flow after the swap: %v, want a reset", err)
		}
		old = netnstest.MustDial(t, f.Client, e.Stable, "local "+me)
		direct := netnstest.MustDial(t, f.Client, e.Direct, "local "+me)
		netnstest.MustDial(t, f.Box, e.Stable, fmt.Sprint("local ", e.Stable.Addr()))
		if err := old.Echo(netnstest.Patience); err != nil {
			t.Errorf("new flow: %v", err)
		}

		f.swap(t, steer.DC, 3)
		for _, c := range []*netnstest.Client{old, direct} {
			if err := c.Echo(netnstest.Patience); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("old flow after the swap back: %v, want a reset", err)
			}
		}
		netnstest.MustDial(t, f.Client, e.Stable, "dc "+me)

		f.swap(t, steer.None, 4)
		refusedDial(t, f.Client, e.Stable)
		refusedDial(t, f.Box, e.Stable)
	}
}

func TestRawLocalPortIsRefusedButToPeers(t *testing.T) {
	f := town(t)
	f.apply(t, table(steer.Local, 1), netnstest.DCAddr[0], netnstest.DCAddr[1])
	for i, e := range table(steer.Local, 1).Entries {
		refusedDial(t, f.Client, e.Local)
		netnstest.MustDial(t, f.DC, e.Local, fmt.Sprint("local ", netnstest.DCAddr[i]))
		netnstest.MustDial(t, f.Box, e.Local, fmt.Sprint("local ", netnstest.BoxLAN[i]))
		netnstest.MustDial(t, f.Client, e.Direct, fmt.Sprint("local ", netnstest.ClientAddr[i]))
	}
}

func TestHairpinIsMasqueraded(t *testing.T) {
	f := town(t)
	tab := table(steer.DC, 1)
	for i := range tab.Entries {
		// A server beside the client, that would answer it directly.
		tab.Entries[i].DC = netip.AddrPortFrom(netip.MustParseAddr([]string{"192.0.2.20", "fd00:1::20"}[i]), 5432)
	}
	netnstest.IP(t, f.Client, "addr add 192.0.2.20/24 dev lan\naddr add fd00:1::20/64 dev lan nodad")
	f.apply(t, tab)
	for i, e := range tab.Entries {
		netnstest.Serve(t, f.Client, "beside", e.DC)
		c, err := netnstest.Dial(t, f.Client, e.Stable, netnstest.Patience)
		if err != nil {
			t.Fatal(err)
		}
		from := netip.MustParseAddr(strings.Fields(c.Greeting)[1])
		if from != netnstest.BoxLAN[i] && from != netnstest.Stable[i] {
			t.Errorf("the server sees %s, want an address of the box", from)
		}
	}
}

func TestApplyIsIdempotentAndObserved(t *testing.T) {
	f := town(t)
	netnstest.Run(t, f.Box, "nft", "add table inet foreign; add chain inet foreign c { type filter hook input priority 0; }; add rule inet foreign c counter")
	before := netnstest.Run(t, f.Box, "nft", "list", "table", "inet", "foreign")
	want := table(steer.Local, 9)
	if got, err := f.Observe(want); err != nil || len(got.Entries) != 0 {
		t.Errorf("observed %v, %v before anything was applied, want nothing", got, err)
	}
	if n := f.apply(t, want); n == 0 {
		t.Error("the first Apply changed nothing")
	}
	if n := f.apply(t, want); n != 0 {
		t.Errorf("the same table again changed %d elements, want 0", n)
	}
	for _, target := range []steer.Target{steer.DC, steer.Parked, steer.None, steer.Local} {
		want := table(target, 0xfffe)
		f.apply(t, want)
		got, err := f.Observe(table(steer.DC, 0))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
			t.Errorf("observed (-want +got):\n%s", d)
		}
	}
	f.apply(t, steer.Table{})
	netnstest.Run(t, f.Box, "nft", "delete table inet komainu_steer; add table inet komainu_steer; add chain inet komainu_steer layout_0")
	f.apply(t, want)
	if got, err := f.Observe(want); err != nil || len(got.Entries) != 2 {
		t.Errorf("observed %v, %v after another version's table, want both entries", got, err)
	}
	if after := netnstest.Run(t, f.Box, "nft", "list", "table", "inet", "foreign"); after != before {
		t.Errorf("the foreign table has changed:\n%s", after)
	}
}

func TestLargeTable(t *testing.T) {
	f := town(t)
	var tab steer.Table
	for i := range 3000 {
		tab.Entries = append(tab.Entries, steer.Entry{Service: steer.Service{
			Name: "many", Mark: 1, Protocol: []string{"tcp", "udp"}[i%2],
			Stable: netip.AddrPortFrom(netnstest.Stable[0], uint16(1000+i)),
			DC:     netip.AddrPortFrom(netnstest.DCAddr[0], uint16(1000+i)),
		}, Target: steer.DC, Epoch: 1})
	}
	if n := f.apply(t, tab); n != 6000 {
		t.Errorf("changed %d elements, want 6000", n)
	}
	if n := f.apply(t, tab); n != 0 {
		t.Errorf("again changed %d elements, want 0", n)
	}
}

func TestTablesThatCannotBe(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("nftables needs root")
	}
	f := town(t)
	for name, spoil := range map[string]func(*steer.Entry){
		"mark 0":      func(e *steer.Entry) { e.Mark = 0 },
		"protocol":    func(e *steer.Entry) { e.Protocol = "sctp" },
		"no stable":   func(e *steer.Entry) { e.Stable = netip.AddrPort{} },
		"no endpoint": func(e *steer.Entry) { e.DC = netip.AddrPort{} },
		"family":      func(e *steer.Entry) { e.DC = netip.MustParseAddrPort("[fd00::1]:1") },
		"twice":       func(e *steer.Entry) { e.Direct = e.Stable },
	} {
		tab := table(steer.DC, 1)
		spoil(&tab.Entries[0])
		if _, err := f.Apply(tab); !errors.Is(err, nft.ErrTable) {
			t.Errorf("%s: %v, want ErrTable", name, err)
		}
	}
}

func TestDatagramsFollowTheTable(t *testing.T) {
	f := town(t)
	tab := table(steer.DC, 1)
	tab.Entries = tab.Entries[:1]
	e := &tab.Entries[0]
	e.Protocol, e.Direct, e.Locked = "udp", netip.AddrPort{}, netip.AddrPort{}
	for ns, at := range map[string]netip.AddrPort{f.DC: e.DC, f.Box: e.Local} {
		var l net.PacketConn
		netnstest.Do(t, ns, func() (err error) { l, err = net.ListenPacket("udp", at.String()); return err })
		done := make(chan struct{})
		go func() {
			defer close(done)
			b := make([]byte, 16)
			for {
				_, from, err := l.ReadFrom(b)
				if err != nil {
					return
				}
				l.WriteTo([]byte(at.String()), from)
			}
		}()
		t.Cleanup(func() { l.Close(); <-done })
	}
	f.apply(t, tab)
	var c net.Conn
	netnstest.Do(t, f.Client, func() (err error) { c, err = net.Dial("udp", e.Stable.String()); return err })
	t.Cleanup(func() { c.Close() })
	ask := func(within time.Duration) (string, error) {
		b := make([]byte, 64)
		c.SetDeadline(time.Now().Add(within))
		if _, err := c.Write([]byte("?")); err != nil {
			return "", err
		}
		n, err := c.Read(b)
		return string(b[:n]), err
	}
	if got, err := ask(netnstest.Patience); got != e.DC.String() {
		t.Errorf("answered by %q, %v, want the data centre", got, err)
	}
	for _, step := range []struct {
		target steer.Target
		from   string
		err    error
	}{{steer.Local, e.Local.String(), nil}, {steer.Parked, "", os.ErrDeadlineExceeded}, {steer.None, "", unix.ECONNREFUSED}, {steer.DC, e.DC.String(), nil}} {
		e.Target = step.target
		f.apply(t, tab)
		if err := f.flows.Delete(7, steer.ServiceMask); err != nil {
			t.Fatal(err)
		}
		within := netnstest.Patience
		if step.target == steer.Parked {
			within = 300 * time.Millisecond // nothing comes
		}
		if got, err := ask(within); got != step.from || !errors.Is(err, step.err) {
			t.Errorf("%s: answered by %q, %v, want %q, %v", step.target, got, err, step.from, step.err)
		}
	}
}

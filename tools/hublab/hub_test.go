package hublab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"komainu/appliance/pki"
	"komainu/drivers/netns"
	"komainu/drivers/vici"
	"komainu/netstack/spec"
	"komainu/tools/lab"
)

// Of the measurement: halls, and for how long the hub is left alone while its
// CPU time is taken.
const (
	manyHalls, fewHalls = 300, 20
	rest, shortRest     = 10 * time.Second, time.Second
	patience            = time.Minute
)

// rounds is how often a value is taken, and of how many halls; 0: a test run.
func rounds(t *testing.T) (n, halls int, at time.Duration) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if n, _ = strconv.Atoi(os.Getenv(Rounds)); n > 0 {
		return n, manyHalls, rest
	}
	return 0, fewHalls, shortRest
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// outer is where a hall's line ends, inner where its tunnel does, there and at
// the hub.
func outer(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{172, 20, byte(i / 250), byte(i%250 + 1)})
}
func innerHall(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 200, byte(i / 250), byte(i%250 + 1)})
}
func innerHub(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 201, byte(i / 250), byte(i%250 + 1)})
}
func hallName(i int) string             { return fmt.Sprintf("hall-%d", i) }
func whole(a netip.Addr) []netip.Prefix { return []netip.Prefix{netip.PrefixFrom(a, a.BitLen())} }

var (
	hubAddr   = netip.MustParseAddr("198.51.100.1")
	hallsAddr = netip.MustParseAddr("198.51.100.2")
)

// world is a hub and its halls, which all stand in one namespace. Nothing leads
// out of the two.
type world struct {
	t          *testing.T
	hub, halls *lab.Host
	keys       map[string]vici.Keys
}

// build makes the two, with n halls and one to spare.
func build(t *testing.T, n int) *world {
	t.Helper()
	l, err := lab.New(t.Context(), lab.Options{Name: t.Name()})
	must(t, err)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("tear the lab down: %v", err)
		}
	})
	wan, err := l.NewLAN("wan")
	must(t, err)
	w := &world{t: t}
	host := func(name string, own, other netip.Addr, to string) *lab.Host {
		h, err := l.NewHost(name, lab.Wiring{Ports: []lab.Port{{Link: "wan", LAN: wan, Addresses: []netip.Prefix{netip.PrefixFrom(own, 24)}}},
			Routes: []lab.Route{{To: netip.MustParsePrefix(to), Via: other, Link: "wan"}}})
		must(t, err)
		return h
	}
	// By one next hop: a table of neighbours holds no more than some thousand.
	w.hub = host("hub", hubAddr, hallsAddr, "172.20.0.0/16")
	w.halls = host("halls", hallsAddr, hubAddr, "172.21.0.0/16")
	addrs := map[*lab.Host][]netip.Addr{}
	for i := range n + 1 {
		addrs[w.hub] = append(addrs[w.hub], innerHub(i))
		addrs[w.halls] = append(addrs[w.halls], innerHall(i), outer(i))
	}
	for h, all := range addrs {
		must(t, loopback(t.Context(), h, all))
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, h := range []*lab.Host{w.hub, w.halls} {
				logs, _ := filepath.Glob(filepath.Join(h.LogDir(), "*.log"))
				for _, name := range logs {
					text, _ := os.ReadFile(name)
					t.Logf("%s:\n%s", name, text[max(0, len(text)-400000):])
				}
			}
		}
	})
	return w
}

// certificates makes those of the hub and of n halls.
func (w *world) certificates(n int) {
	w.t.Helper()
	dir, now := filepath.Join(w.t.TempDir(), "pki"), time.Now()
	must(w.t, pki.Create(dir, "hublab", 3, now))
	a, err := pki.Open(dir)
	must(w.t, err)
	defer a.Close()
	ca, err := os.ReadFile(filepath.Join(dir, pki.CertFile))
	must(w.t, err)
	w.keys = map[string]vici.Keys{}
	names := []string{"hub"}
	for i := range n {
		names = append(names, hallName(i))
	}
	for _, name := range names {
		made, err := a.Issue(pki.Request{Name: name, Days: 2}, now)
		must(w.t, err)
		cert, err := os.ReadFile(made.Cert)
		must(w.t, err)
		key, err := os.ReadFile(made.Key)
		must(w.t, err)
		w.keys[name] = vici.Keys{Cert: cert, Key: key, Authorities: [][]byte{ca}}
	}
}

// tunnels are those of the first n halls, at the hub and at the halls.
func (w *world) tunnels(n int) (hub, halls []vici.Desired) {
	for i := range n {
		name := hallName(i)
		t := spec.Tunnel{Name: name, IfID: uint32(i + 1), Local: hubAddr, Remote: outer(i), LocalID: "hub", RemoteID: name,
			IKE: []string{"aes256gcm16-prfsha384-ecp384"}, ESP: []string{"aes256gcm16-ecp384"},
			Inner: whole(innerHub(i)), Beyond: whole(innerHall(i)), RekeyIKE: 4 * time.Hour, RekeyESP: time.Hour}
		hub = append(hub, vici.Desired{Tunnel: t, Keys: w.keys["hub"]})
		t.Local, t.Remote, t.LocalID, t.RemoteID, t.Inner, t.Beyond, t.Initiate = t.Remote, t.Local, t.RemoteID, t.LocalID, t.Beyond, t.Inner, true
		halls = append(halls, vici.Desired{Tunnel: t, Keys: w.keys[name]})
	}
	return hub, halls
}

// TestHostHubTunnels: the tunnels of a hub come up, cost little while nothing
// happens, and one more disturbs none.
func TestHostHubTunnels(t *testing.T) {
	n, halls, at := rounds(t)
	for range max(n, 1) {
		t.Run("", func(t *testing.T) {
			up, share, lost := measureTunnels(t, halls, at)
			t.Logf("%d tunnels up after %v; %.2f %% of a core at rest; %d packets lost while one was added", halls, up.Round(time.Millisecond), share, lost)
			if lost > 0 {
				t.Errorf("%d packets lost", lost)
			}
			if n > 0 {
				figure("halls up", up.Seconds()*1000)
				figure("halls control", share)
				figure("halls lost", float64(lost))
			}
		})
	}
}

func figure(name string, value float64) { fmt.Printf("%s\t%s\t%.3f\n", Figure, name, value) }

func measureTunnels(t *testing.T, n int, at time.Duration) (up time.Duration, share float64, lost int) {
	w := build(t, n)
	w.certificates(n + 1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	hub, halls := w.tunnels(n)
	far := newCharon(ctx, t, w.halls)
	others := keep(ctx, t, far)

	begin := time.Now()
	near := newCharon(ctx, t, w.hub)
	keeper := keep(ctx, t, near)
	keeper.set(ctx, hub)
	t.Logf("loaded after %v", time.Since(begin).Round(time.Millisecond))
	others.begin(halls)
	keeper.up(ctx, hub)
	up = time.Since(begin)
	others.up(ctx, halls)

	flows, err := begins(w, 5)
	must(t, err)
	defer flows.stop()
	must(t, flows.pass(ctx))
	flows.pause(true)
	share, err = cpu(ctx, at, near.pid, keeper.cmd.Process.Pid)
	must(t, err)
	flows.pause(false)
	must(t, flows.pass(ctx))
	more, others1 := w.tunnels(n + 1)
	keeper.set(ctx, more)
	others.begin(others1)
	keeper.up(ctx, more)
	others.up(ctx, others1)
	must(t, flows.pass(ctx))
	return up, share, flows.lost(ctx)
}

// loopback gives a host addresses that belong to no line.
func loopback(ctx context.Context, h *lab.Host, all []netip.Addr) error {
	return netns.Do(h.Namespace, func() error { return addresses(ctx, all) })
}

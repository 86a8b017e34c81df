package server

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"
	"unsafe"
)

// v4 is the address of client i of a network of 16 million.
func v4(i int) netip.AddrPort {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 10<<24|uint32(i))
	return netip.AddrPortFrom(netip.AddrFrom4(b), 123)
}

// v6 is an address in the i-th /64.
func v6(i int) netip.AddrPort {
	b := [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1}
	binary.BigEndian.PutUint32(b[4:], uint32(i))
	return netip.AddrPortFrom(netip.AddrFrom16(b), 123)
}

// hub serves 10/8 and 2001:db8::/32 with a table of n slots.
func hub(t testing.TB, n int, every time.Duration, burst int) *world {
	w := newWorld(t, func(r *Rules) {
		r.Networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
		r.Every, r.Burst = every, burst
	})
	rules := w.s.rules
	w.s = New(n, [2]uint64{0x243f6a8885a308d3, 0x13198a2e03707344}, random)
	w.s.SetRules(rules)
	w.s.SetState(&State{Stratum: 2})
	return w
}

func TestTwentyThousandClientsFit(t *testing.T) {
	w := hub(t, 32768, 0, 0)
	req := client(4, 3)
	const half = 10000
	for range 3 {
		for i := range half {
			w.ask(v4(i), req)
			w.ask(v6(i), req)
		}
		w.now = w.now.Add(64 * time.Second)
	}
	if c := w.s.Counters(); c.Clients != 2*half || c.Evicted != 0 {
		t.Fatalf("%d clients kept, %d lost their place", c.Clients, c.Evicted)
	}
	all := w.s.Busiest(1 << 20)
	v6s := 0
	for _, c := range all {
		if c.Requests != 3 || c.Refused != 0 || c.Last.Sub(c.First) != 128*time.Second || c.Version != 4 {
			t.Fatalf("%+v", c)
		}
		if c.Addr.Is6() {
			v6s++
		}
	}
	if len(all) != 2*half || v6s != half {
		t.Fatalf("%d clients listed, %d of IPv6", len(all), v6s)
	}
}

func TestNeighboursAreOneClient(t *testing.T) {
	w := hub(t, 64, 0, 0)
	for _, a := range []string{"[2001:db8::1]:1", "[2001:db8::ffff:1]:2", "[2001:db8:0:1::1]:3", "10.0.0.1:4", "10.0.0.1:5", "10.0.0.2:6", "[::ffff:10.0.0.2]:7"} {
		w.ask(netip.MustParseAddrPort(a), client(4, 3))
	}
	if n := w.s.Counters().Clients; n != 4 {
		t.Errorf("%d clients, want 4", n)
	}
	keys := map[uint64]string{}
	for _, s := range []string{"::1", "127.0.0.1", "0.0.0.0", "fe80::1", "fe80::3", "2001:db8::", "255.255.255.255"} {
		a := netip.MustParseAddr(s)
		k := key(a, a.As16())
		if k == 0 || keys[k] != "" {
			t.Errorf("%s has the key of %q", s, keys[k])
		}
		keys[k] = s
	}
}

// A million addresses must neither grow the table nor push out clients that come
// back.
func TestSpoofedFlood(t *testing.T) {
	w := hub(t, 32768, time.Second, 8)
	req := client(4, 3)
	const regulars = 10000
	for range 2 {
		for i := range regulars {
			w.ask(v4(i), req)
		}
		w.now = w.now.Add(16 * time.Second)
	}
	before := heap()
	for i := range 1_000_000 {
		w.ask(v6(i), req)
		w.now = w.now.Add(50 * time.Microsecond)
	}
	if grown := int64(heap()) - int64(before); grown > 64<<10 {
		t.Errorf("heap grew by %d octets", grown)
	}
	left := 0
	for _, c := range w.s.Busiest(1 << 20) {
		if c.Addr.Is4() {
			left++
		}
	}
	if c := w.s.Counters(); left < regulars*99/100 || c.V6[Plain] != 1_000_000 || c.Clients > 32768 {
		t.Errorf("%d of %d regular clients left, %+v", left, regulars, c)
	}
	t.Logf("%d of %d regular clients left", left, regulars)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestTableSize(t *testing.T) {
	per := unsafe.Sizeof(slot{}) + unsafe.Sizeof(set{})/ways + unsafe.Sizeof(pair{})
	if per > 100 {
		t.Errorf("%d octets per client, New promises 100", per)
	}
	if s := New(20000, [2]uint64{}, nil); len(s.clients.slots) != 32768 {
		t.Errorf("%d slots", len(s.clients.slots))
	}
}

func TestRateLimit(t *testing.T) {
	w := hub(t, 64, time.Second, 8)
	req := client(4, 3)
	// A burst of 8 is served, then one a second.
	for range 8 {
		w.ask(v4(1), req)
	}
	if w.count(Plain) != 8 {
		t.Fatalf("burst: %+v", w.s.Counters())
	}
	for range 100 {
		w.now = w.now.Add(time.Second)
		w.ask(v4(1), req)
	}
	if w.count(Plain) != 108 {
		t.Fatalf("one a second: %+v", w.s.Counters())
	}
	// Another client isn't concerned.
	w.ask(v4(2), req)
	if w.count(Plain) != 109 {
		t.Fatal("another client is limited too")
	}
	// A clock set back by an hour doesn't lock anybody out.
	w.now = w.now.Add(-time.Hour)
	w.ask(v4(1), req)
	if w.count(Plain) != 110 {
		t.Fatal("clock set back: client is locked out")
	}
}

func TestFloodOfOneClient(t *testing.T) {
	w := hub(t, 64, time.Second, 8)
	req := client(4, 3)
	var kiss []byte
	for range 100_000 { // 10,000 a second for ten seconds
		if got, _ := w.ask(v4(1), req); len(got) == 48 && got[1] == 0 && kiss == nil {
			kiss = append(kiss, got...)
		}
		w.now = w.now.Add(100 * time.Microsecond)
	}
	c := w.s.Counters()
	if served := c.V4[Plain]; served < 100_000/leak*9/10 || served > 100_000/leak*11/10+18 {
		t.Errorf("%d served, want about one of %d", served, leak)
	}
	if k := c.V4[KissRate]; k < 1 || k > kisses {
		t.Errorf("%d kisses, want up to %d, then silence", k, kisses)
	}
	if want := "RATE"; kiss == nil || string(kiss[12:16]) != want || kiss[0] != 0xe4 || string(kiss[24:32]) != string(req[40:48]) {
		t.Errorf("kiss %x", kiss)
	}
	// After a pause all is well, and a next flood gets its kiss.
	w.now = w.now.Add(10 * time.Second)
	before := w.s.Counters()
	for range 30 {
		w.ask(v4(1), req)
	}
	after := w.s.Counters()
	if after.V4[Plain]-before.V4[Plain] < 8 || after.V4[KissRate] == before.V4[KissRate] {
		t.Errorf("after a pause: %+v", after)
	}
	if cs := w.s.Busiest(1 << 20); len(cs) != 1 || cs[0].Refused < 90_000 || cs[0].Requests != 100_030 {
		t.Errorf("%+v", cs)
	}
}

func TestRegularComesBeforeNewcomer(t *testing.T) {
	w := hub(t, 64, 0, 0)
	req := client(4, 3)
	for range 2 {
		for i := range 30 {
			w.ask(v4(i), req)
		}
		w.now = w.now.Add(3 * time.Second)
	}
	for i := range 10_000 {
		w.ask(v4(1000+i), req)
	}
	left := 0
	for _, c := range w.s.Busiest(1 << 20) {
		if c.Requests == 2 {
			left++
		}
	}
	if left < 28 {
		t.Errorf("%d of 30 regular clients left", left)
	}
}

func TestBusiest(t *testing.T) {
	w := hub(t, 1024, 0, 0)
	for i := range 300 {
		for range i%100 + 1 {
			w.ask(v4(i), client(4, 3))
		}
	}
	if cs := w.s.Busiest(4); len(cs) != 4 || cs[0].Requests != 100 || cs[2].Requests != 100 || cs[3].Requests != 99 || cs[0].Addr != v4(99).Addr() {
		t.Errorf("%+v", cs)
	}
	if cs := w.s.Busiest(1000); len(cs) != 300 || cs[299].Requests != 1 {
		t.Errorf("%d clients, at last %+v", len(cs), cs[len(cs)-1])
	}
}

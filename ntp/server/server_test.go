package server

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"komainu/ntp/keys"
	"komainu/ntp/nts"
	"komainu/ntp/packet"
	"komainu/ntp/wall"
)

var (
	hall  = netip.MustParseAddrPort("192.168.50.17:40123")
	hall6 = netip.MustParseAddrPort("[2001:db8:50::17]:40123")
)

func at(s string) wall.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return wall.Time(t.UnixNano())
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func key16(t testing.TB, id uint32, a keys.Algorithm) *keys.Key {
	t.Helper()
	k, err := keys.New(id, a, []byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// random is nothing to rely on.
func random(b []byte) {
	for i := range b {
		b[i] = byte(i * 7)
	}
}

// world is a server of two networks and a client of it.
type world struct {
	t   testing.TB
	s   *Server
	now wall.Time
	out [2048]byte
}

func newWorld(t testing.TB, change ...func(*Rules)) *world {
	t.Helper()
	set, err := keys.NewSet(key16(t, 5, keys.AES128), key16(t, 6, keys.MD5), key16(t, 7, keys.SHA256))
	if err != nil {
		t.Fatal(err)
	}
	r := Rules{
		Networks: []netip.Prefix{netip.MustParsePrefix("192.168.50.0/24"), netip.MustParsePrefix("2001:db8:50::/64"), netip.MustParsePrefix("fe80::/10")},
		Keys:     set,
	}
	for _, c := range change {
		c(&r)
	}
	w := &world{t: t, s: New(1024, [2]uint64{1, 2}, random), now: at("2026-04-01T00:00:10.5Z")}
	w.s.SetRules(r)
	w.s.SetState(&State{
		Stratum: 2, Precision: -25, RefID: 0x0a010005, RefTime: at("2026-04-01T00:00:00Z"),
		RootDelay: 40 * time.Millisecond, Dispersion: 20 * time.Millisecond, Growth: 15e-6, At: w.now,
	})
	return w
}

// client is a plain request whose transmit timestamp is 1 to 8.
func client(version, mode byte) []byte {
	b := make([]byte, packet.HeaderSize)
	b[0], b[2] = version<<3|mode, 6
	copy(b[40:], []byte{1, 2, 3, 4, 5, 6, 7, 8})
	return b
}

// ask sends a request 50 µs ago and returns the reply.
func (w *world) ask(from netip.AddrPort, req []byte) ([]byte, packet.Timestamp) {
	w.t.Helper()
	r := w.s.Respond(req, w.now.Add(-50*time.Microsecond), w.now, from, w.out[:])
	if r.N > len(req) {
		w.t.Fatalf("reply of %d octets to a request of %d", r.N, len(req))
	}
	return w.out[:r.N], r.Stamp
}

func (w *world) count(o Outcome) uint64 { c := w.s.Counters(); return c.V4[o] + c.V6[o] }

func TestGoldenReply(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		version, mode byte
		head          string
	}{
		{4, 3, "24"}, {3, 3, "1c"}, {4, 1, "22"}, {3, 1, "1a"},
	} {
		got, stamp := w.ask(hall, client(c.version, c.mode))
		want := unhex(t, c.head+"0206e7"+"00000a3e"+"0000051f"+"0a010005"+
			"ed76de8000000000"+"0102030405060708"+"ed76de8a7ffcb923"+"ed76de8a80000000")
		if !bytes.Equal(got, want) || stamp != 0 {
			t.Errorf("version %d, mode %d:\ngot  %x\nwant %x", c.version, c.mode, got, want)
		}
	}
	if c := w.s.Counters(); c.V4[Plain] != 4 || c.Clients != 1 {
		t.Errorf("%+v", c)
	}
}

func TestTransmitIsAfterReceive(t *testing.T) {
	w := newWorld(t)
	for _, d := range []time.Duration{0, time.Second} { // the clock was set back in between
		r := w.s.Respond(client(4, 3), w.now.Add(d), w.now, hall, w.out[:])
		var h packet.Header
		h.Parse(w.out[:r.N])
		if h.Receive&1 != 1 || h.Transmit != h.Receive+1 {
			t.Errorf("received %#x, sent %#x", uint64(h.Receive), uint64(h.Transmit))
		}
	}
}

func TestNotSynchronised(t *testing.T) {
	for name, st := range map[string]*State{
		"stratum 16": {Stratum: 16, RefID: 0x494e4954}, "leap 3": {Leap: 3, Stratum: 3}, "nothing": {},
		"17": {Stratum: 17, RootDelay: 1e6, Dispersion: time.Hour},
	} {
		w := newWorld(t)
		w.s.SetState(st)
		got, _ := w.ask(hall, client(4, 3))
		var h packet.Header
		h.Parse(got)
		if h.Leap != 3 || h.Stratum != 0 || packet.Letters(h.RefID) != "" || h.RootDispersion.Duration() < 16*time.Second {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

func TestDispersionGrows(t *testing.T) {
	s := State{Dispersion: time.Millisecond, Growth: 1e-5, At: 1000e9}
	for _, c := range []struct {
		now  wall.Time
		want time.Duration
	}{
		{1000e9, time.Millisecond}, {1100e9, 2 * time.Millisecond}, {900e9, time.Millisecond},
	} {
		if got := s.RootDispersion(c.now); got != c.want {
			t.Errorf("at %d: %v, want %v", c.now, got, c.want)
		}
	}
}

func TestLeapAndEra(t *testing.T) {
	w := newWorld(t)
	w.s.SetState(&State{Leap: 1, Stratum: 2, RefTime: at("2036-02-07T06:00:00Z"), At: w.now})
	w.now = at("2036-02-07T06:28:16.000020000Z") // received in era 0, sent in era 1
	got, _ := w.ask(hall, client(4, 3))
	var h packet.Header
	h.Parse(got)
	if h.Leap != 1 || h.Receive>>32 != 0xffffffff || h.Transmit>>32 != 0 || h.Transmit.Sub(h.Receive) != 50*time.Microsecond {
		t.Errorf("%+v", h)
	}
	if h.Receive.Wall(w.now) != w.now.Add(-50*time.Microsecond) {
		t.Error("receive timestamp is in the wrong era")
	}
}

// Everything that is not to be answered, and under which name it is counted.
func TestDropped(t *testing.T) {
	plain := client(4, 3)
	with := func(n int, b ...byte) []byte { return append(append(client(4, 3), b...), make([]byte, n-len(b))...) }
	for _, c := range []struct {
		name string
		from string
		req  []byte
		want Outcome
	}{
		{"other network", "192.168.51.1:123", plain, Refused},
		{"other network v6", "[2001:db8:51::1]:123", plain, Refused},
		{"port 0", "192.168.50.1:0", plain, Refused},
		{"empty", "192.168.50.1:123", nil, Malformed},
		{"short", "192.168.50.1:123", plain[:47], Malformed},
		{"one octet more", "192.168.50.1:123", with(1), Malformed},
		{"crypto-NAK", "192.168.50.1:123", with(4), Malformed},
		{"field too long", "192.168.50.1:123", with(28, 1, 4, 0, 32), Malformed},
		{"field too short", "192.168.50.1:123", with(28, 1, 4, 0, 8), Malformed},
		{"field of zero", "192.168.50.1:123", with(28), Malformed},
		{"longer than the room", "192.168.50.1:123", with(4000, 1, 4, 4000>>8, 4000&0xff), Malformed},
		{"NTPv1", "192.168.50.1:123", client(1, 3), BadVersion},
		{"NTPv2", "192.168.50.1:123", client(2, 3), BadVersion},
		{"NTPv5", "192.168.50.1:123", client(5, 3), BadVersion},
		{"mode 0", "192.168.50.1:123", client(4, 0), BadMode},
		{"mode 2", "192.168.50.1:123", client(4, 2), BadMode},
		{"mode 4", "192.168.50.1:123", client(4, 4), BadMode},
		{"mode 5", "192.168.50.1:123", client(4, 5), BadMode},
		{"mode 6", "192.168.50.1:123", client(4, 6), BadMode},
		{"mode 7", "192.168.50.1:123", client(3, 7), BadMode},
	} {
		w := newWorld(t)
		got, _ := w.ask(netip.MustParseAddrPort(c.from), c.req)
		if len(got) != 0 || w.count(c.want) != 1 {
			t.Errorf("%s: answered %x, %+v", c.name, got, w.s.Counters())
		}
	}
}

func TestNetworks(t *testing.T) {
	var ps []netip.Prefix
	for _, s := range []string{"10.0.0.0/8", "10.1.0.0/16", "192.168.50.128/25", "192.168.50.0/25", "0.0.0.0/32", "2001:db8::/33", "2001:db8::/32", "::ffff:172.16.0.0/108", "255.255.255.255/32"} {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	n := merge(append(ps, netip.Prefix{}))
	for _, a := range []string{"10.0.0.0", "10.255.255.255", "10.1.2.3", "192.168.50.0", "192.168.50.255", "0.0.0.0", "2001:db8:ffff::1", "172.31.255.255", "255.255.255.255"} {
		if !n.contain(netip.MustParseAddr(a)) {
			t.Errorf("%s isn't served", a)
		}
	}
	for _, a := range []string{"9.255.255.255", "11.0.0.0", "192.168.49.255", "192.168.51.0", "0.0.0.1", "2001:db7:ffff::", "2001:db9::", "::", "172.32.0.0", "255.255.255.254"} {
		if n.contain(netip.MustParseAddr(a)) {
			t.Errorf("%s is served", a)
		}
	}
	all := merge([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")})
	if len(all) != 2 || !all.contain(hall.Addr()) || !all.contain(hall6.Addr()) {
		t.Error("default routes don't serve all")
	}
	w := newWorld(t)
	for _, from := range []string{"[::ffff:192.168.50.9]:123", "[fe80::1%eth0]:123"} {
		if got, _ := w.ask(netip.MustParseAddrPort(from), client(4, 3)); len(got) != 48 {
			t.Errorf("%s isn't served", from)
		}
	}
	if c := w.s.Counters(); c.V4[Plain] != 1 || c.V6[Plain] != 1 {
		t.Errorf("%+v", c)
	}
}

func TestUnknownFieldsAreIgnored(t *testing.T) {
	w := newWorld(t)
	f := append([]byte{0x7f, 0, 0, 28}, make([]byte, 24)...)
	got, _ := w.ask(hall, append(client(4, 3), f...))
	if len(got) != 48 || w.count(Plain) != 1 {
		t.Errorf("reply of %d octets, %+v", len(got), w.s.Counters())
	}
}

func TestKeyed(t *testing.T) {
	worker := keys.NewWorker()
	field := append([]byte{0x7f, 0, 0, 16}, make([]byte, 12)...)
	for _, c := range []struct {
		name   string
		legacy bool
		id     uint32
		alg    keys.Algorithm
		req    []byte
		ok     bool
	}{
		{"AES", false, 5, keys.AES128, client(4, 3), true},
		{"AES and a field", false, 5, keys.AES128, append(client(4, 3), field...), true},
		{"SHA-256", false, 7, keys.SHA256, client(4, 3), true},
		{"SHA-256 in NTPv3", false, 7, keys.SHA256, client(3, 3), true},
		{"symmetric active", false, 5, keys.AES128, client(4, 1), true},
		{"MD5 refused", false, 6, keys.MD5, client(4, 3), false},
		{"MD5 enabled", true, 6, keys.MD5, client(4, 3), true},
		{"unknown key", false, 8, keys.AES128, client(4, 3), false},
		{"other algorithm", false, 5, keys.SHA256, client(4, 3), false},
	} {
		w := newWorld(t, func(r *Rules) { r.Legacy = c.legacy })
		k := key16(t, c.id, c.alg)
		got, _ := w.ask(hall, worker.Append(k, c.req, c.req))
		if !c.ok {
			if len(got) != 52 || !bytes.Equal(got[48:], make([]byte, 4)) || w.count(CryptoNAK) != 1 {
				t.Errorf("%s: %x", c.name, got)
			}
			continue
		}
		if len(got) != 48+k.Size(c.req[0]>>3&7) || !worker.Verify(k, got[:48], got[48:]) || w.count(Keyed) != 1 {
			t.Errorf("%s: %x", c.name, got)
		}
	}
}

func TestInterleaved(t *testing.T) {
	w := newWorld(t)
	var h packet.Header
	var c1, c2, c3 packet.Timestamp = 0x1111, 0x2222, 0x3333 // the client's clock
	ask := func(from netip.AddrPort, q packet.Header) (packet.Header, packet.Timestamp) {
		t.Helper()
		w.now = w.now.Add(4 * time.Second)
		b := make([]byte, packet.HeaderSize)
		q.Version, q.Mode = 4, packet.ModeClient
		q.Put(b)
		got, stamp := w.ask(from, b)
		var h packet.Header
		if !h.Parse(got) {
			t.Fatal("no reply")
		}
		return h, stamp
	}
	basic := func(what string, h packet.Header, origin packet.Timestamp) {
		t.Helper()
		if h.Origin != origin || h.Transmit != packet.Stamp(w.now)&^1 || h.Receive&1 == 0 {
			t.Fatalf("%s isn't basic: %+v", what, h)
		}
	}

	h, stamp := ask(hall, packet.Header{Transmit: c1})
	basic("first reply", h, c1)
	if stamp != 0 {
		t.Fatal("transmit stamp wanted for a client of whom nothing is known")
	}
	h, stamp = ask(hall, packet.Header{Origin: h.Receive, Receive: c1, Transmit: c2})
	basic("second reply: its stamp wasn't kept", h, c2)
	if stamp != h.Receive {
		t.Fatal("transmit stamp not wanted")
	}
	left := w.now.Add(7 * time.Microsecond)
	w.s.Sent(stamp, left)

	second := h
	h, stamp = ask(netip.AddrPortFrom(hall.Addr(), 999), packet.Header{Origin: second.Receive, Receive: c2, Transmit: c3})
	if h.Origin != c2 || h.Transmit != packet.Stamp(left)&^1 || h.Receive.Wall(w.now) != w.now.Add(-50*time.Microsecond) || w.s.Counters().Interleaved != 1 {
		t.Fatalf("third reply isn't interleaved: %+v", h)
	}
	w.s.Sent(stamp, w.now)
	third := h

	h, _ = ask(hall, packet.Header{Origin: second.Receive, Receive: c2, Transmit: c3})
	basic("used twice", h, c3)
	h, _ = ask(netip.MustParseAddrPort("192.168.50.18:123"), packet.Header{Transmit: c1})
	h, _ = ask(netip.MustParseAddrPort("192.168.50.18:123"), packet.Header{Origin: third.Receive, Receive: c1, Transmit: c3})
	basic("another client's", h, c3)
	h, _ = ask(hall, packet.Header{Origin: third.Receive, Receive: c3, Transmit: c3})
	basic("receive equals transmit", h, c3)
	h, _ = ask(hall, packet.Header{Origin: third.Receive, Receive: c2, Transmit: c3})
	if h.Origin != c2 {
		t.Fatalf("third reply's stamp is lost: %+v", h)
	}
	h, _ = ask(hall, packet.Header{Origin: h.Receive, Receive: c2, Transmit: c3})
	basic("the kernel told nothing", h, c3)

	w.s.Sent(h.Receive, w.now)
	w.s.Stepped()
	h, _ = ask(hall, packet.Header{Origin: h.Receive, Receive: c2, Transmit: c3})
	basic("after a step", h, c3)
	w.s.Sent(12345, w.now) // unknown: nothing happens
	if cs := w.s.Busiest(1 << 20); len(cs) != 2 || cs[0].Interleaved == cs[1].Interleaved {
		t.Errorf("%+v", cs)
	}
}

func TestReceiveStampsAreUnique(t *testing.T) {
	p := newPairs(64, 9)
	seen := map[packet.Timestamp]bool{}
	for range 20 {
		rx := p.save(0xed77230a00000001, 1)
		if seen[rx] {
			t.Fatalf("%#x given out twice", uint64(rx))
		}
		seen[rx] = true
	}
}

// NTS replies are tested in ntp/nts; here, that they find their way.
func TestNTS(t *testing.T) {
	ring, err := nts.NewKeyring(at("2026-04-01T00:00:00Z"), random)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(r *Rules) { r.NTS = ring })
	shared := &nts.Keys{C2S: [32]byte{1}, S2C: [32]byte{2}}
	c, err := nts.NewClient(shared, ring.Cookies(1, shared, random), random)
	if err != nil {
		t.Fatal(err)
	}
	req, err := c.Request(client(4, 3))
	if err != nil {
		t.Fatal(err)
	}
	got, _ := w.ask(hall, req)
	if err := c.Response(bytes.Clone(got)); err != nil || w.count(NTSServed) != 1 || !bytes.Equal(got[24:32], req[40:48]) {
		t.Fatalf("reply %x: %v, %+v", got, err, w.s.Counters())
	}
	req[60] ^= 1 // unique identifier
	if got, _ = w.ask(hall, req); packet.Letters(uint32(got[12])<<24|uint32(got[13])<<16|uint32(got[14])<<8|uint32(got[15])) != "NTSN" || w.count(NTSNAK) != 1 {
		t.Errorf("forged: %x", got)
	}
	w.s.SetRules(Rules{Networks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}})
	if got, _ = w.ask(hall, req); len(got) != 48 {
		t.Errorf("NTS isn't offered: fields are to be ignored: %x", got)
	}
	w.s.SetRules(Rules{Networks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, NTS: ring})

	unique := append([]byte{1, 4, 0, 36}, bytes.Repeat([]byte{0xab}, 32)...)
	got, _ = w.ask(hall, append(client(4, 3), unique...))
	if len(got) != 84 || !bytes.Equal(got[48:], unique) || w.count(Plain) != 2 {
		t.Errorf("unique identifier alone: %x", got)
	}
	cookie := append([]byte{2, 4, 0, 104}, make([]byte, 100)...)
	auth := append([]byte{4, 4, 0, 40, 0, 16, 0, 16}, make([]byte, 32)...)
	got, _ = w.ask(hall, bytes.Join([][]byte{client(4, 3), unique, cookie, auth}, nil))
	var h packet.Header
	if h.Parse(got); h.RefID != packet.KissNTSNAK || h.Stratum != 0 || !bytes.Equal(got[48:], unique) || w.count(NTSNAK) != 2 {
		t.Errorf("unknown cookie: %x, %+v", got, w.s.Counters())
	}
	got, _ = w.ask(hall, bytes.Join([][]byte{client(4, 3), cookie, auth}, nil))
	if len(got) != 0 || w.count(BadNTS) != 1 {
		t.Errorf("no unique identifier: %x", got)
	}
}

package server

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"komainu/ntp/keys"
	"komainu/ntp/nts"
	"komainu/ntp/packet"
	"komainu/ntp/wall"
)

func TestNoAllocation(t *testing.T) {
	ring, err := nts.NewKeyring(0, random)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(r *Rules) { r.NTS, r.Every, r.Burst = ring, time.Millisecond, 4 })
	shared := &nts.Keys{C2S: [32]byte{1}, S2C: [32]byte{2}}
	c, err := nts.NewClient(shared, ring.Cookies(1, shared, random), random)
	if err != nil {
		t.Fatal(err)
	}
	protected, err := c.Request(client(4, 3))
	if err != nil {
		t.Fatal(err)
	}
	m := client(4, 3)
	for name, req := range map[string][]byte{
		"plain": m, "keyed": keys.NewWorker().Append(key16(t, 5, keys.AES128), m, m), "nts": protected,
		"dropped": client(4, 6), "malformed": append(client(4, 3), 1),
	} {
		for _, pause := range []time.Duration{time.Second, 0} { // with and without kisses and refusals
			w.s.Respond(req, w.now, w.now, hall, w.out[:]) // key schedules of a new NTS client
			if n := testing.AllocsPerRun(1000, func() {
				w.now = w.now.Add(pause)
				w.s.Respond(req, w.now, w.now, hall6, w.out[:])
			}); n != 0 {
				t.Errorf("%s, every %v: %v allocations", name, pause, n)
			}
		}
	}
	q := packet.Header{Version: 4, Mode: 3, Receive: 1, Transmit: 2}
	if n := testing.AllocsPerRun(1000, func() {
		w.now = w.now.Add(time.Second)
		q.Put(m)
		r := w.s.Respond(m, w.now, w.now, hall6, w.out[:])
		w.s.Sent(r.Stamp, w.now)
		var h packet.Header
		h.Parse(w.out[:r.N])
		q.Origin = h.Receive
	}); n != 0 || w.s.Counters().Interleaved < 900 {
		t.Errorf("interleaved: %v allocations, %+v", n, w.s.Counters())
	}
}

func FuzzRespond(f *testing.F) {
	m := client(4, 3)
	for v := byte(2); v < 6; v++ {
		for mode := range byte(8) {
			f.Add(client(v, mode), int64(at("2026-04-01T00:00:00Z")), uint32(1))
		}
	}
	f.Add(keys.NewWorker().Append(key16(f, 5, keys.AES128), m, m), int64(at("2036-02-07T06:28:16Z")), uint32(2))
	f.Add(append(m, 0, 0, 0, 0), int64(0), uint32(3))
	unique := append([]byte{1, 4, 0, 36}, bytes.Repeat([]byte{0xab}, 32)...)
	cookie := append([]byte{2, 4, 0, 104}, make([]byte, 100)...)
	auth := append([]byte{4, 4, 0, 40, 0, 16, 0, 16}, make([]byte, 32)...)
	f.Add(bytes.Join([][]byte{m, unique}, nil), int64(-1), uint32(4))
	f.Add(bytes.Join([][]byte{m, unique, cookie, auth}, nil), int64(1), uint32(5))
	ring, err := nts.NewKeyring(0, random)
	if err != nil {
		f.Fatal(err)
	}
	shared := &nts.Keys{C2S: [32]byte{1}, S2C: [32]byte{2}}
	for _, jar := range []int{1, 8} {
		c, err := nts.NewClient(shared, ring.Cookies(jar, shared, random), random)
		if err != nil {
			f.Fatal(err)
		}
		req, err := c.Request(client(4, 3))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(req, int64(2), uint32(6))
	}
	w := hub(f, 64, time.Second, 2)
	w.s.rules.NTS = ring
	f.Fuzz(func(t *testing.T, req []byte, now int64, who uint32) {
		from := v4(int(who % (1 << 24)))
		if who&(1<<24) != 0 {
			from = v6(int(who))
		}
		now %= 1 << 60
		before := bytes.Clone(req)
		c0 := w.s.Counters()
		r := w.s.Respond(req, wall.Time(now), wall.Time(now), from, w.out[:])
		c1 := w.s.Counters()
		if !bytes.Equal(req, before) {
			t.Fatal("request was changed")
		}
		total := uint64(0)
		for i := range c1.V4 {
			total += c1.V4[i] - c0.V4[i] + c1.V6[i] - c0.V6[i]
		}
		if total != 1 {
			t.Fatalf("counted %d times", total)
		}
		if r.N == 0 {
			if r.Stamp != 0 {
				t.Fatal("transmit stamp of nothing wanted")
			}
			return
		}
		var q, h packet.Header
		q.Parse(req)
		if r.N > len(req) || !h.Parse(w.out[:r.N]) {
			t.Fatalf("reply of %d octets to a request of %d", r.N, len(req))
		}
		if q.Mode != 3 && q.Mode != 1 || h.Mode != q.Mode+1 || h.Version != q.Version || q.Version < 3 || q.Version > 4 {
			t.Fatalf("version %d, mode %d answered by version %d, mode %d", q.Version, q.Mode, h.Version, h.Mode)
		}
		if h.Origin != q.Transmit && h.Origin != q.Receive {
			t.Fatal("origin isn't the request's")
		}
		if _, err := packet.Split(w.out[:r.N]); err != nil {
			t.Fatalf("reply: %v", err)
		}
		if r.Stamp != 0 {
			w.s.Sent(r.Stamp, wall.Time(now))
		}
	})
}

func BenchmarkRespond(b *testing.B) {
	w := hub(b, 32768, time.Second, 8)
	w.s.rules.Keys, _ = keys.NewSet(key16(b, 5, keys.AES128))
	m := client(4, 3)
	from := make([]netip.AddrPort, 20000)
	for i := range from {
		from[i] = v4(i)
	}
	for _, c := range []struct {
		name    string
		clients int
		req     []byte
		pause   time.Duration
	}{
		{"plain", 1, m, time.Second}, {"plain-20000", 20000, m, time.Millisecond},
		{"limited", 1, m, 0},
		{"keyed", 1, keys.NewWorker().Append(key16(b, 5, keys.AES128), m, m), time.Second},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				w.now = w.now.Add(c.pause)
				w.s.Respond(c.req, w.now, w.now, from[i], w.out[:])
				if i++; i == c.clients {
					i = 0
				}
			}
		})
	}
	b.Run("spoofed", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			w.now = w.now.Add(20 * time.Microsecond)
			w.s.Respond(m, w.now, w.now, v6(i), w.out[:])
			i++
		}
	})
}

package ntpquery

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"komainu/drivers/clock"
	"komainu/ntp/keys"
	"komainu/ntp/packet"
	"komainu/ntp/source"
	"komainu/ntp/wall"
)

// code of the error, or nothing.
func codeOf(t *testing.T, err error) string {
	t.Helper()
	var e *Error
	switch {
	case err == nil:
		return ""
	case !errors.As(err, &e):
		t.Fatalf("not an *Error: %v", err)
	}
	return e.Code
}

func TestQuery(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		s := serve(t, address, func(s *server, _ int, req []byte, from netip.AddrPort) { s.send(from, put(answer(req))) })
		before := clock.Read()
		r, err := Query(context.Background(), target(s))
		if err != nil {
			t.Fatal(err)
		}
		after := clock.Read()
		for i, x := range []wall.Time{r.Sent, r.ServerReceived, r.Received, r.At.Wall} {
			if x < before.Wall || x > after.Wall {
				t.Errorf("%s: time %d of the reply is not between before and after: %+v", address, i, r)
			}
		}
		if r.Sent > r.ServerReceived || r.ServerSent > r.Received || r.At.Raw < before.Raw {
			t.Errorf("%s: out of order: %+v", address, r)
		}
		if age := r.ServerSent.Sub(r.RefTime); age < 9*time.Second || age > 11*time.Second {
			t.Errorf("reference time %v before", age)
		}
		want := source.Reply{
			Stratum: 2, Precision: -23, Poll: 6, RefID: 0xc0000201, RootDelay: r.RootDelay, RootDispersion: r.RootDispersion,
			Sent: r.Sent, ServerReceived: r.ServerReceived, ServerSent: r.ServerSent, Received: r.Received, At: r.At, RefTime: r.RefTime,
		}
		if diff := cmp.Diff(want, r); diff != "" || r.RootDelay.Round(50*time.Microsecond) != time.Millisecond {
			t.Errorf("root delay %v %s", r.RootDelay, diff)
		}
	}
}

// The kernel stamps what leaves: between the call before and the one after.
func TestSendStamp(t *testing.T) {
	s := serve(t, "127.0.0.1:0", func(*server, int, []byte, netip.AddrPort) {})
	conn, err := dial(target(s))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	before := clock.Read().Wall
	if _, err := conn.Write([]byte("datagram")); err != nil {
		t.Fatal(err)
	}
	after := clock.Read().Wall
	if at := sendStamp(conn); at < before || at > after {
		t.Errorf("sent at %d, written from %d to %d", at, before, after)
	}
}

// What comes first is bad, what comes to the next question is good; or all of
// it is bad.
func TestBadDatagrams(t *testing.T) {
	change := func(f func(h *packet.Header)) func(req []byte) []byte {
		return func(req []byte) []byte {
			h := answer(req)
			f(&h)
			return put(h)
		}
	}
	for name, bad := range map[string]func(req []byte) []byte{
		"stale origin":     change(func(h *packet.Header) { h.Origin-- }),
		"no origin":        change(func(h *packet.Header) { h.Origin = 0 }),
		"a client's mode":  change(func(h *packet.Header) { h.Mode = packet.ModeClient }),
		"control mode":     change(func(h *packet.Header) { h.Mode = packet.ModeControl }),
		"version 2":        change(func(h *packet.Header) { h.Version = 2 }),
		"no transmit time": change(func(h *packet.Header) { h.Transmit = 0 }),
		"sent before it was received": change(func(h *packet.Header) {
			h.Receive = h.Transmit + 1<<32
		}),
		"47 octets": func(req []byte) []byte { return put(answer(req))[:47] },
		"empty":     func([]byte) []byte { return nil },
		"forged kiss": change(func(h *packet.Header) {
			h.Origin, h.Stratum, h.RefID = h.Origin+1, 0, packet.KissDeny
		}),
	} {
		s := serve(t, "127.0.0.1:0", func(s *server, n int, req []byte, from netip.AddrPort) {
			if n > 1 {
				s.send(from, put(answer(req)))
				return
			}
			s.send(from, bad(req))
		})
		to := target(s)
		if r, err := Query(context.Background(), to); err != nil || r.Stratum != 2 || to.Discarded.Load() != 1 || s.asked.Load() != 2 {
			t.Errorf("%s, then a good one: %+v, %v, %d discarded", name, r, err, to.Discarded.Load())
		}
		always := serve(t, "127.0.0.1:0", func(s *server, _ int, req []byte, from netip.AddrPort) { s.send(from, bad(req)) })
		to = target(always)
		_, err := Query(context.Background(), to)
		if codeOf(t, err) != BadReply || to.Discarded.Load() != attempts || always.asked.Load() != attempts {
			t.Errorf("always %s: %v, %d discarded", name, err, to.Discarded.Load())
		}
		ports := 0
		always.ports.Range(func(any, any) bool { ports++; return true })
		if ports != attempts {
			t.Errorf("%d questions from %d ports", attempts, ports)
		}
	}
}

// A bad datagram and then silence is told as the bad datagram.
func TestBadThenSilence(t *testing.T) {
	s := serve(t, "127.0.0.1:0", func(s *server, n int, req []byte, from netip.AddrPort) {
		if n == 1 {
			s.send(from, req)
		}
	})
	to := target(s)
	to.Timeout = 100 * time.Millisecond
	if _, err := Query(context.Background(), to); codeOf(t, err) != BadReply {
		t.Error(err)
	}
}

// Stamps of before and after a step don't make an offset.
func TestJumped(t *testing.T) {
	before := wall.Reading{Raw: 1e9, Wall: 5e18}
	for off, want := range map[time.Duration]bool{0: false, 900 * time.Microsecond: false, 10 * time.Millisecond: false, 20 * time.Millisecond: true, -2 * time.Second: true} {
		x := exchange{before: before, at: wall.Reading{Raw: 1.1e9, Wall: before.Wall.Add(100*time.Millisecond + off)}}
		if got := x.jumped(); got != want {
			t.Errorf("the clock is %v off after 100 ms: %v", off, got)
		}
	}
}

func TestKissAndStratum16(t *testing.T) {
	for name, c := range map[string]struct {
		change func(h *packet.Header)
		want   source.Reply
	}{
		"RATE":               {func(h *packet.Header) { h.Stratum, h.RefID, h.Leap = 0, packet.KissRate, 3 }, source.Reply{Kiss: "RATE", Leap: 3, RefID: packet.KissRate}},
		"DENY, no time":      {func(h *packet.Header) { h.Stratum, h.RefID, h.Transmit, h.Receive = 0, packet.KissDeny, 0, 0 }, source.Reply{Kiss: "DENY", RefID: packet.KissDeny}},
		"nothing printing":   {func(h *packet.Header) { h.Stratum, h.RefID = 0, 1 }, source.Reply{RefID: 1}},
		"stratum 16 as sent": {func(h *packet.Header) { h.Stratum, h.RefID, h.Leap = 0, 0, 3 }, source.Reply{Leap: 3}},
		"not synchronised":   {func(h *packet.Header) { h.Stratum, h.RefID, h.Leap = 16, 0, 3 }, source.Reply{Stratum: 16, Leap: 3}},
	} {
		s := serve(t, "127.0.0.1:0", func(s *server, _ int, req []byte, from netip.AddrPort) {
			h := answer(req)
			c.change(&h)
			s.send(from, put(h))
		})
		to := target(s)
		r, err := Query(context.Background(), to)
		got := source.Reply{Kiss: r.Kiss, Leap: r.Leap, Stratum: r.Stratum, RefID: r.RefID, Authenticated: r.Authenticated}
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil || s.asked.Load() != 1 {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}

func TestSilence(t *testing.T) {
	other, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s := serve(t, "127.0.0.1:0", func(s *server, n int, req []byte, from netip.AddrPort) {
		if n == 1 { // from another address
			other.WriteToUDPAddrPort(put(answer(req)), from)
			return
		}
		s.send(from, put(answer(req)))
		s.send(from, put(answer(req))) // duplicated
	})
	to := target(s)
	to.Timeout = 80 * time.Millisecond
	if _, err := Query(context.Background(), to); codeOf(t, err) != Timeout {
		t.Error(err)
	}
	to.Timeout = 2 * time.Second
	for range 3 {
		if _, err := Query(context.Background(), to); err != nil {
			t.Error(err)
		}
	}
	if n := to.Discarded.Load(); n != 0 {
		t.Errorf("%d datagrams discarded: they must not even arrive", n)
	}
}

// An answer that comes too late meets a closed port, not the next question.
func TestLate(t *testing.T) {
	var first []byte
	var to1 netip.AddrPort
	s := serve(t, "127.0.0.1:0", func(s *server, n int, req []byte, from netip.AddrPort) {
		if n == 1 {
			first, to1 = put(answer(req)), from
			return
		}
		s.send(to1, first)
		s.send(from, put(answer(req)))
	})
	to := target(s)
	to.Timeout = 50 * time.Millisecond
	if _, err := Query(context.Background(), to); codeOf(t, err) != Timeout {
		t.Error(err)
	}
	to.Timeout = 2 * time.Second
	if _, err := Query(context.Background(), to); err != nil || to.Discarded.Load() != 0 {
		t.Errorf("%v, %d discarded", err, to.Discarded.Load())
	}
}

func TestNobodyAndNoWay(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	nobody := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	conn.Close()
	to := Target{Addr: nobody, Timeout: 2 * time.Second}
	if _, err := Query(context.Background(), to); codeOf(t, err) != Refused {
		t.Error(err)
	}
	to.Local = netip.MustParseAddr("192.0.2.7") // no address of ours
	if _, err := Query(context.Background(), to); codeOf(t, err) != Unreachable {
		t.Error(err)
	}
	if _, err := Query(context.Background(), Target{Addr: nobody}); codeOf(t, err) != Timeout {
		t.Error(err)
	}
}

func TestLocal(t *testing.T) {
	seen := make(chan netip.Addr, 1)
	s := serve(t, "127.0.0.1:0", func(s *server, _ int, req []byte, from netip.AddrPort) {
		seen <- from.Addr()
		s.send(from, put(answer(req)))
	})
	to := target(s)
	to.Local = netip.MustParseAddr("127.0.0.9")
	if _, err := Query(context.Background(), to); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; got.Unmap() != to.Local {
		t.Errorf("asked from %v", got)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	s := serve(t, "127.0.0.1:0", func(*server, int, []byte, netip.AddrPort) { cancel() })
	to := target(s)
	to.Timeout = time.Minute
	if _, err := Query(ctx, to); codeOf(t, err) != Timeout || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := Query(ctx, to); !errors.Is(err, context.Canceled) || s.asked.Load() != 1 {
		t.Errorf("%v, asked %d times", err, s.asked.Load())
	}
}

func TestManyAtOnce(t *testing.T) {
	var all sync.WaitGroup
	for range 8 {
		s := serve(t, "127.0.0.1:0", func(s *server, _ int, req []byte, from netip.AddrPort) { s.send(from, put(answer(req))) })
		all.Go(func() {
			for range 4 {
				if _, err := Query(context.Background(), target(s)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func TestKey(t *testing.T) {
	secret := []byte("0123456789abcdef")
	mac := func(h packet.Header, id uint32, secret string) []byte {
		sum := sha256.Sum256(append([]byte(secret), put(h)...))
		return append(put(h, binary.BigEndian.AppendUint32(nil, id)...), sum[:20]...)
	}
	nak := func(h packet.Header) []byte { return put(h, 0, 0, 0, 0) }
	for name, c := range map[string]struct {
		first, then func(h packet.Header) []byte
		code        string
		discarded   int64
	}{
		"good": {then: func(h packet.Header) []byte { return mac(h, 7, string(secret)) }},
		"forged, then good": {
			first: func(h packet.Header) []byte { return mac(h, 7, "something else") },
			then:  func(h packet.Header) []byte { return mac(h, 7, string(secret)) }, discarded: 1,
		},
		"bad MAC":     {then: func(h packet.Header) []byte { return mac(h, 7, "something else") }, code: Auth, discarded: attempts},
		"another key": {then: func(h packet.Header) []byte { return mac(h, 8, string(secret)) }, code: Auth, discarded: attempts},
		"no MAC":      {then: func(h packet.Header) []byte { return put(h) }, code: Auth, discarded: attempts},
		"crypto-NAK":  {then: nak, code: Auth, discarded: attempts},
	} {
		s := serve(t, "127.0.0.1:0", func(s *server, n int, req []byte, from netip.AddrPort) {
			var q packet.Header
			q.Parse(req)
			if string(mac(q, 7, string(secret))) != string(req) {
				t.Errorf("%s: the question has not the MAC of the key", name)
			}
			if n == 1 && c.first != nil {
				s.send(from, c.first(answer(req)))
				return
			}
			s.send(from, c.then(answer(req)))
		})
		to := target(s)
		to.Key = key(t, 7, keys.SHA256, secret)
		r, err := Query(context.Background(), to)
		if codeOf(t, err) != c.code || r.Authenticated != (err == nil) || to.Discarded.Load() != c.discarded {
			t.Errorf("%s: %+v, %v, %d discarded", name, r, err, to.Discarded.Load())
		}
	}
	// A kiss counts without a MAC, but is told to be unauthentic.
	s := serve(t, "127.0.0.1:0", func(s *server, _ int, req []byte, from netip.AddrPort) {
		h := answer(req)
		h.Stratum, h.RefID = 0, packet.KissRate
		s.send(from, put(h))
	})
	to := target(s)
	to.Key = key(t, 7, keys.SHA256, secret)
	if r, err := Query(context.Background(), to); err != nil || r.Kiss != "RATE" || r.Authenticated {
		t.Errorf("%+v, %v", r, err)
	}
}

func key(t *testing.T, id uint32, a keys.Algorithm, secret []byte) *keys.Key {
	t.Helper()
	k, err := keys.New(id, a, secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestResolve(t *testing.T) {
	for name, want := range map[string]string{"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "fd00::1": "fd00::1"} {
		got, err := Resolve(context.Background(), name)
		if err != nil || len(got) != 1 || got[0].String() != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	got, err := Resolve(context.Background(), "localhost") // from /etc/hosts
	if err != nil || len(got) == 0 || !got[0].IsLoopback() {
		t.Errorf("localhost: %v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Resolve(ctx, "name.invalid"); codeOf(t, err) == "" {
		t.Error("a lookup that was cancelled gave addresses")
	}
}

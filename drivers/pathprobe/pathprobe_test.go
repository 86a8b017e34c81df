package pathprobe

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var key = []byte("0123456789abcdef0123456789abcdef")

// freePort finds a UDP port of addr that nobody uses at the moment.
func freePort(t *testing.T, addr netip.Addr) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// end is an open socket and what it heard.
type end struct {
	*Socket
	heard chan any
}

func open(t *testing.T, cfg Config) *end {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &end{s, make(chan any, 64)}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, func(x any) { e.heard <- x }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return e
}

// pair is a path over the loopback.
func pair(t *testing.T, addr string, theirs []byte) (hall, dc *end) {
	a := netip.MustParseAddr(addr)
	here, there := freePort(t, a), freePort(t, a)
	return open(t, Config{Name: "main", Local: here, Remote: there, Key: key}), open(t, Config{Name: "main", Local: there, Remote: here, Key: theirs})
}

func (e *end) next(t *testing.T) any {
	t.Helper()
	select {
	case x := <-e.heard:
		return x
	case <-time.After(time.Minute):
		t.Fatal("nothing was heard for a minute")
	}
	return nil
}

func TestEchoesAndTrains(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1"} {
		t.Run(addr, func(t *testing.T) {
			hall, dc := pair(t, addr, key)
			dc.Tell(990)
			for id, size := range []int{hall.Least(), 576, 1420, 9000} {
				if err := hall.Probe(uint64(id), size); err != nil {
					t.Fatal(err)
				}
				e, ok := hall.next(t).(*Echo)
				if !ok || e.ID != uint64(id) || e.Size != size || e.Found != 990 || e.RTT <= 0 || e.RTT > 5*time.Second {
					t.Errorf("%d bytes: %+v", size, e)
				}
			}
			if err := hall.SendTrain(7, 1420, 24); err != nil {
				t.Fatal(err)
			}
			if x, ok := hall.next(t).(*Train); !ok || x.ID != 7 || x.Size != 1420 || x.Count != 24 || x.Span <= 0 || x.Span > 5*time.Second {
				t.Errorf("%+v", x)
			}
			for _, size := range []int{0, hall.Least() - 1, maxPacket + 1} {
				if hall.Probe(1, size) == nil {
					t.Errorf("a probe of %d bytes was sent", size)
				}
			}
			if err := hall.Probe(1, maxPacket); addr == "127.0.0.1" && err != nil && !errors.Is(err, ErrTooBig) {
				t.Error(err)
			}
		})
	}
}

// tap is a peer of a socket that the test plays itself.
func tap(t *testing.T) (hall *end, conn *net.UDPConn) {
	a := netip.MustParseAddr("127.0.0.1")
	here := freePort(t, a)
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return open(t, Config{Name: "main", Local: here, Remote: conn.LocalAddr().(*net.UDPAddr).AddrPort(), Key: key}), conn
}

func (m message) bytes(size int, key []byte) []byte {
	b := make([]byte, size)
	m.put(b, key)
	return b
}

// TestOnlyAnswersToQuestions: an answer counts once, with the size that was
// asked about, from the peer, under the key; another one isn't heard.
func TestOnlyAnswersToQuestions(t *testing.T) {
	hall, conn := tap(t)
	buf := make([]byte, 2000)
	ask := func(id uint64) message {
		t.Helper()
		if err := hall.Probe(id, 600); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		m, err := parse(buf[:n], key)
		if err != nil || n != 600-28 || m.size != 600 {
			t.Fatalf("%d bytes, %+v, %v", n, m, err)
		}
		return m
	}
	to := net.UDPAddrFromAddrPort(hall.cfg.Local)
	say := func(b []byte) {
		t.Helper()
		if _, err := conn.WriteToUDP(b, to); err != nil {
			t.Fatal(err)
		}
	}
	first := ask(1)
	first.kind = echo
	wrong := first
	wrong.size = 1500
	say(wrong.bytes(wireLen, key))
	say(first.bytes(wireLen, []byte("a key of somebody else")))
	say(message{kind: echo, id: first.id + 9, size: 600}.bytes(wireLen, key))
	say(message{kind: echo, id: 0, size: 600}.bytes(wireLen, key))
	say([]byte("no message"))
	say(first.bytes(wireLen, key))
	say(first.bytes(wireLen, key)) // again
	second := ask(2)
	second.kind = echo
	say(second.bytes(wireLen, key))
	for _, want := range []uint64{1, 2} {
		if e, ok := hall.next(t).(*Echo); !ok || e.ID != want {
			t.Errorf("%+v, want %d", e, want)
		}
	}
	if len(hall.heard) > 0 {
		t.Errorf("heard too: %+v", <-hall.heard)
	}
}

// TestNothingGrows: answers are never larger than what they answer, and only
// what is as large as it says is answered.
func TestNothingGrows(t *testing.T) {
	hall, conn := tap(t)
	to := net.UDPAddrFromAddrPort(hall.cfg.Local)
	for _, x := range []struct {
		m    message
		size int
	}{
		{message{kind: probe, id: 1, size: 1500}, wireLen},                     // says more than it is
		{message{kind: train, id: 2, size: 600, count: 2, index: 1}, 600},      // the first is missing
		{message{kind: train, id: 3, size: 600, count: 1}, 600},                // says nothing
		{message{kind: probe, id: 4, size: wireLen + 28}, wireLen},             // is answered
		{message{kind: train, id: 5, size: 600, count: 2, index: 0}, 600 - 28}, // the last of them is
		{message{kind: train, id: 5, size: 600, count: 2, index: 1}, 600 - 28},
	} {
		if _, err := conn.WriteToUDP(x.m.bytes(x.size, key), to); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 2000)
	for _, want := range []uint64{4, 5} {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := parse(buf[:n], key); err != nil || m.id != want || n != wireLen {
			t.Errorf("%d bytes: %+v, %v; want an answer to %d", n, m, err, want)
		}
	}
}

func TestOtherKey(t *testing.T) {
	hall, dc := pair(t, "127.0.0.1", []byte("another key, as long as the first"))
	if err := hall.Probe(1, 600); err != nil {
		t.Fatal(err)
	}
	if err := dc.Probe(1, 600); err != nil {
		t.Fatal(err)
	}
	select {
	case x := <-hall.heard:
		t.Errorf("heard %+v", x)
	case x := <-dc.heard:
		t.Errorf("heard %+v", x)
	case <-time.After(200 * time.Millisecond): // nothing can be waited for
	}
}

func TestOpenRefuses(t *testing.T) {
	v4, v6 := netip.MustParseAddrPort("127.0.0.1:4796"), netip.MustParseAddrPort("[::1]:4796")
	for what, cfg := range map[string]Config{
		"no key":        {Local: v4, Remote: v4},
		"two families":  {Local: v4, Remote: v6, Key: key},
		"no addresses":  {Key: key},
		"no such link":  {Local: v4, Remote: v4, Key: key, Interface: "none-such"},
		"foreign owner": {Local: netip.MustParseAddrPort("127.0.0.1:0"), Remote: netip.AddrPort{}, Key: key},
	} {
		if s, err := Open(cfg); err == nil {
			s.Close()
			t.Errorf("%s: opened", what)
		}
	}
}

// TestGolden holds the format: both ends of a path may be of different versions.
func TestGolden(t *testing.T) {
	for _, x := range []struct {
		m    message
		want string
	}{
		{message{kind: probe, id: 0x1122334455667788, size: 1420, found: 990},
			"4b4d5050" + "01" + "00" + "00" + "00" + "1122334455667788" + "058c" + "03de" + "0000000000000000"},
		{message{kind: train, id: 1, size: 1500, count: 24, index: 3},
			"4b4d5050" + "03" + "18" + "03" + "00" + "0000000000000001" + "05dc" + "0000" + "0000000000000000"},
		{message{kind: arrived, id: 1, size: 1500, count: 24, span: 1e6},
			"4b4d5050" + "04" + "18" + "00" + "00" + "0000000000000001" + "05dc" + "0000" + "00000000000f4240"},
	} {
		b := x.m.bytes(wireLen, key)
		if got := hex.EncodeToString(b[:headLen]); got != x.want {
			t.Errorf("%+v:\n%s\n%s", x.m, got, x.want)
		}
		if m, err := parse(b, key); err != nil || m != x.m {
			t.Errorf("%+v came back as %+v, %v", x.m, m, err)
		}
		for i := range b {
			b[i] ^= 1
			if _, err := parse(b, key); err == nil {
				t.Errorf("byte %d is another one, and it was believed", i)
			}
			b[i] ^= 1
		}
	}
	const mac = "6440ddda161acd52f6ea752577c40c9f"
	if got := hex.EncodeToString(message{kind: echo, id: 1, size: 576}.bytes(wireLen, key)[headLen:]); got != mac {
		t.Errorf("authenticated by %s", got)
	}
}

// FuzzParse: whatever comes, what is believed is what was put.
func FuzzParse(f *testing.F) {
	f.Add(message{kind: probe, id: 1, size: 600}.bytes(600, key), false)
	f.Add(message{kind: train, id: 1, size: 600, count: 3, index: 2}.bytes(600, key), true)
	f.Add([]byte("KMPP"), true)
	f.Fuzz(func(t *testing.T, b []byte, sign bool) {
		if sign && len(b) >= wireLen {
			copy(b[headLen:wireLen], mac(b[:headLen], key))
		}
		m, err := parse(b, key)
		if err != nil {
			return
		}
		again := m.bytes(wireLen, key)
		again[7] = b[7] // not read
		copy(again[headLen:], mac(again[:headLen], key))
		if !bytes.Equal(again, b[:wireLen]) {
			t.Errorf("%x was read as %+v", b, m)
		}
		var a arriving
		a.take(m, time.Second)
	})
}

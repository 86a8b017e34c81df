package ntpio

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"komainu/ntp/wall"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a handler that sends back what it gets, unless the test says else.
type echo struct {
	respond func(req []byte, rx, now wall.Time, from netip.AddrPort, out []byte) (int, uint64)
	sent    func(token uint64, tx wall.Time)
}

func (e *echo) Respond(req []byte, rx, now wall.Time, from netip.AddrPort, out []byte) (int, uint64) {
	if e.respond != nil {
		return e.respond(req, rx, now, from, out)
	}
	return copy(out, req), 0
}

func (e *echo) Sent(token uint64, tx wall.Time) {
	if e.sent != nil {
		e.sent(token, tx)
	}
}

// run serves until the returned func is called or the test ends.
func run(t *testing.T, s *Server, h Handler) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var task sync.WaitGroup
	task.Go(func() {
		if err := s.Run(ctx, h); err != nil {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		task.Wait()
	})
	t.Cleanup(stop)
	awaitStamps(t)
	return stop
}

// awaitStamps waits until the kernel stamps what arrives: the first socket that
// asks for it gets it a moment later (net_enable_timestamp), and what comes before
// isn't answered.
func awaitStamps(t *testing.T) {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	stampArrivals(t, c)
	for {
		if _, err := c.WriteTo(make([]byte, 8), c.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		if _, at := arrival(t, c); at != 0 {
			return
		}
	}
}

func start(t *testing.T, h Handler, endpoints ...Endpoint) *Server {
	t.Helper()
	s, err := Listen(Config{Endpoints: endpoints})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, h)
	return s
}

func at(s string) Endpoint { return Endpoint{Local: netip.MustParseAddrPort(s)} }

func dial(t *testing.T, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil { // a bound, no wait
		t.Fatal(err)
	}
	return c
}

// converse sends a datagram and reads the answer.
func converse(t *testing.T, c *net.UDPConn, text string) string {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	var b [4096]byte
	n, err := c.Read(b[:])
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func stats(t *testing.T, s *Server, i int) Stats {
	t.Helper()
	st, err := s.Stats(i)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// counted waits until the counters are right; a reply comes before it is counted.
func counted(t *testing.T, s *Server, i int, right func(Stats) bool) {
	t.Helper()
	for begin := time.Now(); ; runtime.Gosched() {
		st := stats(t, s, i)
		if right(st) {
			return
		}
		if time.Since(begin) > 30*time.Second {
			t.Errorf("%v: %+v", s.Addrs()[i], st)
			return
		}
	}
}

func TestSeveralSockets(t *testing.T) {
	s := start(t, &echo{}, at("127.0.0.1:0"), at("[::1]:0"), at("0.0.0.0:0"), at("[::]:0"))
	for i, a := range s.Addrs() {
		to := a
		if i >= 2 {
			to = netip.AddrPortFrom(s.Addrs()[i-2].Addr(), a.Port())
		}
		c := dial(t, to)
		for _, text := range []string{"one", "two", "three"} {
			if got := converse(t, c, text); got != text {
				t.Errorf("%v: %q", a, got)
			}
		}
		counted(t, s, i, func(st Stats) bool { return st.Received == 3 && st.Sent == 3 })
	}
}

// What the handler gets to see, and what not.
func TestOddDatagrams(t *testing.T) {
	var seen atomic.Int32
	h := &echo{respond: func(req []byte, _, _ wall.Time, _ netip.AddrPort, out []byte) (int, uint64) {
		seen.Add(1)
		if len(out) != len(req) {
			t.Errorf("%d bytes of room for the reply to %d", len(out), len(req))
		}
		switch {
		case len(req) == 0, req[0] == 'n':
			return 0, 0 // no reply
		case req[0] == 'm':
			return len(req) + 1, 0 // more than there is
		}
		return copy(out, req), 0
	}}
	for _, local := range []string{"127.0.0.1:0", "[::1]:0"} {
		seen.Store(0)
		s := start(t, h, at(local))
		c := dial(t, s.Addrs()[0])
		full := strings.Repeat("x", MaxRequest)
		for _, text := range []string{"", "nothing", "more", full + "x"} {
			if _, err := c.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		if got := converse(t, c, full); got != full {
			t.Errorf("%d bytes came back", len(got))
		}
		counted(t, s, 0, func(st Stats) bool { return st == Stats{Received: 4, Sent: 1, Oversized: 1} })
		if n := seen.Load(); n != 4 {
			t.Errorf("%d seen", n)
		}
	}
}

// The stamp is that of the arrival, not that of the look at it, and the time in
// the reply isn't before it.
func TestArrivalIsStamped(t *testing.T) {
	type call struct{ rx, now wall.Time }
	calls := make(chan call, 2)
	s := start(t, &echo{respond: func(req []byte, rx, now wall.Time, _ netip.AddrPort, out []byte) (int, uint64) {
		calls <- call{rx, now}
		return copy(out, req), 0
	}}, at("127.0.0.1:0"))
	c := dial(t, s.Addrs()[0])
	converse(t, c, "warm")
	<-calls
	var before, after wall.Time
	s.Exclusive(func() { // the handler has to wait
		before = now()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		after = now()
		for now().Sub(after) < 5*time.Millisecond {
		}
	})
	if got := <-calls; got.rx < before || got.rx > after || got.now < after.Add(5*time.Millisecond) {
		t.Errorf("sent between %d and %d, stamped %d, answered at %d", before, after, got.rx, got.now)
	}
}

// Every reply asks for its stamp of departure; the client knows when each came.
func TestDeparturesBelongToTheirReplies(t *testing.T) {
	const n = 2000
	type departure struct {
		token uint64
		tx    wall.Time
	}
	departures := make(chan departure, n)
	h := &echo{
		respond: func(req []byte, _, _ wall.Time, _ netip.AddrPort, out []byte) (int, uint64) {
			copy(out, req)
			if token := binary.BigEndian.Uint64(req); token%3 != 0 { // one in three asks for nothing
				return 8, token
			}
			return 8, 0
		},
		sent: func(token uint64, tx wall.Time) { departures <- departure{token, tx} },
	}
	for _, local := range []string{"127.0.0.1:0", "[::1]:0"} {
		s := start(t, h, at(local))
		c := dial(t, s.Addrs()[0])
		arrivals := make(map[uint64]wall.Time, n)
		stampArrivals(t, c)
		wanted := 0
		for first := uint64(1); first <= n; first += 20 {
			var b [8]byte
			for token := first; token < first+20; token++ {
				if token%3 != 0 {
					wanted++
				}
				binary.BigEndian.PutUint64(b[:], token)
				if _, err := c.Write(b[:]); err != nil {
					t.Fatal(err)
				}
			}
			for range 20 {
				token, at := arrival(t, c)
				arrivals[token] = at
			}
		}
		for range wanted {
			d := <-departures
			if late := arrivals[d.token].Sub(d.tx); late < 0 || late > 10*time.Second {
				t.Errorf("%s: reply %d arrived %v after it left", local, d.token, late)
			}
			delete(arrivals, d.token)
		}
		if len(arrivals) != n-wanted {
			t.Errorf("%d replies without a departure", len(arrivals))
		}
		counted(t, s, 0, func(st Stats) bool { return st.Stamps == uint64(wanted) && st.Lost == 0 })
	}
}

func stampArrivals(t *testing.T, c *net.UDPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err2 := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPING, unix.SOF_TIMESTAMPING_RX_SOFTWARE|unix.SOF_TIMESTAMPING_SOFTWARE)
	})
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
}

// arrival reads a token and the kernel's stamp of its arrival.
func arrival(t *testing.T, c *net.UDPConn) (uint64, wall.Time) {
	t.Helper()
	var s slot
	n, control, _, _, err := c.ReadMsgUDPAddrPort(s.data[:], s.control[:])
	if err != nil || n != 8 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	var m message
	m.SetControllen(control)
	return binary.BigEndian.Uint64(s.data[:]), m.read(&s).software
}

func TestPortTaken(t *testing.T) {
	for _, local := range []string{"127.0.0.1:0", "[::1]:0"} {
		s := start(t, &echo{}, at(local))
		taken := s.Addrs()[0]
		free := at(local)
		_, err := Listen(Config{Endpoints: []Endpoint{free, {Local: taken}}})
		if err == nil || !errors.Is(err, unix.EADDRINUSE) {
			t.Fatal(err)
		}
		// By whom is drivers/holder's: here it is ourselves, whom it doesn't blame.
		want := fmt.Sprintf("listen for NTP on address %v, UDP port %d: the port is taken by ", taken.Addr(), taken.Port())
		if got := err.Error(); !strings.HasPrefix(got, want) {
			t.Errorf("%q", got)
		}
	}
}

func TestListenRefuses(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "no address"},
		{Config{Endpoints: []Endpoint{{}}}, "not an address"},
		{Config{Endpoints: []Endpoint{{Local: netip.MustParseAddrPort("127.0.0.1:0"), Interface: "none0"}}}, "interface none0"},
	} {
		if _, err := Listen(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
}

// A socket stops at once, in whatever wait it is.
func TestStopsAtOnce(t *testing.T) {
	for _, heard := range []bool{false, true} {
		s, err := Listen(Config{Endpoints: []Endpoint{at("127.0.0.1:0"), at("[::1]:0")}})
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, s, &echo{})
		if heard {
			converse(t, dial(t, s.Addrs()[0]), "x")
		}
		begin := time.Now()
		stop()
		if took := time.Since(begin); took > patience/2 {
			t.Errorf("after a request %v: took %v", heard, took)
		}
		if _, err := s.Stats(0); err == nil {
			t.Error("a closed socket counts")
		}
	}
}

// What waits in the kernel mustn't hold up the garbage collector.
func TestCollectorIsNotHeldUp(t *testing.T) {
	s := start(t, &echo{}, at("127.0.0.1:0"))
	c := dial(t, s.Addrs()[0])
	for range 20 {
		converse(t, c, "x") // now it waits without the scheduler's knowledge
		begin := time.Now()
		runtime.GC()
		if took := time.Since(begin); took > patience/2 {
			t.Fatalf("collecting took %v", took)
		}
	}
}

func TestNothingAllocated(t *testing.T) {
	var stamped uint64
	s := start(t, &echo{
		respond: func(req []byte, _, _ wall.Time, _ netip.AddrPort, out []byte) (int, uint64) {
			stamped++
			return copy(out, req), stamped
		},
	}, at("127.0.0.1:0"), at("[::]:0"))
	for i, a := range s.Addrs() {
		if a.Addr().IsUnspecified() {
			a = netip.AddrPortFrom(netip.IPv6Loopback(), a.Port())
		}
		c := dial(t, a)
		request, reply := make([]byte, 48), make([]byte, 128)
		ask := func() {
			if _, err := c.Write(request); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(reply); err != nil {
				t.Fatal(err)
			}
		}
		ask()
		// testing.AllocsPerRun would leave but one P for all.
		const n = 2000
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range n {
			ask()
		}
		runtime.ReadMemStats(&after)
		if got := after.Mallocs - before.Mallocs; got > n/100 { // the runtime's own
			t.Errorf("socket %d: %d allocations in %d requests", i, got, n)
		}
	}
}

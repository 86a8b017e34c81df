package ntpio

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"komainu/ntp/wall"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a handler that sends back what it gets, after rules of the test.
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

// start serves on endpoints until the test ends.
func start(t *testing.T, h Handler, endpoints ...Endpoint) *Server {
	t.Helper()
	s, err := Listen(Config{Endpoints: endpoints})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var task sync.WaitGroup
	task.Go(func() {
		if err := s.Run(ctx, h); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		task.Wait()
	})
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

func TestEchoes(t *testing.T) {
	s := start(t, &echo{}, at("127.0.0.1:0"), at("[::1]:0"), at("0.0.0.0:0"), at("[::]:0"))
	for i, a := range s.Addrs() {
		to := a
		if to.Addr().IsUnspecified() {
			to = s.Addrs()[i-2]
			to = netip.AddrPortFrom(to.Addr(), a.Port())
		}
		c := dial(t, to)
		for _, text := range []string{"one", "two", "three"} {
			if got := converse(t, c, text); got != text {
				t.Errorf("%v: %q", a, got)
			}
		}
	}
}

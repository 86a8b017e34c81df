package ntpio

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"komainu/drivers/netns/netnstest"
	"komainu/ntp/wall"
)

// endpoint listens in a namespace for the rest of the test.
func endpoint(t *testing.T, ns string, h Handler, endpoints ...Endpoint) (s *Server) {
	t.Helper()
	netnstest.Do(t, ns, func() (err error) {
		s, err = Listen(Config{Endpoints: endpoints})
		return err
	})
	run(t, s, h)
	return s
}

func dialFrom(t *testing.T, ns string, to netip.AddrPort) (c *net.UDPConn) {
	t.Helper()
	netnstest.Do(t, ns, func() error {
		c = dial(t, to)
		return nil
	})
	return c
}

// A connected client takes replies only from the address that it asked.
func TestHostRepliesLeaveFromTheAddressThatWasAsked(t *testing.T) {
	town := netnstest.New(t)
	any4, any6 := at("0.0.0.0:123"), at("[::]:123")
	one4 := Endpoint{Local: netip.AddrPortFrom(netnstest.Stable[0], 124)}
	one6 := Endpoint{Local: netip.AddrPortFrom(netnstest.Stable[1], 124)}
	froms := make(chan netip.AddrPort, 1)
	h := &echo{respond: func(req []byte, _, _ wall.Time, from netip.AddrPort, out []byte) (int, uint64) {
		froms <- from
		return copy(out, req), 1
	}}
	endpoint(t, town.Box, h, any4, any6, one4, one6)
	for family := range 2 {
		for _, to := range []netip.AddrPort{
			netip.AddrPortFrom(netnstest.BoxLAN[family], 123),
			netip.AddrPortFrom(netnstest.Stable[family], 123),
			netip.AddrPortFrom(netnstest.BoxWAN[family], 123),
			netip.AddrPortFrom(netnstest.Stable[family], 124),
		} {
			c := dialFrom(t, town.Client, to)
			if got := converse(t, c, "x"); got != "x" {
				t.Errorf("%v: %q", to, got)
			}
			if from := <-froms; from != c.LocalAddr().(*net.UDPAddr).AddrPort() || from.Addr() != netnstest.ClientAddr[family] {
				t.Errorf("%v: from %v", to, from)
			}
		}
	}
}

func TestHostBroadcastsAreNotAnswered(t *testing.T) {
	town := netnstest.New(t)
	s := endpoint(t, town.Box, &echo{}, at("0.0.0.0:123"), at("[::]:123"))
	for i, to := range []string{"192.0.2.255:123", "[ff02::1%lan]:123"} {
		netnstest.Do(t, town.Client, func() error {
			c, err := net.ListenPacket("udp", ":0") // may send to broadcast addresses
			if err != nil {
				return err
			}
			defer c.Close()
			a, err := net.ResolveUDPAddr("udp", to)
			if err != nil {
				return err
			}
			_, err = c.WriteTo([]byte("x"), a)
			return err
		})
		converse(t, dialFrom(t, town.Client, netip.AddrPortFrom(netnstest.BoxLAN[i], 123)), "behind it")
		counted(t, s, i, func(st Stats) bool { return st.Elsewhere == 1 && st.Received == 1 })
	}
}

func TestHostOneInterfaceOnly(t *testing.T) {
	town := netnstest.New(t)
	e := at("0.0.0.0:123")
	e.Interface = "lan"
	endpoint(t, town.Box, &echo{}, e)
	to := netip.AddrPortFrom(netnstest.BoxLAN[0], 123)
	if got := converse(t, dialFrom(t, town.Client, to), "x"); got != "x" {
		t.Errorf("%q", got)
	}
	c := dialFrom(t, town.DC, to)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 8)); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// A reply that a firewall refuses makes the numbers of departures doubtful: the
// stamps must still belong to their replies afterwards.
func TestHostDeparturesAfterRefusedReplies(t *testing.T) {
	town := netnstest.New(t)
	departures := make(chan [2]uint64, 4096)
	h := &echo{
		respond: func(req []byte, _, _ wall.Time, _ netip.AddrPort, out []byte) (int, uint64) {
			return copy(out, req), binary.BigEndian.Uint64(req)
		},
		sent: func(token uint64, tx wall.Time) { departures <- [2]uint64{token, uint64(tx)} },
	}
	s := endpoint(t, town.Box, h, at("0.0.0.0:123"))
	// Replies of 9 bytes, 17 with the header of UDP, are refused.
	netnstest.Run(t, town.Box, "nft", "add table ip t; add chain ip t out { type filter hook output priority 0; }; "+
		"add rule ip t out udp sport 123 udp length 17 drop")
	c := dialFrom(t, town.Client, netip.AddrPortFrom(netnstest.BoxLAN[0], 123))
	stampArrivals(t, c)
	arrivals := map[uint64]wall.Time{}
	next := uint64(1)
	send := func(size int) {
		b := make([]byte, size)
		binary.BigEndian.PutUint64(b, next)
		next++
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	exchange := func() {
		send(8)
		token, at := arrival(t, c)
		arrivals[token] = at
	}
	told := func() (last uint64) {
		for {
			select {
			case d := <-departures:
				at, ok := arrivals[d[0]]
				if late := at.Sub(wall.Time(d[1])); !ok || late < 0 || late > 10*time.Second {
					t.Errorf("reply %d arrived (%v) %v after it left", d[0], ok, late)
				}
				last = d[0]
			default:
				return last
			}
		}
	}
	for round := range uint64(3) {
		for range 10 {
			send(9) // refused
			exchange()
		}
		counted(t, s, 0, func(st Stats) bool { return st.Unsent == 10*(round+1) && st.Lost >= 10*(round+1) })
		// It must be told of departures again, once the doubt is over.
		for begin, since := next, time.Now(); told() < begin; exchange() {
			if time.Since(since) > 30*time.Second {
				t.Fatalf("round %d: told of no departure", round)
			}
		}
	}
}

// A full queue is counted by the kernel.
func TestHostDropsAreCounted(t *testing.T) {
	town := netnstest.New(t)
	s := endpoint(t, town.Box, &echo{}, at("0.0.0.0:123"))
	c := dialFrom(t, town.Client, netip.AddrPortFrom(netnstest.BoxLAN[0], 123))
	const n = 20000
	s.Exclusive(func() { // the handler has to wait
		for range n {
			if _, err := c.Write([]byte("x")); err != nil {
				t.Error(err)
				return
			}
		}
	})
	counted(t, s, 0, func(st Stats) bool { return st.Dropped > 0 && st.Received+st.Dropped == n })
}

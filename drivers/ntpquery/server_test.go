package ntpquery

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"komainu/drivers/clock"
	"komainu/ntp/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answer is a correct answer of a stratum 2 server whose clock is ours.
func answer(req []byte) packet.Header {
	var q packet.Header
	q.Parse(req)
	now := clock.Read().Wall
	return packet.Header{
		Version: packet.Version, Mode: packet.ModeServer, Stratum: 2, Poll: 6, Precision: -23,
		RootDelay: packet.ShortUp(time.Millisecond), RootDispersion: packet.ShortUp(2 * time.Millisecond),
		RefID: packet.RefIDCode("\xc0\x00\x02\x01"), RefTime: packet.Stamp(now.Add(-10 * time.Second)),
		Origin: q.Transmit, Receive: packet.Stamp(now), Transmit: packet.Stamp(now),
	}
}

// put is a header's octets with what follows it.
func put(h packet.Header, more ...byte) []byte {
	b := make([]byte, packet.HeaderSize)
	h.Put(b)
	return append(b, more...)
}

// server answers on a loopback socket what script says to the n-th question,
// counted from 1.
type server struct {
	conn  *net.UDPConn
	addr  netip.AddrPort
	asked atomic.Int64
	ports sync.Map // of the questions
}

func serve(t *testing.T, address string, script func(s *server, n int, req []byte, from netip.AddrPort)) *server {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
	if err != nil {
		t.Fatal(err)
	}
	s := &server{conn: conn, addr: conn.LocalAddr().(*net.UDPAddr).AddrPort()}
	var done sync.WaitGroup
	done.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			s.ports.Store(from.Port(), true)
			script(s, int(s.asked.Add(1)), buf[:n], from)
		}
	})
	t.Cleanup(func() {
		conn.Close()
		done.Wait()
	})
	return s
}

func (s *server) send(to netip.AddrPort, msg []byte) {
	s.conn.WriteToUDPAddrPort(msg, to)
}

func target(s *server) Target {
	return Target{Addr: s.addr, Timeout: 2 * time.Second, Discarded: new(atomic.Int64)}
}

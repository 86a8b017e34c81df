package timepeers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/appliance/control"
	"komainu/ntp/packet"
	"komainu/tools/lab"
)

// Sizes of the floods.
const (
	fromOne     = 20_000
	fromMillion = 1_000_000
	mostMemory  = 30 << 10 // KiB
)

// TestHostFlood: one client that asks too often is slowed down and told so, a
// million spoofed ones cost no memory, and who asks properly is served.
func TestHostFlood(t *testing.T) {
	s := newSite(t)
	b := s.newBox(`upstream = ["192.0.2.9"]
serve = ["lan", "10.0.0.0/8"]`)
	b.start()
	asked, answered := s.politely(t, func() {
		b.floodFromOne(t)
		b.await("the regular client has come back for two seconds", func() bool { return b.client(peer[0]).Requests > 10 })
		b.floodFromMillion(t)
	})
	t.Logf("the regular client: %d of %d answered", answered, asked)
	if answered*4 < asked || answered < 10 {
		t.Errorf("of %d requests of a regular client %d were answered", asked, answered)
	}
	if c := b.client(peer[0]); int(c.Requests) < answered { // not forgotten meanwhile
		t.Errorf("of the regular client is known: %+v", c)
	}
	if n := b.status().Server.Clients; n < 10_000 || n > 32_768 {
		t.Errorf("%d clients are remembered", n)
	}
	if kb := b.memory(t); kb > mostMemory {
		t.Errorf("%d KiB of memory", kb)
	} else {
		t.Logf("%d KiB of memory with %d clients", kb, b.status().Server.Clients)
	}
	contains(t, "--query afterwards", s.komainu(s.peer, "en", "timed", "--query", ours[0]), "4 of 4 queries answered")
}

// client is what is known of one of the busiest clients.
func (b *box) client(addr string) control.TimeClient {
	b.t.Helper()
	var all control.TimeClients
	must(b.t, b.ask(control.TimeClientsPath, &all))
	for _, c := range all.Clients {
		if c.Address == addr {
			return c
		}
	}
	return control.TimeClient{}
}

// politely asks once in 250 ms from the peer host's first address while f runs.
func (s *site) politely(t *testing.T, f func()) (asked, answered int) {
	t.Helper()
	c, err := s.peer.Dial(t.Context(), "udp", net.JoinHostPort(ours[0], "123"))
	must(t, err)
	defer c.Close()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		b := make([]byte, 512)
		for pace := time.NewTicker(250 * time.Millisecond); ; {
			asked++
			if _, err := c.Write(request(uint64(asked))); err == nil {
				_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
				if n, err := c.Read(b); err == nil && timeIn(b[:n]) {
					answered++
				}
			}
			select {
			case <-stop:
				pace.Stop()
				return
			case <-pace.C:
			}
		}
	}()
	defer func() { <-done }()
	defer close(stop)
	f()
	return
}

func request(origin uint64) []byte {
	b := make([]byte, packet.HeaderSize)
	h := packet.Header{Version: 4, Mode: packet.ModeClient, Transmit: packet.Timestamp(origin)}
	h.Put(b)
	return b
}

// timeIn says that an answer isn't a kiss.
func timeIn(b []byte) bool {
	var h packet.Header
	return h.Parse(b) && h.Mode == packet.ModeServer && h.RefID != packet.KissRate
}

// floodFromOne asks from one address as fast as it can.
func (b *box) floodFromOne(t *testing.T) {
	t.Helper()
	var c net.Conn
	must(t, b.peer.Do(func() (err error) {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP("192.0.2.3")}}
		c, err = d.Dial("udp", net.JoinHostPort(ours[0], "123"))
		return err
	}))
	defer c.Close()
	var served, kissed atomic.Int64
	done := make(chan struct{})
	go func() { // ends with c
		defer close(done)
		r := make([]byte, 512)
		for {
			n, err := c.Read(r)
			switch {
			case errors.Is(err, net.ErrClosed):
				return
			case err == nil && timeIn(r[:n]):
				served.Add(1)
			case err == nil:
				kissed.Add(1)
			}
		}
	}()
	begin := time.Now()
	for i := range fromOne {
		if _, err := c.Write(request(uint64(i + 1))); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(begin)
	b.await("the flood is counted", func() bool { return b.status().Server.Drops["rate-limited"] > fromOne/10 })
	c.Close()
	<-done
	// 32 at once, four a second, and one of sixteen so that a forger can't cut
	// anybody off.
	if n, most := served.Load(), int64(33+4*(took.Seconds()+1)+fromOne/16*1.3); n < 32 || n > most {
		t.Errorf("%d of %d requests served within %v, want at most %d", n, fromOne, took, most)
	}
	if n := kissed.Load(); n < 1 || n > 4 {
		t.Errorf("told to slow down %d times", n)
	}
	contains(t, "show ntp clients", b.show("en", "clients"), "192.0.2.3 ")
	contains(t, "show ntp", b.show("en"), "rate-limited ")
}

// floodFromMillion sends requests from as many addresses of 10.0.0.0/8 by raw
// Ethernet frames. The box's answers go to the peer host, which drops them.
func (b *box) floodFromMillion(t *testing.T) {
	t.Helper()
	must(t, b.host.SetRoute(lab.Route{To: netip.MustParsePrefix("10.0.0.0/8"), Via: netip.MustParseAddr(peer[0]), Link: "lan"}))
	var fd, index int
	var frame []byte
	must(t, b.host.Do(func() error {
		i, err := net.InterfaceByName("lan")
		if err == nil {
			frame = append(frame, i.HardwareAddr...)
		}
		return err
	}))
	must(t, b.peer.Do(func() error {
		i, err := net.InterfaceByName("lan")
		if err != nil {
			return err
		}
		frame, index = append(frame, i.HardwareAddr...), i.Index
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	}))
	defer unix.Close(fd)
	must(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1))
	frame = binary.BigEndian.AppendUint16(frame, unix.ETH_P_IP)
	const ip, udp, ntp = 14, 34, 42
	size := 20 + 8 + packet.HeaderSize
	frame = append(frame, 0x45, 0, byte(size>>8), byte(size), 0, 0, 0x40, 0, 64, unix.IPPROTO_UDP, 0, 0, 10, 0, 0, 0)
	dst := netip.MustParseAddr(ours[0]).As4()
	frame = append(frame, dst[:]...)
	frame = append(frame, 0x30, 0x39, 0, 123, 0, byte(8+packet.HeaderSize), 0, 0) // no UDP checksum
	frame = append(frame, request(1)...)
	to := &unix.SockaddrLinklayer{Ifindex: index, Halen: 6, Protocol: 8} // ETH_P_IP in network order
	copy(to.Addr[:], frame[:6])
	before := b.memory(t)
	begin := time.Now()
	for i := range fromMillion {
		n := uint32(i) * 7919 % (1 << 24) // another order than of addresses
		frame[ip+13], frame[ip+14], frame[ip+15] = byte(n>>16), byte(n>>8), byte(n)
		binary.BigEndian.PutUint64(frame[ntp+40:], uint64(i)+1)
		binary.BigEndian.PutUint16(frame[ip+10:], 0)
		binary.BigEndian.PutUint16(frame[ip+10:], checksum(frame[ip:udp]))
		if err := unix.Sendto(fd, frame, 0, to); err != nil && !errors.Is(err, unix.ENOBUFS) {
			t.Fatal(err)
		}
	}
	took := time.Since(begin)
	st := b.status().Server
	t.Logf("%d requests from as many addresses within %v: answered %d, queue full %d; %d KiB before", fromMillion, took, st.Requests["plain"], st.Drops["queue-full"], before)
	if st.Requests["plain"] < 50_000 {
		t.Errorf("only %v were served, dropped %v", st.Requests, st.Drops)
	}
}

// checksum is that of an IPv4 header (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// memory is the most that the daemon ever had resident, in KiB.
func (b *box) memory(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.pid()))
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.Fields(v)[0])
			must(t, err)
			return n
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

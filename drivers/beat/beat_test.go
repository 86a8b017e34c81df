package beat

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"komainu/drivers/clock"
	"komainu/failover/detect"
	"komainu/ntp/instant"
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

type pair struct {
	hall, dc *Socket
	heard    chan detect.Message // by dc
}

func openPair(t *testing.T, addr string) *pair {
	t.Helper()
	a := netip.MustParseAddr(addr)
	here, there := freePort(t, a), freePort(t, a)
	hall, err := Open(PathConfig{Name: "main", Local: here, Remote: there, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hall.Close() })
	dc, err := Open(PathConfig{Name: "main", Local: there, Remote: here, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{hall: hall, dc: dc, heard: make(chan detect.Message, 16)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	started := clock.Now()
	go func() {
		ended <- dc.Run(ctx, func(arrived instant.Instant, m detect.Message) {
			if arrived < started || arrived > clock.Now() {
				t.Errorf("arrived at %d", arrived)
			}
			p.heard <- m
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return p
}

func message() *detect.Message {
	return &detect.Message{From: "hall", State: detect.Down, Boot: 1, Seq: 1, Interval: 100 * time.Millisecond, Mult: 5}
}

func TestHeartbeatsArrive(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1"} {
		t.Run(addr, func(t *testing.T) {
			p := openPair(t, addr)
			m := message()
			m.Databases = make([]detect.DatabaseState, 3)
			if err := p.hall.Send(m); err != nil {
				t.Fatal(err)
			}
			if got := <-p.heard; got.From != "hall" || len(got.Databases) != 3 {
				t.Errorf("%+v", got)
			}
			if s := p.hall.Stats(); s.Sent != 1 || s.Unsent != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestOnlyThePeerIsHeard(t *testing.T) {
	p := openPair(t, "127.0.0.1")
	good, err := detect.Append(nil, message(), key)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := detect.Append(nil, message(), []byte("a key of somebody else"))
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(p.dc.LocalAddr()))
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := stranger.Write(good); err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{forged, []byte("garbage"), make([]byte, 3000), nil} {
		if _, err := p.hall.conn.WriteToUDPAddrPort(b, p.dc.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.hall.Send(message()); err != nil { // comes last, so all the others have been looked at
		t.Fatal(err)
	}
	<-p.heard
	want := Stats{Received: 1, Forged: 1, Malformed: 3, WrongSource: 1}
	if got := p.dc.Stats(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestTrafficClass(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1"} {
		s := openPair(t, addr).hall
		raw, err := s.conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		level, option := unix.IPPROTO_IP, unix.IP_TOS
		if addr == "::1" {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
		}
		if err := raw.Control(func(fd uintptr) {
			class, err1 := unix.GetsockoptInt(int(fd), level, option)
			prio, err2 := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY)
			if class != 0xc0 || prio != 6 || err1 != nil || err2 != nil {
				t.Errorf("%s: class %#x (%v), priority %d (%v)", addr, class, err1, prio, err2)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// An address that isn't up yet is a line that is down, no reason to give up.
func TestAddressThatIsNotThere(t *testing.T) {
	for _, c := range []struct{ local, remote string }{
		{"192.0.2.1:7946", "127.0.0.1:9"}, {"[2001:db8::1]:7946", "[::1]:9"},
	} {
		s, err := Open(PathConfig{Name: "main", Local: netip.MustParseAddrPort(c.local), Remote: netip.MustParseAddrPort(c.remote), Key: key})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(message()); err != nil {
			t.Errorf("%s: %v", c.local, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	p := openPair(t, "127.0.0.1")
	good := PathConfig{Name: "main", Local: freePort(t, netip.MustParseAddr("127.0.0.1")), Remote: netip.MustParseAddrPort("127.0.0.1:9"), Key: key}
	for _, c := range []struct {
		name, want string
		change     func(*PathConfig)
	}{
		{"port in use", "address already in use", func(c *PathConfig) { c.Local = p.hall.LocalAddr() }},
		{"mixed families", "must be IPv4 or both IPv6", func(c *PathConfig) { c.Remote = netip.MustParseAddrPort("[::1]:9") }},
		{"short key", "at least 16", func(c *PathConfig) { c.Key = c.Key[:8] }},
		{"no such interface", "bind to interface nowhere0", func(c *PathConfig) { c.Interface = "nowhere0" }},
	} {
		if c.want == "bind to interface nowhere0" && os.Geteuid() != 0 {
			continue // another error without CAP_NET_RAW on old kernels
		}
		cfg := good
		c.change(&cfg)
		s, err := Open(cfg)
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestSendRefusesWhatIsTooLarge(t *testing.T) {
	p := openPair(t, "127.0.0.1")
	m := message()
	m.Databases = make([]detect.DatabaseState, 100)
	if err := p.hall.Send(m); !errors.Is(err, detect.ErrTooLarge) {
		t.Error(err)
	}
}

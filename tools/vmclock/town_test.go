package vmclock

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"komainu/drivers/clock"
	"komainu/drivers/netns/netnstest"
	"komainu/ntp/packet"
	"komainu/ntp/wall"
)

// newTown skips where the clock isn't a test's to turn, builds the networks,
// and leaves the kernel's clock as right as it was.
func newTown(t *testing.T) netnstest.Town {
	t.Helper()
	if name, _ := clock.Virtual("/"); os.Getenv("KOMAINU_VM") != "1" || name != "QEMU" {
		t.Skip("turns the kernel's clock: run it with go run ./tools/vmtest")
	}
	town := netnstest.New(t)
	began := clock.Read()
	_, err := clock.Take()
	must(t, err)
	must(t, clock.SetFrequency(0))
	t.Cleanup(func() {
		now := clock.Read()
		must(t, clock.SetLeap(0))
		must(t, clock.Step(now.Raw.Sub(began.Raw)-now.Wall.Sub(began.Wall)))
		must(t, clock.SetFrequency(0))
		must(t, clock.SetTAI(0))
	})
	return town
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition; what is waited for tells of none by itself.
func until(t *testing.T, what string, d time.Duration, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := clock.Now().Add(d); !ok(); <-tick.C {
		if clock.Now() > end {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

// after is until d has passed on the oscillator.
func after(t *testing.T, d time.Duration) {
	t.Helper()
	timer, err := clock.NewTimer()
	must(t, err)
	defer timer.Close()
	must(t, timer.Reset(clock.Now().Add(d)))
	<-timer.C()
}

// handSet sets the wall clock like a person's `date -s`.
func handSet(t *testing.T, by time.Duration) (at wall.Raw) {
	t.Helper()
	now := clock.Read()
	ts := unix.NsecToTimespec(int64(now.Wall.Add(by)))
	must(t, unix.ClockSettime(unix.CLOCK_REALTIME, &ts))
	return now.Raw
}

// upstream serves a truth in the town's data centre.
type upstream struct {
	truth truth
	lie   time.Duration // added to what it serves
	conn  *net.UDPConn
	addr  netip.AddrPort
}

// serve starts an upstream; it ends with the test, or with its close.
func serve(t *testing.T, town netnstest.Town, u truth, lie time.Duration) *upstream {
	t.Helper()
	s := &upstream{truth: u, lie: lie}
	netnstest.Do(t, town.DC, func() (err error) {
		s.conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netnstest.DCAddr[0], 0)))
		return err
	})
	raw, err := s.conn.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) }))
	must(t, err)
	s.addr = s.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	var done sync.WaitGroup
	done.Go(s.answer)
	t.Cleanup(func() {
		s.close()
		done.Wait()
	})
	return s
}

// close makes the upstream silent: its host refuses from then on.
func (s *upstream) close() { _ = s.conn.Close() } // twice, perhaps

func (s *upstream) answer() {
	b, control := make([]byte, 512), make([]byte, 512)
	for {
		n, c, _, from, err := s.conn.ReadMsgUDPAddrPort(b, control)
		if err != nil {
			return
		}
		came := received(control[:c])
		var q packet.Header
		if !q.Parse(b[:n]) {
			continue
		}
		h := packet.Header{Version: packet.Version, Mode: packet.ModeServer, Stratum: 1, Precision: -20, RefID: packet.RefIDCode("GNSS"),
			Origin: q.Transmit, Receive: packet.Stamp(s.truth.at(came).Add(s.lie))}
		if s.truth.announced(came) {
			h.Leap = packet.LeapInsert
		}
		h.RefTime, h.Transmit = h.Receive, packet.Stamp(s.truth.at(clock.Read().Raw).Add(s.lie))
		h.Put(b)
		_, _ = s.conn.WriteToUDPAddrPort(b[:packet.HeaderSize], from) // lost like any datagram
	}
}

// received is what the oscillator showed when the kernel got a datagram: an
// emulated processor may wake this program milliseconds later.
func received(control []byte) wall.Raw {
	now := clock.Read()
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return now.Raw
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
			sec, ns := binary.NativeEndian.Uint64(m.Data), binary.NativeEndian.Uint64(m.Data[8:])
			at := wall.Time(int64(sec)*1e9 + int64(ns))
			if ago := now.Wall.Sub(at); ago >= 0 && ago < 500*time.Millisecond { // else the clock was set meanwhile
				return now.At(at)
			}
		}
	}
	return now.Raw
}

// told is an answer that a client got.
type told struct {
	sent, came wall.Raw
	header     packet.Header
	off        time.Duration // by which it was wrong at least; the way can explain the rest
}

// usable says whether a client takes its time from such an answer at all.
func (a told) usable() bool {
	return a.header.Leap != packet.LeapUnsynchronised && a.header.Stratum > 0
}

// distance is what the answer says of its error.
func (a told) distance() time.Duration {
	return a.header.RootDelay.Duration()/2 + a.header.RootDispersion.Duration()
}

// client asks the box all the time.
type client struct {
	mu   sync.Mutex
	told []told
}

// askEvery is the pause between two questions.
const askEvery = 10 * time.Millisecond

// ask lets a client in the town ask the box until the test ends.
func ask(t *testing.T, town netnstest.Town, u truth) *client {
	t.Helper()
	var conn net.Conn
	netnstest.Do(t, town.Client, func() (err error) {
		conn, err = net.Dial("udp", net.JoinHostPort(netnstest.BoxLAN[0].String(), "123"))
		return err
	})
	c, end := &client{}, make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(askEvery)
		defer tick.Stop()
		for n := packet.Timestamp(1); ; n++ {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			if a, ok := question(conn, n, u); ok {
				c.mu.Lock()
				c.told = append(c.told, a)
				c.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() {
		close(end)
		done.Wait()
		conn.Close()
	})
	return c
}

// question asks once.
func question(conn net.Conn, n packet.Timestamp, u truth) (a told, ok bool) {
	b := make([]byte, packet.HeaderSize)
	(&packet.Header{Version: packet.Version, Mode: packet.ModeClient, Transmit: n}).Put(b)
	a.sent = clock.Read().Raw
	if _, err := conn.Write(b); err != nil {
		return a, false
	}
	if err := conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		return a, false
	}
	for a.header.Origin != n { // an answer may come after its question was given up
		if _, err := conn.Read(b); err != nil || !a.header.Parse(b) {
			return a, false
		}
	}
	a.came = clock.Read().Raw
	if u.at(a.came) < u.at(a.sent) { // across the leap second
		return a, false
	}
	says := a.header.Transmit.Wall(u.at(a.came))
	if early := u.at(a.sent).Sub(says); early > 0 {
		a.off = -early
	} else if late := says.Sub(u.at(a.came)); late > 0 {
		a.off = late
	}
	return a, true
}

// between is what the client was told in a stretch of the oscillator.
func (c *client) between(from, to wall.Raw) []told {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []told
	for _, a := range c.told {
		if a.sent >= from && a.came <= to {
			out = append(out, a)
		}
	}
	return out
}

// lies are the answers whose time is wrong by more than they say and than slack,
// and how long it took from from to the last of them.
func (c *client) lies(from, to wall.Raw, slack time.Duration) (n, of int, last time.Duration) {
	all := c.between(from, to)
	for _, a := range all {
		if a.usable() && a.off.Abs() > a.distance()+slack {
			n++
			last = a.came.Sub(from)
		}
	}
	return n, len(all), last
}

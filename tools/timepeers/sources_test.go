package timepeers

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"komainu/ntp/packet"
	"komainu/ntp/wall"
)

// TestHostNoUpstream: a box that has no time yet says so to its clients, also to
// a neighbour that starts with it, and is right soon after its upstream comes.
func TestHostNoUpstream(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.newBox(serving)
	b.start()
	c := s.chronyd(s.peer, "client", "server 192.0.2.1 iburst minpoll 0 maxpoll 0\nport 0")
	s.await("chronyd hears us", func() bool { return c.field("ntpdata", "Leap status") == "Not synchronised" })
	if got := c.field("ntpdata", "Stratum"); got != "0" && got != "16" { // 0 on the wire
		t.Errorf("stratum %s", got)
	}
	if strings.Contains(c.say("sources"), "^*") {
		t.Errorf("chronyd follows us:\n%s", c.say("sources"))
	}
	contains(t, "--query", s.komainu(s.peer, "en", "timed", "--query", ours[0]), "stratum 16", "it says that it isn't synchronised")
	contains(t, "--query", s.komainu(s.peer, "ja", "timed", "--query", ours[0]), "非同期を通知")
	contains(t, "show ntp", b.show("en"), "clock waits for the first answers", "stratum 16", "true time unknown", "no time server listens there")
	// An upstream without time of its own is no upstream, but may become one.
	up := s.chronyd(s.peer, "upstream", "allow\nbindaddress 192.0.2.2")
	s.await("the upstream says it isn't synchronised", func() bool {
		return strings.Contains(b.show("en", "sources"), "it isn't synchronised itself")
	})
	contains(t, "show ntp sources", b.show("ja", "sources"), "サーバー自身が非同期です")
	if up.say("local", "stratum", "7") == "" {
		t.Fatal("chronyd takes no order")
	}
	b.synchronised()
	c.selects(ours[0])
	if got := c.field("ntpdata", "Stratum"); got != "8" {
		t.Errorf("stratum %s", got)
	}
}

// liar is a time server on the peer host that is off by so much.
func (s *site) liar(addr string, off time.Duration) {
	s.t.Helper()
	conn, err := s.peer.ListenPacket(s.t.Context(), "udp", net.JoinHostPort(addr, "123"))
	must(s.t, err)
	done := make(chan struct{})
	go func() { // ends when conn is closed
		defer close(done)
		req := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFrom(req)
			if err != nil {
				return
			}
			var q packet.Header
			if !q.Parse(req[:n]) {
				continue
			}
			now := packet.Stamp(wall.Time(time.Now().Add(off).UnixNano()))
			h := packet.Header{Version: 4, Mode: packet.ModeServer, Stratum: 2, Poll: q.Poll, Precision: -20,
				RefID: packet.RefIDOf(netip.MustParseAddr("198.51.100.1")), RefTime: now, Origin: q.Transmit, Receive: now, Transmit: now}
			resp := make([]byte, packet.HeaderSize)
			h.Put(resp)
			if _, err := conn.WriteTo(resp, from); err != nil {
				return
			}
		}
	}()
	s.t.Cleanup(func() {
		conn.Close()
		<-done
	})
}

// TestHostUpstreamsDisagree: without a majority nobody is followed, clients are
// told that there is no time, and people why.
func TestHostUpstreamsDisagree(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i, off := range []time.Duration{0, time.Hour, -time.Hour} {
		s.liar([]string{"192.0.2.2", "192.0.2.3", "192.0.2.4"}[i], off)
	}
	b := s.newBox(`upstream = ["192.0.2.2", "192.0.2.3", "192.0.2.4"]
serve = ["lan"]`)
	b.start()
	s.await("the alarm", func() bool { return b.alarmed("time-no-majority") })
	st := b.status()
	if st.Stratum != 16 || st.Leap != 3 || st.State == "synchronised" {
		t.Errorf("%s, stratum %d, leap %d", st.State, st.Stratum, st.Leap)
	}
	contains(t, "show ntp", b.show("en"), "they disagree, none has a majority: 192.0.2.2, 192.0.2.3, 192.0.2.4", "192.0.2.3 wrong", "the time sources disagree, without a majority")
	contains(t, "show ntp", b.show("ja"), "互いに不一致で多数なし", "重大：時刻源が一致せず")
	contains(t, "--query", s.komainu(s.peer, "en", "timed", "--query", ours[0]), "stratum 16")
}

// TestHostFalseticker: one of three lies; it is named and not followed.
func TestHostFalseticker(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i, off := range []time.Duration{0, time.Second, 0} {
		s.liar([]string{"192.0.2.2", "192.0.2.3", "192.0.2.4"}[i], off)
	}
	b := s.newBox(`upstream = ["192.0.2.2", "192.0.2.3", "192.0.2.4"]
serve = ["lan"]`)
	b.start()
	st := b.synchronised()
	if st.OffsetS > 0.1 || st.OffsetS < -0.1 {
		t.Errorf("it follows a liar: %v s", st.OffsetS)
	}
	s.await("the alarm", func() bool { return b.alarmed("time-falseticker") })
	contains(t, "show ntp", b.show("en"), "192.0.2.3 wrong: disagrees with the majority", "a time source disagrees with the majority")
	contains(t, "show ntp", b.show("ja"), "192.0.2.3 多数と不一致")
}

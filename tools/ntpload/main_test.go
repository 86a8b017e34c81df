package main

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"komainu/drivers/ntpio"
	"komainu/ntp/packet"
	"komainu/ntp/server"
	"komainu/ntp/wall"
)

// handler joins the product's sockets and server.
type handler struct{ *server.Server }

func (h handler) Respond(req []byte, rx, now wall.Time, from netip.AddrPort, out []byte) (int, uint64) {
	r := h.Server.Respond(req, rx, now, from, out)
	return r.N, uint64(r.Stamp)
}

func (h handler) Sent(token uint64, tx wall.Time) { h.Server.Sent(packet.Timestamp(token), tx) }

// serve serves time on the loopback until the test ends.
func serve(t *testing.T, stratum uint8) netip.AddrPort {
	t.Helper()
	core := server.New(64, [2]uint64{1, 2}, nil)
	core.SetRules(server.Rules{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	core.SetState(&server.State{Stratum: stratum, At: wall.Time(time.Now().UnixNano())})
	s, err := ntpio.Listen(ntpio.Config{Endpoints: []ntpio.Endpoint{{Local: netip.MustParseAddrPort("127.0.0.1:0")}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var task sync.WaitGroup
	task.Go(func() {
		if err := s.Run(ctx, handler{core}); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		task.Wait()
	})
	return s.Addrs()[0]
}

func TestModes(t *testing.T) {
	to := serve(t, 1)
	for _, m := range modes {
		l := &load{to: to, length: 100 * time.Millisecond, warm: 10 * time.Millisecond, rate: 500, sockets: 2, window: 8,
			pid: os.Getpid(), clients: netip.MustParsePrefix("127.1.0.0/16"), count: 50}
		r, err := m.run(l)
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		if r.Replies < 10 || r.Replies > r.Requests+1 || r.CPU <= 0 { // one may be from before
			t.Errorf("%s: %+v", m.name, r)
		}
		if (r.Worse != nil) != (m.name == "stamps" || m.name == "interleaved") {
			t.Errorf("%s: %+v", m.name, r.Worse)
		}
		if r.Worse != nil && r.Worse.N < r.Replies*3/4 {
			t.Errorf("%s: %d of %d compared", m.name, r.Worse.N, r.Replies)
		}
	}
}

func TestServerThatIsNotSynchronised(t *testing.T) {
	l := &load{to: serve(t, 16), length: 100 * time.Millisecond, rate: 500}
	if _, err := l.fixed(); err == nil || !strings.Contains(err.Error(), "isn't synchronised") {
		t.Error(err)
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		to, mode string
		length   time.Duration
		want     string
	}{
		{"198.41.0.4:123", "rate", time.Second, "none of the private"},
		{"127.0.0.1:123", "rate", time.Hour, "a minute at most"},
		{"127.0.0.1:123", "flood", time.Second, "no mode"},
	} {
		if err := (&load{length: c.length}).main(c.to, c.mode, ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

package agent

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"komainu/failover/detect"
	"komainu/netstack/spec"
	"komainu/ntp/instant"
)

// hub is a DC edge with many halls behind tunnels.
type hub struct {
	a      *Agent
	now    instant.Instant
	halls  map[string]*detect.Session
	names  []string
	steps  int
	routes []spec.Route
	sent   []Event // on their way to the agent
}

func newHub(n int, interval time.Duration) *hub {
	h := &hub{now: instant.Instant(100 * time.Second), halls: map[string]*detect.Session{}}
	s := Spec{Site: "dc-edge", Role: DCEdge}
	for i := range n {
		name, link := fmt.Sprintf("hall-%d", i), fmt.Sprintf("vpn-hall-%d", i)
		s.Ground.Network.Links = append(s.Ground.Network.Links, spec.Link{Name: link, Kind: spec.XFRM, MTU: 1420, Up: true})
		s.Ground.Tunnels = append(s.Ground.Tunnels, spec.Tunnel{Name: name, Link: link})
		s.Paths = append(s.Paths, Path{Name: name, Peer: name, Link: link, Interval: interval, Mult: 5, Tunnel: true})
		s.Peers = append(s.Peers, Peer{Name: name, Role: TownHall, Networks: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(100 + i/250), byte(i % 250), 0}), 24)}})
		h.halls[name] = detect.NewSession(detect.SessionConfig{Path: name, Peer: "dc-edge", Interval: interval, Mult: 5, Boot: uint64(i) + 2}, h.now.Add(time.Duration(i)*interval/time.Duration(n)))
		h.names = append(h.names, name)
	}
	h.a = New(s)
	h.step(Started{Boot: 1, Wall: int64(h.now)})
	return h
}

// step gives the agent an event, and does what it says at once.
func (h *hub) step(ev Event) {
	h.steps++
	for _, x := range h.a.Step(h.now, ev) {
		switch do := x.Do.(type) {
		case SendBeat:
			_, _ = h.halls[do.Path].Receive(h.now, do.Message) // the hall judges it
		case SendProbe:
			if do.Size <= 1400 {
				h.sent = append(h.sent, Echoed{Path: do.Path, ID: do.ID, Size: do.Size, RTT: time.Millisecond, Found: 1400})
			}
		case SetRoutes:
			h.routes = do.Routes
			h.sent = append(h.sent, Done{ID: x.ID})
		case TellFound, SendTrain, Note, Alarm, Answer, Reloaded:
		default:
			h.sent = append(h.sent, Done{ID: x.ID})
		}
	}
}

// run lets time pass.
func (h *hub) run(d time.Duration) {
	for end := h.now.Add(d); h.now < end; {
		h.now = h.now.Add(time.Millisecond)
		for now := h.sent; len(now) > 0; now = now[1:] {
			h.sent = h.sent[1:]
			h.step(now[0])
		}
		for _, name := range h.names {
			if s := h.halls[name]; s.Due(h.now) {
				m := &detect.Message{From: name}
				s.Stamp(h.now, 0, m)
				h.step(Beat{Path: name, Message: m})
			}
		}
		if h.now >= h.a.Next() {
			h.step(Tick{Wall: int64(h.now)})
		}
	}
}

// TestHub: hundreds of halls come up, each with its route and what its tunnel
// carries; one that falls silent is noticed, and no other.
func TestHub(t *testing.T) {
	const n = 300
	h := newHub(n, time.Second)
	h.run(15 * time.Second)
	check := func(silent string) {
		t.Helper()
		if len(h.routes) != n {
			t.Fatalf("%d routes", len(h.routes))
		}
		for i, r := range h.routes {
			if r.MTU != 1400 || r.Link != fmt.Sprintf("vpn-hall-%d", i) {
				t.Errorf("route %+v", r)
			}
		}
		for _, p := range h.a.View().Paths {
			if (p.State == detect.Up) == (p.Name == silent) || !p.Carries {
				t.Errorf("%s is %s, carries %v", p.Name, p.State, p.Carries)
			}
		}
	}
	check("")
	silent := h.names[7]
	h.names = slices.Delete(h.names, 7, 8)
	h.run(8 * time.Second)
	check(silent)
}

// BenchmarkHub is what a second of heartbeats costs, those of the halls included.
func BenchmarkHub(b *testing.B) {
	for _, n := range []int{30, 300} {
		for _, interval := range []time.Duration{time.Second, 100 * time.Millisecond} {
			b.Run(fmt.Sprint(n, " ", interval), func(b *testing.B) {
				h := newHub(n, interval)
				h.run(10 * time.Second)
				before := h.steps
				for b.Loop() {
					h.run(time.Second)
				}
				b.ReportMetric(float64(h.steps-before)/float64(b.N), "steps/op")
			})
		}
	}
}

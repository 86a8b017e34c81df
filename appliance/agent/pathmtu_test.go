package agent

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"komainu/failover/detect"
	"komainu/netstack/spec"
	"komainu/ntp/instant"
)

// mtuWalk is a DC edge with one hall behind a tunnel, and the path in between.
type mtuWalk struct {
	walk
	hall   *detect.Session
	mtu    int // of the path; what is larger vanishes
	found  int // by the hall, for its own direction
	deaf   bool
	speed  float64 // bit/s
	routes []spec.Route
}

const mtuRTT = 10 * time.Millisecond

func newMTUWalk(t *testing.T, fixed int) *mtuWalk {
	w := &mtuWalk{walk: walk{t: t, now: instant.Instant(100 * time.Second), sick: map[string]Outcome{}}, mtu: 1420, found: 1420, speed: 1e8}
	w.begin = w.now
	w.hall = detect.NewSession(detect.SessionConfig{Path: "main", Peer: "dc-edge", Interval: 100 * time.Millisecond, Mult: 5, Boot: 2}, w.now)
	w.a = New(Spec{Site: "dc-edge", Role: DCEdge,
		Ground: Ground{Network: spec.Network{Links: []spec.Link{{Name: "vpn-town", Kind: spec.XFRM, MTU: 1420, Up: true}},
			Routes: []spec.Route{{To: netip.MustParsePrefix("192.168.60.0/24"), Link: "vpn-town"}, {To: netip.MustParsePrefix("192.168.61.0/24"), Link: "lan"}}}},
		Paths: []Path{{Name: "main", Peer: "town", Link: "vpn-town", Interval: 100 * time.Millisecond, Mult: 5, Tunnel: true, MTU: fixed}},
		Peers: []Peer{{Name: "town", Role: TownHall, Networks: []netip.Prefix{netip.MustParsePrefix("192.168.50.0/24"), netip.MustParsePrefix("fd00:50::/64")}}}})
	w.play(Started{Boot: 1, Wall: w.wall()})
	return w
}

// play gives the agent an event and does what it says.
func (w *mtuWalk) play(ev Event) {
	for _, x := range w.a.Step(w.now, ev) {
		d := Done{ID: x.ID}
		switch do := x.Do.(type) {
		case SendBeat:
			if !w.cut {
				_, _ = w.hall.Receive(w.now, do.Message)
			}
		case SendProbe:
			w.say("probe %d", do.Size)
			if do.Size <= w.mtu && !w.deaf && !w.cut {
				w.sent = append(w.sent, Echoed{Path: do.Path, ID: do.ID, Size: do.Size, RTT: mtuRTT, Found: w.found})
			}
		case SendTrain:
			w.say("%d packets of %d back to back", do.Count, do.Size)
			span := time.Duration(float64(do.Size*8*(do.Count-1)) / w.speed * float64(time.Second))
			w.sent = append(w.sent, Trained{Path: do.Path, ID: do.ID, Size: do.Size, Count: do.Count, Span: span})
		case TellFound:
			w.say("tell %d", do.Found)
		case SetRoutes:
			w.say("routes %s", ways(do.Routes))
			w.routes = do.Routes
		case SetNetwork:
			w.say("network %s", ways(do.Ground.Network.Routes))
			d.Value = Applied{}
		case Note, Alarm:
			w.say("%s", text(do))
		}
		if x.ID != 0 {
			w.sent = append(w.sent, d)
		}
	}
}

func ways(routes []spec.Route) string {
	var out []string
	for _, r := range routes {
		out = append(out, fmt.Sprintf("%s over %s mtu %d", r.To, r.Link, r.MTU))
	}
	return strings.Join(out, ", ")
}

// run lets time pass; answers take their time.
func (w *mtuWalk) run(d time.Duration) {
	for end := w.now.Add(d); w.now < end; {
		if len(w.sent) > 0 {
			i := slices.IndexFunc(w.sent, func(e Event) bool { _, done := e.(Done); return done })
			ev := w.sent[max(i, 0)]
			w.sent = slices.Delete(w.sent, max(i, 0), max(i, 0)+1)
			if i < 0 && (len(w.sent) == 0 || i == 0) {
				w.now = w.now.Add(mtuRTT)
			}
			w.play(ev)
			continue
		}
		w.now = max(w.now, min(end, w.a.Next(), w.hall.Next()))
		w.hall.Expire(w.now)
		if w.hall.Due(w.now) {
			m := &detect.Message{From: "town"}
			w.hall.Stamp(w.now, 0, m)
			if !w.cut {
				w.play(Beat{Path: "main", Message: m})
			}
		}
		w.play(Tick{Wall: w.wall()})
	}
}

// TestPathMTU: what is found stands at all that leads into the tunnel, moves
// with the path, and is kept while the path is down.
func TestPathMTU(t *testing.T) {
	w := newMTUWalk(t, 0)
	w.run(2 * time.Second)
	w.say("-- as wide as the link: nothing stands at the routes. The path shrinks to 990")
	w.mtu = 990
	w.run(4 * time.Second)
	w.say("-- the hall finds 980 for its own direction")
	w.found = 980
	w.run(4 * time.Second)
	w.say("-- the path is cut, and heals as wide as at first")
	w.cut = true
	w.run(2 * time.Second)
	w.cut, w.mtu, w.found = false, 1420, 1420
	w.run(2 * time.Second)
	w.golden("path-mtu")
	if v := w.a.View().Paths[0].Width; v.Out != 1420 || v.In != 1420 || v.Used != 1420 || v.Fixed || v.Capacity < 0.99e8 || v.Capacity > 1.01e8 {
		t.Errorf("%+v", v)
	}
}

// TestPathMTUFixed: nothing is asked, the peer is told.
func TestPathMTUFixed(t *testing.T) {
	w := newMTUWalk(t, 1300)
	w.run(2 * time.Second)
	w.golden("path-mtu-fixed")
}

// TestPathMTUUnanswered: a peer that doesn't answer leaves everything as it is,
// with an alarm; a slow path isn't kept busy by trains.
func TestPathMTUUnanswered(t *testing.T) {
	w := newMTUWalk(t, 0)
	w.deaf, w.speed = true, 384e3
	w.run(15 * time.Second)
	w.deaf = false
	w.say("-- it answers")
	w.run(3 * time.Second)
	w.golden("path-mtu-unanswered")
}

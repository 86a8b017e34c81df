package agent

import (
	"net/netip"
	"slices"
	"time"

	"komainu/failover/detect"
	"komainu/netstack/spec"
	"komainu/ntp/instant"
)

// network is the part that watches paths and sends each peer's traffic over
// the best of them.
type network struct {
	spec    *Spec
	paths   []path
	links   map[string]bool // known to have no carrier
	due     instant.Instant // when the agent asked to run next
	stalled instant.Instant // end of the last stall; 0: none
	contact bool
	carries map[string]string // peer → path
	routes  []spec.Route      // as last confirmed
	routed  bool
	told    uint64 // content version that the peers were last sent
	content uint64 // grows when what we report has changed
}

type path struct {
	Path
	session *detect.Session
	state   detect.SessionState // as last noted
}

func (n *network) init(s *Spec) {
	n.spec = s
	n.links = map[string]bool{}
	n.carries = map[string]string{}
}

func (n *network) start(a *Agent) {
	for _, p := range n.spec.Paths {
		n.paths = append(n.paths, path{Path: p, session: detect.NewSession(detect.SessionConfig{
			Path: p.Name, Peer: p.Peer, Interval: p.Interval, Mult: p.Mult, Boot: a.boot}, a.now)})
	}
}

// detection is the longest detection time of any path.
func (n *network) detection() time.Duration {
	var d time.Duration
	for _, p := range n.paths {
		d = max(d, detect.DetectionTime(p.Interval, p.Mult))
	}
	return d
}

func (n *network) carrier(e Carrier) { n.links[e.Link] = !e.Up }

// expire runs the detection of every path and notes what changed. A time in
// which this process didn't run is no silence of the peers.
func (n *network) expire(a *Agent) {
	if gap := a.now.Sub(n.due); n.due != 0 && gap >= n.detection()/2 {
		n.stalled = a.now
		for i := range n.paths {
			n.paths[i].session.Stalled(a.now, gap)
		}
		a.note(n.spec.Site, "own-stall", 0, gap.Round(time.Millisecond).String())
	}
	for i := range n.paths {
		p := &n.paths[i]
		p.session.Expire(a.now)
		if s := p.session.Seen(); s != p.state {
			if s == detect.Up || p.state == detect.Up {
				a.note(p.Name, "path-"+s.String(), 0, p.Peer)
			}
			p.state = s
		}
		if p.state == detect.Up {
			n.contact = true
		}
	}
}

// up says whether some path to peer is up.
func (n *network) up(peer string) bool {
	for i := range n.paths {
		if n.paths[i].Peer == peer && n.paths[i].session.State() == detect.Up {
			return true
		}
	}
	return false
}

// route chooses each peer's path: the first in the configuration's order that
// is up; a path that comes back must have been up for steady before traffic
// moves back to it. With none up nothing is moved.
func (n *network) route(a *Agent) {
	const steady = 5 * time.Second
	var want []spec.Route
	for _, peer := range n.spec.Peers {
		now := n.carries[peer.Name]
		best := ""
		for i := range n.paths {
			p := &n.paths[i]
			if p.Peer != peer.Name {
				continue
			}
			up := p.session.State() == detect.Up
			if now == "" && best == "" && !n.up(peer.Name) {
				best = p.Name // at the start: the first, up or not
			}
			if up && (p.Name == now || now == "" || !n.isUp(now) || a.now.Sub(p.session.Since()) >= steady) {
				best = p.Name
				break
			}
		}
		if best != "" && best != now {
			if now != "" {
				a.note(peer.Name, "path-carries", 0, best, now)
			}
			n.carries[peer.Name] = best
		}
		want = append(want, n.toPeer(peer, n.carries[peer.Name])...)
	}
	if n.routed && slices.Equal(want, n.routes) {
		return
	}
	a.issue("routes", 0, 2*time.Second, SetRoutes{Routes: want}, func(d Done) {
		n.routed = d.Outcome == OK
		n.routes = want
	})
}

func (n *network) isUp(name string) bool {
	for i := range n.paths {
		if n.paths[i].Name == name {
			return n.paths[i].session.State() == detect.Up
		}
	}
	return false
}

// toPeer are the routes to a peer's networks over one path.
func (n *network) toPeer(peer Peer, over string) []spec.Route {
	var out []spec.Route
	for i := range n.paths {
		p := &n.paths[i]
		if p.Name != over {
			continue
		}
		for _, to := range peer.Networks {
			r := spec.Route{To: to, Link: p.Link, Via: sameFamily(p.Gateways, to.Addr()), Source: sameFamily(peer.Sources, to.Addr())}
			if r.Via.IsValid() {
				out = append(out, r)
			}
		}
	}
	return out
}

func sameFamily(from []netip.Addr, as netip.Addr) netip.Addr {
	for _, a := range from {
		if a.Is4() == as.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

package agent

import (
	"net/netip"
	"slices"
	"time"

	"komainu/failover/detect"
	"komainu/netstack/paths"
	"komainu/netstack/spec"
	"komainu/ntp/instant"
)

// network is the part that watches paths and sends each peer's traffic over
// the best of them.
type network struct {
	spec    *Spec
	paths   []path
	links   map[string]bool            // known to have no carrier
	back    map[string]instant.Instant // when the carrier came back last
	due     instant.Instant            // when the agent asked to run next
	stalled instant.Instant            // end of the last stall; 0: none
	contact bool
	carries map[string]string // carryKey → path
	at      map[string]int    // path → its place in paths
	over    map[string][]int  // link → places of the paths over it
	peers   []reach
	edition uint64       // of the ground that want is for
	want    []spec.Route // to all peers
	open    bool         // want may not be what the kernel has
	routes  []spec.Route // as last confirmed
	routed  bool
	told    uint64 // content version that the peers were last sent
	content uint64 // grows when what we report has changed
}

type path struct {
	Path
	session *detect.Session
	state   detect.SessionState // as last noted
	worked  bool                // as last looked at
	reach   *reach              // its peer; nil: none that is configured
}

// plannedMost is how long a peer's agent may be away on purpose before what goes
// to it is led elsewhere: a restart takes less, a box that is switched off more.
const plannedMost = 3 * time.Second

// works tells whether traffic may take the path: its session is up, or its agent
// has just been stopped on purpose, which is no failure (RFC 5882, 3.2).
func (p *path) works(now instant.Instant) bool {
	return p.session.State() == detect.Up || p.session.Seen() == detect.AdminDown && now.Sub(p.session.Since()) < plannedMost
}

// reach is how one peer is reached. It is looked at only when a heartbeat or its
// absence says something new, or time does: a hub has hundreds of peers, each
// with several heartbeats a second.
type reach struct {
	Peer
	owned   string // what the names of groups must begin with that it may speak of
	paths   []int  // places in network.paths
	chooser paths.Chooser
	routes  []spec.Route // over the paths that carry, without path MTU
	moved   bool
	due     instant.Instant
}

func (n *network) init(s *Spec) {
	n.spec = s
	n.links = map[string]bool{}
	n.back = map[string]instant.Instant{}
	n.carries = map[string]string{}
	n.at, n.over = map[string]int{}, map[string][]int{}
}

func (n *network) start(a *Agent) {
	n.peers = make([]reach, len(n.spec.Peers))
	byName := map[string]*reach{}
	for i, p := range n.spec.Peers {
		n.peers[i] = reach{Peer: p, owned: a.owned(p), moved: true}
		byName[p.Name] = &n.peers[i]
	}
	for i, p := range n.spec.Paths {
		r := byName[p.Peer]
		if r != nil {
			r.paths = append(r.paths, i)
		}
		n.at[p.Name], n.over[p.Link] = i, append(n.over[p.Link], i)
		n.paths = append(n.paths, path{Path: p, reach: r, session: detect.NewSession(detect.SessionConfig{
			Path: p.Name, Peer: p.Peer, Interval: p.Interval, Mult: p.Mult, Boot: a.boot}, a.now)})
	}
}

// find is the path of that name; nil: there is none.
func (n *network) find(name string) *path {
	if i, ok := n.at[name]; ok {
		return &n.paths[i]
	}
	return nil
}

// moved has the peer's paths looked at.
func (p *path) moved() {
	if p.reach != nil {
		p.reach.moved = true
	}
}

// detection is the longest detection time of any path.
func (n *network) detection() time.Duration {
	var d time.Duration
	for i := range n.paths {
		d = max(d, detect.DetectionTime(n.paths[i].Interval, n.paths[i].Mult))
	}
	return d
}

func (n *network) carrier(e Carrier, now instant.Instant) {
	if e.Up && n.links[e.Link] {
		n.back[e.Link] = now
	}
	n.links[e.Link] = !e.Up
}

// expire runs the detection of every path and notes what changed. A time in
// which this process didn't run is no silence of the peers.
func (n *network) expire(a *Agent) {
	if gap := a.now.Sub(n.due); n.due != 0 && len(n.paths) > 0 && gap >= n.detection()/2 {
		n.stalled = a.now
		for i := range n.paths {
			n.paths[i].session.Stalled(a.now, gap)
		}
		a.note(n.spec.Site, "own-stall", 0, gap.Round(time.Millisecond).String())
	}
	for i := range n.paths {
		p := &n.paths[i]
		if p.session.Expire(a.now) {
			p.moved()
		}
		if w := p.works(a.now); w != p.worked {
			p.worked = w
			p.moved()
		}
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

// route chooses each peer's path, and that of each class of traffic that has an
// order of its own, and moves all that changed in one step.
func (n *network) route(a *Agent) {
	other := n.edition != a.ground.edition
	changed := other || a.probes.moved
	for i := range n.peers {
		if r := &n.peers[i]; other || r.moved || a.now >= r.due {
			changed = n.choose(a, r) || changed
		}
	}
	if changed {
		n.edition, n.open, n.want = a.ground.edition, true, nil
		for i := range n.peers {
			n.want = append(n.want, n.peers[i].routes...)
		}
		n.want = a.probes.fit(n.want)
	}
	switch {
	case !n.open:
		return
	case n.routed && slices.Equal(n.want, n.routes):
		n.open = false
		return
	}
	want := n.want
	n.open = !a.issue("routes", 0, 2*time.Second, SetRoutes{Routes: want}, func(d Done) {
		n.routed, n.routes, n.open = d.Outcome == OK, want, true
	})
}

// choose chooses a peer's paths; changed says that other routes follow from it.
func (n *network) choose(a *Agent, r *reach) (changed bool) {
	all := n.order(a.now, r, nil)
	r.chooser.Watch(a.now, all)
	n.carry(a, r, "", all)
	want := n.toPeer(r, n.carries[r.Name], 0)
	for _, class := range a.ground.spec.ClassPaths {
		order := n.order(a.now, r, class.Paths)
		if len(order) == 0 {
			continue
		}
		n.carry(a, r, class.Class, order)
		want = append(want, n.toPeer(r, n.carries[carryKey(r.Name, class.Class)], class.Table)...)
	}
	r.moved, r.due = false, r.chooser.Next(a.now, all)
	changed = !slices.Equal(want, r.routes)
	r.routes = want
	return changed
}

// carry chooses the path of one class to a peer, or, without one, of the rest.
func (n *network) carry(a *Agent, r *reach, class string, order []paths.Path) {
	key := carryKey(r.Name, class)
	now := n.carries[key]
	best := r.chooser.Choose(a.now, order, now)
	if best == now {
		return
	}
	switch {
	case now == "":
	case class == "":
		a.note(r.Name, "path-carries", 0, best, now)
	default:
		a.note(r.Name, "path-carries-class", 0, class, best, now)
	}
	n.carries[key] = best
}

// carryKey is the key in carries of a class of a peer's traffic; without class
// it is the peer's name.
func carryKey(peer, class string) string {
	if class == "" {
		return peer
	}
	return peer + " " + class
}

// order are the paths to a peer, those named in first before the others, which
// keep the configuration's order.
func (n *network) order(now instant.Instant, r *reach, first []string) []paths.Path {
	out := make([]paths.Path, 0, len(r.paths))
	for _, i := range r.paths {
		p := &n.paths[i]
		out = append(out, paths.Path{Name: p.Name, Up: p.works(now), Since: p.session.Since(), Loss: p.session.Loss()})
	}
	rank := func(p paths.Path) int {
		if i := slices.Index(first, p.Name); i >= 0 {
			return i
		}
		return len(first)
	}
	slices.SortStableFunc(out, func(a, b paths.Path) int { return rank(a) - rank(b) })
	return out
}

// next is when a choice may change although nothing happens.
func (n *network) next(now instant.Instant) instant.Instant {
	next := now.Add(time.Minute)
	for i := range n.peers {
		next = min(next, n.peers[i].due)
	}
	return next
}

// toPeer are the routes to a peer's networks over one path, in one table.
func (n *network) toPeer(peer *reach, over string, table uint32) []spec.Route {
	p := n.find(over)
	if p == nil {
		return nil
	}
	out := make([]spec.Route, 0, len(peer.Networks))
	for _, to := range peer.Networks {
		r := spec.Route{To: to, Link: p.Link, Via: sameFamily(p.Gateways, to.Addr()), Source: sameFamily(peer.Sources, to.Addr()), Table: table}
		if r.Via.IsValid() || p.Tunnel {
			out = append(out, r)
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

package agent

import (
	"time"

	"komainu/failover/detect"
	"komainu/netstack/pmtu"
	"komainu/netstack/spec"
	"komainu/ntp/instant"
)

// probing is the part that finds what each tunnel carries (RFC 8899). The link
// of a tunnel stays as wide as its line allows, since a probe must be able to be
// larger than what is known to pass, and since IPv6 asks for 1280 bytes of a
// link; what was found stands at every route over it.
type probing struct {
	paths []*probed
	at    map[string]*probed   // by path
	over  map[string][]*probed // by link
	moved bool                 // the last step has changed what fits
}

// probed is one path over a tunnel.
type probed struct {
	path   string
	link   string
	fixed  int // by the configuration; 0: found
	max    int // what the link takes
	search *pmtu.Search
	up     bool
	noted  int             // own result, as people were told last
	in     int             // what the peer found for its own direction; 0: not told yet
	told   int             // own result, as the driver was told last
	train  instant.Instant // when the next train is due; 0: as soon as a size is found
	trains uint64
	long   bool            // the last train was too short for this path
	bits   float64         // capacity by the last train, per second; 0: unknown
	mute   instant.Instant // since when nobody answers; 0: somebody does
	fits   int             // narrower, as routes were told last

	session *detect.Session
	edition uint64          // of the ground that max is of
	heard   bool            // something about it since the last step
	due     instant.Instant // when time alone has something for it
}

// Sizes and times of probing.
const (
	probeMin   = 576  // the least that IPv4 hosts must take (RFC 791)
	ipv6Min    = 1280 // RFC 8200 section 5
	trainEvery = 10 * time.Minute
	// A short train tells how slow a path is without keeping a slow one busy (an
	// eighth of a second at 48 kB/s, less than a heartbeat may be late); a long
	// one is exact where the short one took less than trainFast.
	trainShort, trainLong = 4, 24
	trainFast             = 5 * time.Millisecond
	muteAlarm             = 10 * time.Second
)

func (p *probing) start(a *Agent) {
	p.at, p.over = map[string]*probed{}, map[string][]*probed{}
	for i, s := range a.spec.Paths {
		if s.Tunnel {
			x := &probed{path: s.Name, link: s.Link, fixed: s.MTU, session: a.net.paths[i].session}
			p.paths = append(p.paths, x)
			p.at[x.path], p.over[x.link] = x, append(p.over[x.link], x)
		}
	}
}

// usualTunnel is what a tunnel over Ethernet carries, if its link isn't known.
const usualTunnel = 1446

// widest is the MTU of a tunnel's link as configured.
func (a *Agent) widest(link string) int {
	if w := a.ground.widths[link]; w > probeMin {
		return w
	}
	return usualTunnel
}

// hear is the path that something came about; nil: none that is probed.
func (p *probing) hear(path string) *probed {
	x := p.at[path]
	if x == nil || x.search == nil {
		return nil
	}
	x.heard = true
	return x
}

// echoed takes the answer to a probe. When the peer's own result has changed,
// ours may have to, too.
func (p *probing) echoed(a *Agent, e Echoed) {
	x := p.hear(e.Path)
	if x == nil {
		return
	}
	x.search.Echoed(a.now, e.ID, e.Size, e.RTT)
	if e.Found == x.in {
		return
	}
	again := x.in != 0 && e.Found != 0 && x.search.Settled()
	x.in = e.Found
	if again {
		x.search.Start(a.now, e.RTT)
	}
}

func (p *probing) tooBig(a *Agent, e ProbeTooBig) {
	if x := p.hear(e.Path); x != nil {
		x.search.TooBig(a.now, e.ID)
	}
}

// trained takes what a train says; one that was too short for its path is
// followed by a longer one.
func (p *probing) trained(e Trained) {
	x := p.hear(e.Path)
	if x == nil || e.ID != x.trains || e.Count < 2 {
		return
	}
	if e.Span > 0 {
		x.bits = float64(e.Size*8*(e.Count-1)) / e.Span.Seconds()
	}
	x.long = e.Count == trainShort && e.Span < trainFast
}

func (x *probed) send(a *Agent, count int) {
	x.long = false
	x.trains++
	a.do("", 0, 0, SendTrain{Path: x.path, ID: x.trains, Size: x.search.Found(), Count: count})
}

// step follows the paths' state and sends what is due.
func (p *probing) step(a *Agent) {
	p.moved = false
	for _, x := range p.paths {
		up := x.session.State() == detect.Up
		if up == x.up && !x.heard && a.now < x.due && x.edition == a.ground.edition {
			continue
		}
		x.heard, x.edition = false, a.ground.edition
		if w := a.widest(x.link); w != x.max { // at first, or by a new configuration
			x.max, x.search, x.up = w, pmtu.New(pmtu.Config{Min: min(probeMin, w), Max: w}), false
		}
		switch {
		case x.fixed != 0:
			x.tell(a, x.fixed)
		case up && !x.up:
			x.search.Start(a.now, x.session.RTT())
			x.train = 0
		case !up && x.up:
			x.search.Stop()
			x.mute = 0
		}
		if x.up = up; up && x.fixed == 0 {
			x.look(a)
		}
		x.due = x.next(a.now)
		if n := x.narrower(); n != x.fits {
			x.fits, p.moved = n, true
		}
	}
}

// next is when step has something to do for a path although nothing happens.
func (x *probed) next(now instant.Instant) instant.Instant {
	next := now.Add(time.Minute)
	if t, ok := x.search.Next(); ok && x.fixed == 0 {
		next = min(next, t)
	}
	if x.up && x.fixed == 0 && x.search.Settled() {
		next = min(next, x.train)
	}
	return next
}

// look goes on with the search of a path that is up.
func (x *probed) look(a *Agent) {
	before := x.search.Settled()
	for _, s := range x.search.Step(a.now) {
		a.do("", 0, 0, SendProbe{Path: x.path, ID: s.ID, Size: s.Size})
	}
	found := x.search.Found()
	x.tell(a, found)
	switch {
	case !x.search.Failed():
		x.mute = 0
	case x.mute == 0:
		x.mute = a.now
	}
	if !x.search.Settled() {
		return
	}
	if !before && found != x.noted {
		probes, took := x.search.Cost()
		a.note(x.path, "path-mtu-found", 0, itoa(found), itoa(probes), took.Round(time.Millisecond).String())
		x.noted, x.train = found, a.now
	}
	switch {
	case a.now >= x.train:
		x.train = a.now.Add(trainEvery)
		x.send(a, trainShort)
	case x.long:
		x.send(a, trainLong)
	}
}

// tell has every message to the peer carry the own result.
func (x *probed) tell(a *Agent, found int) {
	if found != x.told {
		x.told = found
		a.do("", 0, 0, TellFound{Path: x.path, Found: found})
	}
}

// next is when step has something to do.
func (p *probing) next(now instant.Instant) instant.Instant {
	next := now.Add(time.Minute)
	for _, x := range p.paths {
		if x.search == nil || x.fixed != 0 {
			continue
		}
		if t, ok := x.search.Next(); ok {
			next = min(next, t)
		}
	}
	return next
}

// used is the largest packet that may be sent over a path: what passes both
// ways, since the answer to a large packet may be as large. 0: not known.
func (x *probed) used() int {
	out := 0
	if x.search != nil {
		out = x.search.Found()
	}
	switch {
	case x.fixed != 0:
		return x.fixed
	case out != 0 && x.in != 0:
		return min(out, x.in)
	}
	return out
}

// narrower is used where it is less than the link's MTU, which says enough; else 0.
func (x *probed) narrower() int {
	if n := x.used(); n < x.max {
		return n
	}
	return 0
}

// fit gives the routes over tunnels what passes there. The peers' own addresses
// inside have none, only that of their link: the kernel refuses what is larger
// than its route, of a socket that ignores path MTUs too, as ESP's bundles take
// the route's for theirs (xfrm_init_pmtu), and no probe would ever find more.
func (p *probing) fit(routes []spec.Route) []spec.Route {
	for i, r := range routes {
		for _, x := range p.over[r.Link] {
			if n := x.narrower(); n != 0 && (r.MTU == 0 || n < r.MTU) {
				routes[i].MTU = n
			}
		}
	}
	return routes
}

// watch raises what people should know: larger IPv6 datagrams than a path
// carries can't pass it, since no router may fragment them (RFC 8200), and
// nothing is known of a path whose other end doesn't answer.
func (p *probing) watch(a *Agent, now map[alarmKey]Severity) {
	for _, x := range p.paths {
		if n := x.used(); x.up && n != 0 && n < ipv6Min {
			now[alarmKey{"mtu-below-minimum", x.path}] = Warning
		}
		if x.mute != 0 && a.now.Sub(x.mute) >= muteAlarm {
			now[alarmKey{"mtu-unanswered", x.path}] = Warning
		}
	}
}

// CarriesView is what is known of how much a path carries. Sizes in bytes of
// packets inside the tunnel; 0: unknown.
type CarriesView struct {
	Out, In  int // found for each direction
	Used     int
	Fixed    bool    // by the configuration
	Capacity float64 // bit/s
}

func (p *probing) view(path string) CarriesView {
	x := p.at[path]
	if x == nil || x.search == nil {
		return CarriesView{}
	}
	return CarriesView{Out: x.search.Found(), In: x.in, Used: x.used(), Fixed: x.fixed != 0, Capacity: x.bits}
}

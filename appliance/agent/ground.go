package agent

import (
	"slices"
	"time"

	"komainu/netstack/firewall"
	"komainu/netstack/paths"
	"komainu/netstack/qos"
	"komainu/netstack/spec"
	"komainu/ntp/instant"
)

// Ground is the network that everything else stands on, as configured.
type Ground struct {
	Network  spec.Network   // without the tracked routes
	Tracked  []spec.Tracked // in the order of the configuration
	Firewall firewall.Policy
	Tunnels  []spec.Tunnel
	// ClassPaths are the classes of traffic with an order of paths of their own.
	ClassPaths []ClassPath
	Sharing    qos.Plan
	Calendar   qos.Calendar // for the hours of Sharing
	// NoHolidays is why Calendar doesn't have what the configuration says; empty:
	// it does.
	NoHolidays string
}

// ClassPath is the order of paths of one class of traffic. Its packets are
// marked, and a rule of Network leads marked ones to Table, where the agent puts
// routes to the peers.
type ClassPath struct {
	Class string
	Table uint32
	Paths []string // best first; the others follow in the order of the configuration
}

// All is g with every tracked route in use, as long as nothing is known of what
// they lead over.
func (g Ground) All() Ground {
	routes := slices.Clone(g.Network.Routes)
	for _, r := range g.Tracked {
		routes = append(routes, r.Route)
	}
	g.Network.Routes, g.Tracked = routes, nil
	return g
}

// ground is the part that keeps the kernel's network as configured: it makes
// it so at the start, puts drift right, and takes a new configuration over only
// when the kernel has taken it.
type ground struct {
	spec    Ground
	edition uint64          // grows with each other spec
	widths  map[string]int  // MTU of the spec's links; 0: the usual
	want    Ground          // Tracked is empty: chosen into Network.Routes
	asked   bool            // want was given to the kernel
	settled bool            // and the kernel is so
	busy    bool            // an action is in flight
	drifted bool            // something changed since the last look
	due     instant.Instant // not before: after failures, or while somebody insists
	again   instant.Instant // when what is unsettled is looked at again without a sign
	fails   int             // in a row
	fixes   []instant.Instant
	applied Applied // by the last action that ended
	code    string  // of the last failure; empty: none
	args    []string
	next    *Reload // waits to be tried
	trying  *Reload
}

// Times of the ground.
const (
	groundWithin = 20 * time.Second // for one action: duplicate detection and hundreds of links
	groundAgain  = time.Minute      // how often ports that are missing and addresses of others are looked at again
	fightWithin  = time.Minute      // somebody else who changes the network all the time
	fightMost    = 10               // is let have it for a while after so many corrections
	fightPause   = 30 * time.Second
)

func (g *ground) init(s *Spec) { g.take(s.Ground) }

// take makes a configuration the one that holds.
func (g *ground) take(s Ground) {
	g.spec, g.widths = s, map[string]int{}
	g.edition++
	for _, l := range s.Network.Links {
		g.widths[l.Name] = l.MTU
	}
}

// drift notes that the kernel's network may have changed.
func (g *ground) drift() { g.drifted = true }

// reload takes a new configuration; one that still waits is refused.
func (g *ground) reload(a *Agent, r Reload) {
	if g.next != nil || g.trying != nil {
		a.do("", 0, 0, Reloaded{Token: r.Token, Code: "reload-busy"})
		return
	}
	g.next = &r
}

// step issues what is to be done, if anything.
func (g *ground) step(a *Agent) {
	if g.busy {
		return
	}
	if g.next != nil {
		g.trying, g.next = g.next, nil
		g.issue(a, a.choose(g.trying.Ground), g.trying)
		return
	}
	want := a.choose(g.spec)
	changed := !g.asked || !slices.Equal(want.Network.Routes, g.want.Network.Routes)
	if changed || a.now >= g.due && (g.drifted || !g.settled && a.now >= g.again) {
		g.issue(a, want, nil)
	}
}

// issue has the kernel made so. trial is not nil for a new configuration.
func (g *ground) issue(a *Agent, want Ground, trial *Reload) {
	known := g.asked && g.settled && trial == nil && slices.Equal(want.Network.Routes, g.want.Network.Routes)
	g.drifted, g.asked = false, true
	if trial == nil {
		g.want = want
	}
	g.busy = a.issue("ground", 0, groundWithin, SetNetwork{Ground: want, Whole: trial != nil}, func(d Done) {
		g.busy = false
		applied, _ := d.Value.(Applied)
		if trial != nil {
			g.tried(a, trial, want, d, applied)
			return
		}
		g.applied, g.settled = applied, d.Outcome == OK && len(applied.Missing) == 0 && len(applied.Conflicts) == 0
		g.code, g.args = d.Code, d.Args
		if known {
			g.corrected(a, applied.Changes)
		}
		switch {
		case d.Outcome != OK:
			g.due = a.now.Add(min(groundAgain, time.Second<<min(g.fails, 6)))
			g.again = g.due
			g.fails++
		case !g.settled:
			g.fails, g.again = 0, a.now.Add(groundAgain)
		default:
			g.fails = 0
		}
	})
}

// corrected notes what somebody else had changed, and leaves the network to who
// insists for a while: two who put each other right all the time would be worse
// than either.
func (g *ground) corrected(a *Agent, changes []string) {
	if len(changes) == 0 {
		return
	}
	const notes = 20
	for i, c := range changes {
		if i == notes {
			a.note(a.spec.Site, "net-drift-more", 0, itoa(len(changes)-notes))
			break
		}
		a.note(a.spec.Site, "net-drift", 0, c)
	}
	g.fixes = append(slices.DeleteFunc(g.fixes, func(t instant.Instant) bool { return a.now.Sub(t) > fightWithin }), a.now)
	if len(g.fixes) >= fightMost {
		g.due = a.now.Add(fightPause)
	}
}

// tried ends a reload. Where it failed the kernel has been put back, which is
// looked at once more.
func (g *ground) tried(a *Agent, r *Reload, want Ground, d Done, applied Applied) {
	g.trying = nil
	if d.Outcome != OK {
		g.drifted = true
		a.do("", 0, 0, Reloaded{Token: r.Token, Code: d.Code, Args: d.Args})
		return
	}
	g.take(r.Ground)
	g.want, g.applied, g.settled, g.fails, g.code, g.args = want, applied, len(applied.Missing) == 0, 0, "", nil
	if !g.settled {
		g.again = a.now.Add(groundAgain)
	}
	a.tunnels.set(r.Ground.Tunnels)
	a.do("", 0, 0, Reloaded{Token: r.Token, Changes: applied.Changes})
}

// watch raises what is wrong with the network.
func (g *ground) watch(a *Agent, now map[alarmKey]Severity) {
	if g.code != "" && g.fails > 1 {
		now[alarmKey{"network-failed", a.spec.Site}] = Critical
	}
	for _, m := range g.applied.Missing {
		now[alarmKey{"port-missing", m}] = Warning
	}
	for _, c := range g.applied.Conflicts {
		now[alarmKey{"address-conflict", c.Address}] = Critical
	}
	if len(g.fixes) >= fightMost && a.now < g.due {
		now[alarmKey{"network-fought", a.spec.Site}] = Warning
	}
	for _, r := range g.spec.Tracked {
		if !a.tracks(r) {
			now[alarmKey{"gateway-down", r.Via.String()}] = Warning
		}
	}
}

// choose puts the tracked routes that are to be used among the others: of those
// to one prefix in one table all that work, or all if none does.
func (a *Agent) choose(g Ground) Ground {
	routes := slices.Clone(g.Network.Routes)
	for _, r := range g.Tracked {
		other := slices.ContainsFunc(g.Tracked, func(o spec.Tracked) bool { return o.To == r.To && o.Table == r.Table && a.tracks(o) })
		if a.tracks(r) || !other {
			routes = append(routes, r.Route)
		}
	}
	g.Network.Routes, g.Tracked = a.probes.fit(routes), nil
	return g
}

// tracks tells whether what r leads over works. What nobody knows works.
func (a *Agent) tracks(r spec.Tracked) bool {
	if a.net.links[r.Link] {
		return false
	}
	if len(r.Paths) == 0 {
		return true
	}
	return slices.ContainsFunc(r.Paths, func(name string) bool {
		p := a.net.find(name)
		if p == nil {
			return true
		}
		switch {
		case p.works(a.now):
			// One that comes back must have stayed, like a peer's traffic.
			return !a.ground.left(r) || a.now.Sub(p.session.Since()) >= paths.Steady
		default:
			return a.now.Sub(a.started) < 3*time.Second // not heard of yet
		}
	})
}

// left tells whether r is left out now.
func (g *ground) left(r spec.Tracked) bool {
	return g.asked && !slices.Contains(g.want.Network.Routes, r.Route)
}

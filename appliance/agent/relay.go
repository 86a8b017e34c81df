package agent

import (
	"slices"
	"strings"
	"time"

	"komainu/failover/detect"
	"komainu/failover/machine"
	"komainu/ntp/instant"
)

// freshFor is how old another box's word may be to be acted on; heartbeats
// come several times a second.
const freshFor = 3 * time.Second

// relay remembers what other boxes said last. The DC edge passes it on; it
// adds nothing and decides nothing.
type relay struct {
	groups    map[string]saidGroup
	databases map[string]saidDatabase // by group + "/" + database
	names     []string                // keys of databases, sorted
	hosts     map[string][]string     // peer → groups of the databases that it spoke of, sorted
}

type saidGroup struct {
	state detect.GroupState
	from  string
	at    instant.Instant // when it came, less the age that it had
}

type saidDatabase struct {
	state detect.DatabaseState
	from  string
	at    instant.Instant
}

func newRelay() relay {
	return relay{groups: map[string]saidGroup{}, databases: map[string]saidDatabase{}}
}

// heard takes a heartbeat.
func (a *Agent) heard(e Beat) {
	p := a.net.find(e.Path)
	if p == nil {
		return
	}
	p.moved()
	fresh, err := p.session.Receive(a.now, e.Message)
	if err != nil || !fresh {
		return
	}
	owned := ""
	if p.reach != nil {
		owned = p.reach.owned
	}
	for _, g := range e.Message.Groups {
		if strings.HasPrefix(g.Group, owned) {
			a.relay.group(a, p.Peer, g)
		}
	}
	for i := range e.Message.Databases {
		if strings.HasPrefix(e.Message.Databases[i].Group, owned) {
			a.relay.database(a, p.Peer, &e.Message.Databases[i])
		}
	}
}

// owned is what the names of groups must begin with that a peer may speak of:
// a town hall of its own only, and to a town hall only of its own.
func (a *Agent) owned(peer Peer) string {
	switch {
	case a.spec.Role == TownHall:
		return a.spec.Site + "/"
	case peer.Role == TownHall:
		return peer.Name + "/"
	}
	return ""
}

func (r *relay) group(a *Agent, from string, g detect.GroupState) {
	old, ok := r.groups[g.Group]
	at := a.now.Add(-g.Age)
	if ok && at < old.at { // the other path was faster
		return
	}
	if !ok || old.state.Term != g.Term || old.state.Owner != g.Owner || old.state.Mode != g.Mode {
		a.net.content++
	}
	r.groups[g.Group] = saidGroup{state: g, from: from, at: at}
}

func (r *relay) database(a *Agent, from string, d *detect.DatabaseState) {
	key := d.Group + "/" + d.Database
	old, ok := r.databases[key]
	at := a.now.Add(-d.Age)
	if ok && at < old.at {
		return
	}
	if o := &old.state; !ok || o.Term != d.Term || o.Owner != d.Owner || o.Open != d.Open || o.Phase != d.Phase || o.Role != d.Role ||
		o.Orphans != d.Orphans || o.Fault != d.Fault || o.Role == d.Role && d.Phase == uint8(machine.Following) && o.Replay != d.Replay {
		a.net.content++
	}
	r.databases[key] = saidDatabase{state: *d, from: from, at: at}
	if !ok || old.from != from {
		r.index()
	}
}

// index sorts anew who hosts what; it hardly ever changes.
func (r *relay) index() {
	r.names, r.hosts = sorted(r.databases), map[string][]string{}
	for _, key := range r.names {
		d := r.databases[key]
		if !slices.Contains(r.hosts[d.from], d.state.Group) {
			r.hosts[d.from] = append(r.hosts[d.from], d.state.Group)
		}
	}
	for _, groups := range r.hosts {
		slices.Sort(groups)
	}
}

// fresh is the last word on a group, if it is still worth something.
func (r *relay) freshGroup(now instant.Instant, group string) *detect.GroupState {
	s, ok := r.groups[group]
	if !ok || now.Sub(s.at) >= freshFor {
		return nil
	}
	g := s.state
	return &g
}

// HeardTerm is the highest term of a group ("site/group") that another box has
// told since the start, 0 if none did.
func (a *Agent) HeardTerm(group string) uint64 { return a.relay.groups[group].state.Term }

// beat sends what is due, and at once what has changed.
func (a *Agent) beat() {
	changed := a.net.content != a.net.told
	a.net.told = a.net.content
	for i := range a.net.paths {
		p := &a.net.paths[i]
		if !changed && !p.session.Due(a.now) {
			continue
		}
		all := &detect.Message{}
		a.compose(p.Peer, all)
		for first := true; first || len(all.Groups)+len(all.Databases) > 0; first = false {
			m := &detect.Message{From: a.spec.Site}
			fill(m, all)
			p.session.Stamp(a.now, jitter(a.boot, uint64(a.now)), m)
			a.do("", 0, 0, SendBeat{Path: p.Name, Message: m})
		}
	}
}

// fill moves as much of all to m as one datagram surely holds (names have at
// most 27 letters, a message detect.MaxMessage bytes).
func fill(m, all *detect.Message) {
	const room, group, database = 1200, 80, 200
	left := room
	n := min(len(all.Groups), left/group)
	m.Groups, all.Groups = all.Groups[:n:n], all.Groups[n:]
	left -= n * group
	n = min(len(all.Databases), left/database)
	m.Databases, all.Databases = all.Databases[:n:n], all.Databases[n:]
}

// compose collects what this box has to say to a peer.
func (a *Agent) compose(peer string, m *detect.Message) {
	for _, g := range a.groups {
		m.Groups = append(m.Groups, g.say())
	}
	for _, h := range a.hosts {
		m.Databases = append(m.Databases, h.say(a))
	}
	if a.spec.Role != DCEdge {
		return
	}
	for _, key := range a.relay.hosts[peer] {
		s, ok := a.relay.groups[key]
		if ok && s.from != peer && a.now.Sub(s.at) < freshFor {
			g := s.state
			g.Age = a.now.Sub(s.at)
			m.Groups = append(m.Groups, g)
		}
	}
	own := peer + "/"
	first, _ := slices.BinarySearch(a.relay.names, own)
	for _, key := range a.relay.names[first:] {
		if !strings.HasPrefix(key, own) {
			break
		}
		s := a.relay.databases[key]
		if s.from != peer && a.now.Sub(s.at) < freshFor {
			d := s.state
			d.Age = a.now.Sub(s.at)
			m.Databases = append(m.Databases, d)
		}
	}
}

// forward passes a town hall's order on to the host of its database. A town
// hall may order only its own groups.
func (r *relay) forward(a *Agent, from string, o machine.Order) bool {
	s, ok := r.databases[o.Group+"/"+o.Database]
	if !ok || from == "" || !strings.HasPrefix(o.Group, from+"/") {
		return false
	}
	ok = a.issue("relay/"+o.ID, o.Term, 2*time.Second, SendOrder{Peer: s.from, Order: o}, func(d Done) {
		reply, ok := d.Value.(machine.Reply)
		if d.Outcome != OK || !ok {
			reply = machine.Reply{Code: "relay-failed", Args: []string{s.from}}
		}
		reply.ID = o.ID
		a.reply(reply)
	})
	return ok
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

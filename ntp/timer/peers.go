package timer

import (
	"net/netip"
	"slices"
	"time"

	"komainu/ntp/instant"
	"komainu/ntp/source"
)

// peer is a server with what we know of it.
type peer struct {
	Server
	*source.Source
	name   string
	query  uint64 // under way; 0: none
	void   bool   // the clock was moved under it
	state  source.State
	liedAt instant.Instant // when it last contradicted the majority; 0: never
}

// upstream is where a line of the configuration stands.
type upstream struct {
	next       instant.Instant // of the next Resolve; 0: not needed
	asked      bool            // a Resolve is under way
	failures   int
	unresolved bool
}

// Timing of queries and names.
const (
	queryTimeout  = 2 * time.Second
	resolveFirst  = 4 * time.Second
	resolveMax    = 15 * time.Minute
	leapQuiet     = 5 * time.Second // around a leap second nobody is asked
	replaceSilent = 10 * time.Minute
)

// resolved takes an upstream's addresses.
func (t *Timer) resolved(e Resolved) {
	u, spec := &t.upstreams[e.Upstream], t.spec.Upstreams[e.Upstream]
	u.asked = false
	if len(e.Addrs) == 0 {
		u.unresolved = true
		u.next = t.now.Boot.Add(min(resolveFirst<<min(u.failures, 10), resolveMax))
		u.failures++
		return
	}
	u.unresolved, u.failures, u.next = false, 0, 0
	want := max(spec.Pool, 1)
	unused := len(e.Addrs)
	for _, p := range t.peers {
		if p.Upstream == e.Upstream && slices.Contains(e.Addrs, p.Addr.Addr()) {
			unused--
		}
	}
	t.peers = slices.DeleteFunc(t.peers, func(p *peer) bool { // another address may do better
		gone := p.Upstream == e.Upstream && p.state >= source.Silent && unused > 0
		if gone {
			unused--
			t.do(Forget{Source: p.ID})
		}
		return gone
	})
	for _, a := range e.Addrs {
		have := slices.DeleteFunc(slices.Clone(t.peers), func(p *peer) bool { return p.Upstream != e.Upstream })
		if len(have) >= want {
			break
		}
		addr := netip.AddrPortFrom(a, spec.Port)
		if slices.ContainsFunc(t.peers, func(p *peer) bool { return p.Addr == addr }) {
			continue
		}
		t.ids++
		name := spec.Name
		if spec.Pool > 0 {
			name = a.String()
		}
		t.peers = append(t.peers, &peer{Server: Server{ID: t.ids, Upstream: e.Upstream, Addr: addr}, name: name, state: source.Unready,
			Source: source.New(source.Limits{Min: spec.MinPoll, Max: spec.MaxPoll}, t.now.Boot)})
	}
}

func (t *Timer) peer(id int) *peer {
	for _, p := range t.peers {
		if p.ID == id {
			return p
		}
	}
	return nil
}

// answered takes a reply; one that the clock moved under measures nothing.
func (t *Timer) answered(e Answer) {
	p := t.peer(e.Source)
	if p == nil || p.query != e.Query || e.Query == 0 {
		return
	}
	p.query = 0
	switch {
	case p.void:
		p.void = false
		p.Hurry(t.now.Boot)
	case t.spec.Upstreams[p.Upstream].Auth && !e.Reply.Authenticated:
		p.Unanswered(t.now.Boot, "ntp-auth", "", t.spread())
	default:
		if p.Answered(t.now.Boot, e.Reply, t.rate(), t.spread()) {
			t.follow(p)
		}
	}
}

// rate is what is known of the oscillator for a source that is new.
func (t *Timer) rate() source.Prior {
	if t.truth.known {
		return source.Prior{Rate: t.truth.Rate, Sigma: max(3*sqrt(t.truth.RateVar), 1e-8)}
	}
	return t.prior
}

func (t *Timer) silent(e Silence) {
	p := t.peer(e.Source)
	if p == nil || p.query != e.Query || e.Query == 0 {
		return
	}
	p.query, p.void = 0, false
	p.Unanswered(t.now.Boot, e.Code, e.Detail, t.spread())
}

// void makes the replies to what is being asked worthless.
func (t *Timer) void() {
	for _, p := range t.peers {
		p.void = p.query != 0
	}
}

// plan asks for what is due.
func (t *Timer) plan() {
	for i := range t.upstreams {
		if u := &t.upstreams[i]; u.next != 0 && u.next <= t.now.Boot && !u.asked {
			u.asked, u.next = true, 0
			t.do(Resolve{Upstream: i})
		}
	}
	if t.nearLeap() {
		return
	}
	for _, p := range t.peers {
		if p.state >= source.Silent && !t.upstreams[p.Upstream].asked && t.upstreams[p.Upstream].next == 0 {
			t.upstreams[p.Upstream].next = t.now.Boot.Add(replaceSilent) // its name may lead elsewhere by then
		}
		if p.query != 0 || p.Next() > t.now.Boot {
			continue
		}
		t.queries++
		p.query = t.queries
		p.Asked(t.now.Boot, queryTimeout)
		t.do(Query{Server: p.Server, Query: p.query, Timeout: queryTimeout})
	}
}

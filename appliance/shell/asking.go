package shell

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"komainu/appliance/agent"
	"komainu/drivers/announce"
	"komainu/drivers/clock"
	"komainu/netstack/spec"
	"komainu/ntp/instant"
)

// askAfter is when others are asked whether they have an IPv4 address of ours,
// after it came or its link got carrier, besides the moment before it is used: at
// a boot that moment is before the carrier, and a switch may pass nothing on for
// half a minute after it (two forward delays of IEEE 802.1D).
var askAfter = []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second}

// missedAgain is when a link without carrier is begun with again, should nobody
// tell of its carrier.
const missedAgain = 30 * time.Second

// asking is the plan of that. An address that was asked for to the end is never
// asked for again: who takes it later doesn't get it.
type asking struct {
	mu    sync.Mutex
	all   map[spec.Address]claim
	woken chan struct{}
}

type claim struct {
	asked int             // len(askAfter): to the end
	since instant.Instant // askAfter counts from here
}

func newAsking() *asking {
	return &asking{all: map[spec.Address]claim{}, woken: make(chan struct{}, 1)}
}

// own says which addresses the box has now.
func (a *asking) own(now instant.Instant, addresses []spec.Address) {
	a.mu.Lock()
	all := make(map[spec.Address]claim, len(addresses))
	for _, x := range addresses {
		if !x.Prefix.Addr().Is4() {
			continue
		}
		x = spec.Address{Link: x.Link, Prefix: x.Prefix}
		c, known := a.all[x]
		if !known {
			c.since = now
		}
		all[x] = c
	}
	a.all = all
	a.mu.Unlock()
	a.wake()
}

// carrier begins anew on a link that has got it, with what isn't asked for to
// the end.
func (a *asking) carrier(now instant.Instant, link string) {
	a.mu.Lock()
	for x, c := range a.all {
		if x.Link == link && c.asked < len(askAfter) {
			a.all[x] = claim{since: now}
		}
	}
	a.mu.Unlock()
	a.wake()
}

// missed says that a link had no carrier: nobody was asked.
func (a *asking) missed(now instant.Instant, link string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for x := range a.all {
		if x.Link == link {
			a.all[x] = claim{since: now.Add(missedAgain)}
		}
	}
}

func (a *asking) wake() {
	select {
	case a.woken <- struct{}{}:
	default: // it looks anyway
	}
}

// due takes the addresses to be asked for now, by link, and tells when the next
// are; 0: none.
func (a *asking) due(now instant.Instant) (byLink map[string][]netip.Addr, next instant.Instant) {
	a.mu.Lock()
	defer a.mu.Unlock()
	byLink = map[string][]netip.Addr{}
	for x, c := range a.all {
		for c.asked < len(askAfter) {
			at := c.since.Add(askAfter[c.asked])
			if at > now {
				if next == 0 || at < next {
					next = at
				}
				break
			}
			if c.asked++; c.asked == len(askAfter) || c.since.Add(askAfter[c.asked]) > now { // late: once is enough
				byLink[x.Link] = append(byLink[x.Link], x.Prefix.Addr())
			}
			a.all[x] = c
		}
	}
	return byLink, next
}

// ask goes by the plan until ctx ends. What somebody else has is contested, and
// told as drift.
func (g *grounding) ask(ctx context.Context, event func(context.Context, agent.Event)) {
	for {
		byLink, next := g.asking.due(clock.Now())
		if len(byLink) > 0 {
			if g.others(ctx, byLink) {
				event(ctx, agent.Drifted{})
			}
			continue
		}
		wait := time.Hour
		if next != 0 {
			wait = next.Sub(clock.Now())
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-g.asking.woken:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// others asks for addresses on all links at once and notes what somebody has.
func (g *grounding) others(ctx context.Context, byLink map[string][]netip.Addr) (found bool) {
	ours, err := hardware()
	if err != nil {
		return false
	}
	var links sync.WaitGroup
	var mu sync.Mutex
	var all []netip.Addr
	for link, addrs := range byLink {
		links.Go(func() {
			conflicts, err := announce.Probe(ctx, link, addrs)
			if errors.Is(err, announce.ErrNoCarrier) {
				g.asking.missed(clock.Now(), link)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, c := range conflicts {
				if !ours[c.MAC.String()] && !c.Probed {
					all = append(all, c.Addr)
				}
			}
		})
	}
	links.Wait()
	g.changing.Lock()
	defer g.changing.Unlock()
	for _, a := range all {
		g.contested[a] = true
	}
	return len(all) > 0
}

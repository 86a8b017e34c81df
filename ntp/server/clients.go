package server

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"komainu/ntp/wall"
)

// The table of clients has a fixed number of slots. Each client has two sets of
// ways slots it can be in, so that the table fills to about nine tenths before
// anybody loses his place. Who has to go is decided in this order: an empty
// slot; the least recent client that isn't known to come back; the least recent
// of all. A flood from spoofed addresses therefore replaces itself.

const (
	ways = 8

	// recurs is how long after its first request another one must come for a
	// client to count as one that comes back: a burst at start has pauses of 2 s.
	recurs = 2 * time.Second

	// A kiss answers every kissEvery-th refused request, kisses times in a row;
	// then silence, until the client has paused.
	kissEvery = 8
	kisses    = 4

	// One of leak refused requests is served all the same: who floods us in
	// another's name can't cut that client off.
	leak = 16
)

// Facts about a client.
const (
	isInterleaved uint8 = 1 << iota
	isKeyed
	isNTS
)

// set is what a search looks at: a line and a half of cache.
type set struct {
	keys [ways]uint64 // 0: empty
	seen [ways]uint32 // seconds of the last request, and recurrent
}

// recurrent marks clients that came back. The other 31 bits come round after 68
// years.
const recurrent uint32 = 1 << 31

type slot struct {
	addr     [16]byte  // of the last request
	first    wall.Time // request
	last     wall.Time // request
	next     wall.Time // when the bucket is full again
	requests uint32    // comes round
	refused  uint32    // comes round
	run      uint32    // refused since the bucket was last full
	facts    uint8
	version  uint8
}

type clients struct {
	sets    []set
	slots   []slot
	seed    [2]uint64
	random  uint64
	used    uint64
	evicted uint64
}

func newClients(n int, seed [2]uint64) clients {
	c := clients{sets: make([]set, max(1, n/ways)), seed: seed, random: seed[0] ^ seed[1] | 1}
	c.slots = make([]slot, len(c.sets)*ways)
	return c
}

// key names who is limited and counted as one: an IPv4 address, a /64 of IPv6,
// or a link-local address. Never zero.
func key(a netip.Addr, b [16]byte) uint64 {
	hi, lo := be64(b[:8]), be64(b[8:])
	switch {
	case a.Is4():
		return 1<<32 | lo&0xffffffff // like IPv6 addresses that are never given out
	case hi == 0: // ::1
		return 2<<32 | lo&0xffffffff
	case a.IsLinkLocalUnicast():
		return lo | 1
	default:
		return hi
	}
}

func be64(b []byte) (v uint64) {
	for _, x := range b[:8] {
		v = v<<8 | uint64(x)
	}
	return v
}

// find is the slot of a client, and whether it was there before. What another
// client left in it is gone.
func (c *clients) find(key uint64, now wall.Time) (sl *slot, known bool) {
	mask := uint64(len(c.sets) - 1)
	h := mix(key, c.seed[0])
	at := [2]uint64{h & mask, h >> 32 & mask}
	sec := uint32(int64(now)/1e9) &^ recurrent
	for _, s := range at {
		for w, k := range c.sets[s].keys {
			if k == key {
				sl = &c.slots[s*ways+uint64(w)]
				seen := &c.sets[s].seen[w]
				*seen = *seen&recurrent | sec
				if now.Sub(sl.first) >= recurs {
					*seen |= recurrent
				}
				return sl, true
			}
		}
	}
	s, w := c.place(at, sec)
	if c.sets[s].keys[w] == 0 {
		c.used++
	} else {
		c.evicted++
	}
	c.sets[s].keys[w], c.sets[s].seen[w] = key, sec
	sl = &c.slots[s*ways+uint64(w)]
	*sl = slot{first: now}
	return sl, false
}

// place is where a new client goes, of the two sets that it may be in.
func (c *clients) place(at [2]uint64, sec uint32) (s uint64, w int) {
	if n, m := c.sets[at[0]].free(), c.sets[at[1]].free(); n+m > 0 {
		s = at[0]
		if m > n {
			s = at[1]
		}
		for w, k := range c.sets[s].keys {
			if k == 0 {
				return s, w
			}
		}
	}
	worst := int64(-1)
	for _, i := range at {
		for j, seen := range c.sets[i].seen {
			age := int64((sec - seen) &^ recurrent) // a clock set back makes everybody old alike
			if seen&recurrent == 0 {
				age += 1 << 32
			}
			if age > worst {
				worst, s, w = age, i, j
			}
		}
	}
	return s, w
}

func (s *set) free() (n int) {
	for _, k := range s.keys {
		if k == 0 {
			n++
		}
	}
	return n
}

// admit says whether a request keeps to one every so often with bursts, and if
// not, whether a kiss should say so.
func (c *clients) admit(sl *slot, now wall.Time, every time.Duration, burst int) (ok, kiss bool) {
	full := time.Duration(burst) * every
	debt := sl.next.Sub(now)
	if debt <= 0 || debt > full+every { // paused long enough; or the clock was set back
		sl.next, debt, sl.run = now, 0, 0
	}
	if debt+every <= full {
		sl.next = sl.next.Add(every)
		return true, false
	}
	sl.refused++
	sl.run++
	if c.draw()%leak == 0 {
		return true, false
	}
	return false, sl.run%kissEvery == 1 && sl.run < kisses*kissEvery
}

// draw is a cheap random number (xorshift64).
func (c *clients) draw() uint64 {
	x := c.random
	x ^= x << 13
	x ^= x >> 7
	x ^= x << 17
	c.random = x
	return x
}

// Client is what is known of one client. IPv6 clients of one /64 are one.
type Client struct {
	Addr        netip.Addr // of the last request
	First, Last wall.Time  // request
	Requests    uint32     // comes round
	Refused     uint32     // too many; comes round
	Version     uint8      // of the last request
	Interleaved bool       // used it once
	Keyed       bool
	NTS         bool
}

// Busiest are the n clients of the table that have asked most, the busiest
// first; n is at least 1.
func (s *Server) Busiest(n int) []Client {
	most := func(a, b Client) int { return cmp.Or(cmp.Compare(b.Requests, a.Requests), a.Addr.Compare(b.Addr)) }
	room := 2 * min(n, len(s.clients.slots))
	all := make([]Client, 0, room)
	for i := range s.clients.sets {
		for w, k := range s.clients.sets[i].keys {
			if k == 0 {
				continue
			}
			if len(all) == room {
				slices.SortFunc(all, most)
				all = all[:n]
			}
			sl := &s.clients.slots[i*ways+w]
			all = append(all, Client{
				Addr:  netip.AddrFrom16(sl.addr).Unmap(),
				First: sl.first, Last: sl.last,
				Requests: sl.requests, Refused: sl.refused, Version: sl.version,
				Interleaved: sl.facts&isInterleaved != 0, Keyed: sl.facts&isKeyed != 0, NTS: sl.facts&isNTS != 0,
			})
		}
	}
	slices.SortFunc(all, most)
	return all[:min(n, len(all))]
}

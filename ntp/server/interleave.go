package server

import (
	"math/bits"
	"time"

	"komainu/ntp/packet"
	"komainu/ntp/wall"
)

// Interleaved mode (RFC 9769 section 2): a request whose origin timestamp is the
// receive timestamp of an earlier reply asks when that reply was really sent.
//
// The lowest bit of our stamps, 0.2 ns, tells which they are: 1 in receive, 0 in
// transmit timestamps. So receive and transmit timestamps never equal one
// another, which the RFC demands, and a client shows its wish at the first
// request in which it has one: nothing is kept for clients of the basic mode,
// and their replies cost no transmit stamp of the kernel's. That first request
// is still answered in basic mode, and from the next one on it works.

// maxAge is how old a receive timestamp may be that a request comes back to:
// the longest poll interval, 36 h (RFC 5905 MAXPOLL).
const maxAge = 1 << 17 * time.Second

const pairWays = 8

// pair is a reply sent or about to be. rx zero: empty.
type pair struct {
	rx, tx packet.Timestamp // tx zero: the kernel hasn't told yet
	who    uint64           // key of the client
}

// pairs remembers replies to clients of the interleaved mode; where there is no
// room, the oldest goes.
type pairs struct {
	sets [][pairWays]pair
	seed uint64
}

func newPairs(n int, seed uint64) pairs {
	return pairs{sets: make([][pairWays]pair, max(1, n/pairWays)), seed: seed}
}

func (p *pairs) set(rx packet.Timestamp) *[pairWays]pair {
	return &p.sets[mix(uint64(rx), p.seed)&uint64(len(p.sets)-1)]
}

// take finds when the reply with that receive timestamp to that client was sent,
// and forgets it: a receive timestamp may be used once.
func (p *pairs) take(rx packet.Timestamp, who uint64) (tx packet.Timestamp, ok bool) {
	set := p.set(rx)
	for i := range set {
		if e := &set[i]; e.rx == rx && e.who == who {
			tx = e.tx
			*e = pair{}
			return tx, tx != 0
		}
	}
	return 0, false
}

// save makes room for the transmit stamp of a reply and returns its receive
// timestamp, moved by 0.5 ns if another one has it already.
func (p *pairs) save(rx packet.Timestamp, who uint64) packet.Timestamp {
	for {
		set := p.set(rx)
		taken, oldest := false, 0
		for i := range set {
			taken = taken || set[i].rx == rx
			if set[i].rx == 0 || set[oldest].rx != 0 && int64(set[i].rx-set[oldest].rx) < 0 {
				oldest = i
			}
		}
		if !taken {
			set[oldest] = pair{rx: rx, who: who}
			return rx
		}
		rx += 2
	}
}

// sent notes when the reply with that receive timestamp left.
func (p *pairs) sent(rx packet.Timestamp, tx packet.Timestamp) {
	set := p.set(rx)
	for i := range set {
		if set[i].rx == rx {
			set[i].tx = tx
			return
		}
	}
}

// wishes says whether request q asks for the interleaved mode, or may: then its
// origin timestamp is one of our receive timestamps.
func wishes(q *packet.Header, now wall.Time) bool {
	if q.Origin&1 == 0 || q.Receive == q.Transmit || q.Version != packet.Version || q.Mode != packet.ModeClient {
		return false
	}
	age := now.Sub(q.Origin.Wall(now))
	return age >= 0 && age <= maxAge
}

// mix hashes v; whoever doesn't know the seed can't aim at a place in a table.
func mix(v, seed uint64) uint64 {
	hi, lo := bits.Mul64(v^seed, 0x9e3779b97f4a7c15^bits.RotateLeft64(seed, 32)|1)
	hi, lo = bits.Mul64(hi^lo^seed, 0xd6e8feb86659fd93)
	return hi ^ lo
}

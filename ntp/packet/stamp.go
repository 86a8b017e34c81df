package packet

import (
	"math"
	"time"

	"komainu/ntp/wall"
)

// Timestamp is seconds since 1900-01-01 00:00 UTC in 32.32 fixed point, without
// its era: it comes round every 2^32 s, first on 2036-02-07 06:28:16 UTC
// (RFC 5905 section 6). Zero means unknown.
type Timestamp uint64

// Short is seconds in 16.16 fixed point.
type Short uint32

// epoch is 1970-01-01 in seconds since 1900-01-01 (RFC 5905 figure 4).
const epoch = 2208988800

// Stamp is t as the wire carries it. It never returns zero: the very start of
// an era becomes the fraction after it, less than a nanosecond later.
func Stamp(t wall.Time) Timestamp {
	s, ns := split(t)
	return max(1, Timestamp(uint64(s+epoch)<<32|uint64(ns)<<32/1e9))
}

// Wall is the moment of t in the era that brings it nearest to near, so within
// 68 years of it. Stamp and Wall together give the same nanosecond back.
func (t Timestamp) Wall(near wall.Time) wall.Time {
	s, ns := split(near)
	second := Timestamp(uint64(s+epoch) << 32)
	return near.Add(t.Sub(second) - time.Duration(ns))
}

// Sub is the time from u to t, which are within 68 years of each other, whatever
// their eras.
func (t Timestamp) Sub(u Timestamp) time.Duration {
	d := int64(t - u)
	return time.Duration(d>>32*1e9 + int64((uint64(uint32(d))*1e9+1<<31)>>32))
}

// split gives the second that t is in and the nanoseconds since its start.
func split(t wall.Time) (s, ns int64) {
	s, ns = int64(t)/1e9, int64(t)%1e9
	if ns < 0 {
		s, ns = s-1, ns+1e9
	}
	return s, ns
}

// ShortUp is d as the wire carries it, rounded up so that a bound stays one.
// What doesn't fit becomes the largest value (18.2 h), what is negative zero.
func ShortUp(d time.Duration) Short {
	if d <= 0 {
		return 0
	}
	s, ns := uint64(d)/1e9, uint64(d)%1e9
	if s > math.MaxUint16 {
		return math.MaxUint32
	}
	return Short(min(s<<16+(ns<<16+1e9-1)/1e9, math.MaxUint32))
}

// Duration is s to the nearest nanosecond.
func (s Short) Duration() time.Duration {
	return time.Duration((uint64(s)*1e9 + 1<<15) >> 16)
}

package main

import (
	"net/netip"
	"time"

	"komainu/ntp/source"
	"komainu/ntp/wall"
)

// turnaround is how long a server holds a request.
const turnaround = 20 * int64(time.Microsecond)

// upstream is one source: what the scenario says of it, and its state.
type upstream struct {
	index int
	name  string
	addr  netip.AddrPort
	net   *network
	ways  []way
	telly // as it is now
	begin telly

	poll struct {
		min, max int8
	}
	pool   int
	prefer bool
	auth   bool

	moved   int64 // when error and drift were last set
	last    int64 // the last query that arrived, for rate
	asked   []int64
	silent  bool
	kissing string
}

// telly is what a server tells of itself, and how wrong it is. It may change
// in the course of a scenario.
type telly struct {
	error      time.Duration // its clock less true time
	drift      float64       // 1e-6: how fast error grows
	stratum    uint8
	rootDelay  time.Duration
	dispersion time.Duration
	unsynced   bool          // it says leap 3, stratum 16
	leap       int           // what it announces; -2: what is true
	precision  int8          // log2 s
	rate       time.Duration // queries that come faster get a RATE kiss; 0: none do
	again      float64       // share of replies that come a second time, 1 ms later
}

// off is the error of the server's clock at now.
func (u *upstream) off(now int64) float64 {
	return float64(u.error) + u.drift*1e-6*float64(now-u.moved)
}

// answer fills what the server says when a request reaches it at now.
func (w *world) answer(u *upstream, now int64) source.Reply {
	t := w.utc(now) + wall.Time(u.off(now))
	r := source.Reply{
		ServerReceived: t, ServerSent: t + wall.Time(turnaround),
		Stratum: u.stratum, Precision: u.precision, Poll: 6,
		RootDelay: u.rootDelay, RootDispersion: u.dispersion,
		RefID: 0x47505300, RefTime: t - t%wall.Time(16*second),
		Authenticated: u.auth,
	}
	if u.stratum > 1 {
		r.RefID = refID(u.addr.Addr()) ^ 0x01000000 // somebody that we don't know
	}
	leap := u.leap
	if leap == -2 {
		leap = 0
		if w.sc.leap != 0 && now < w.leapAt && w.leapAt-now <= day*second {
			leap = w.sc.leap
		}
	}
	switch leap {
	case 1:
		r.Leap = 1
	case -1:
		r.Leap = 2
	}
	if u.unsynced {
		r.Leap, r.Stratum, r.RefID = 3, 16, 0
	}
	kiss := u.kissing
	if u.rate > 0 && u.last != 0 && now-u.last < int64(u.rate) {
		kiss = "RATE"
	}
	u.last = now
	if kiss != "" {
		r.Stratum, r.Leap, r.Kiss = 0, 3, kiss
		r.RefID = uint32(kiss[0])<<24 | uint32(kiss[1])<<16 | uint32(kiss[2])<<8 | uint32(kiss[3])
	}
	return r
}

// refID of a server that is followed (RFC 5905 figure 12).
func refID(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

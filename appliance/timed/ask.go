package timed

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"komainu/drivers/clock"
	"komainu/drivers/ntpquery"
	"komainu/drivers/ntske"
	"komainu/ntp/timer"
)

// asking is what is kept of the servers that are asked.
type asking struct {
	mu       sync.Mutex
	sessions map[int]*ntpquery.Session // of NTS, by the source's ID
}

// session is the NTS session with a source, made by need.
func (a *asking) session(id int, make func() *ntpquery.Session) *ntpquery.Session {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sessions == nil {
		a.sessions = map[int]*ntpquery.Session{}
	}
	if a.sessions[id] == nil {
		a.sessions[id] = make()
	}
	return a.sessions[id]
}

// forget drops the keys of a source that is asked no more.
func (a *asking) forget(id int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.sessions, id)
}

// cookies is how many NTS cookies of a source are left.
func (a *asking) cookies(id int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.sessions[id]; s != nil {
		return s.Cookies()
	}
	return 0
}

// query asks a server and tells the core what came of it.
func (d *Daemon) query(ctx context.Context, q timer.Query) {
	up := d.cfg.Upstreams[q.Upstream]
	t := ntpquery.Target{Addr: q.Addr, Timeout: q.Timeout, Key: up.Key}
	if up.NTS {
		t.NTS = d.asking.session(q.ID, func() *ntpquery.Session {
			name := d.cfg.Spec.Upstreams[q.Upstream].Name
			at := netip.AddrPortFrom(q.Addr.Addr(), up.KEPort)
			return ntpquery.NewSession(ntpquery.ExchangeWith(&ntske.Client{Roots: up.Roots, Now: d.judging}, at, name))
		})
	}
	reply, err := ntpquery.Query(ctx, t)
	var failed *ntpquery.Error
	switch {
	case err == nil:
		d.tell(ctx, timer.Answer{Source: q.ID, Query: q.Query, Reply: reply})
	case errors.As(err, &failed):
		d.tell(ctx, timer.Silence{Source: q.ID, Query: q.Query, Code: failed.Code, Detail: failed.Detail()})
	}
}

// judging is the time at which an upstream's certificate is judged: the box's,
// unless that is surely wrong because its hardware clock has lost it.
func (d *Daemon) judging() time.Time {
	now := time.Unix(0, int64(clock.Read().Wall))
	if now.Before(d.floor) {
		return d.floor
	}
	return now
}

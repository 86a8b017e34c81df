package ntpquery

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"komainu/drivers/ntske"
	"komainu/ntp/nts"
	"komainu/ntp/packet"
)

func random(b []byte) { _, _ = rand.Read(b) }

// authority is a server's side of NTS: cookies, key exchanges, answers.
type authority struct {
	t         *testing.T
	ring      atomic.Pointer[nts.Keyring]
	server    *server
	exchanges int
	refuse    error // of the next exchanges
}

func newAuthority(t *testing.T, script func(a *authority, s *server, n int, req []byte, from netip.AddrPort)) *authority {
	t.Helper()
	a := &authority{t: t}
	a.forget()
	a.server = serve(t, "127.0.0.1:0", func(s *server, n int, req []byte, from netip.AddrPort) { script(a, s, n, req, from) })
	return a
}

// forget makes the server forget all cookies.
func (a *authority) forget() {
	ring, err := nts.NewKeyring(0, random)
	if err != nil {
		a.t.Fatal(err)
	}
	a.ring.Store(ring)
}

func (a *authority) exchange(context.Context) (*ntske.Result, error) {
	a.exchanges++
	if a.refuse != nil {
		return nil, a.refuse
	}
	r := &ntske.Result{Server: a.server.addr.Addr().String(), Port: a.server.addr.Port()}
	random(r.Keys.C2S[:])
	random(r.Keys.S2C[:])
	r.Cookies = a.ring.Load().Cookies(nts.MaxCookies, &r.Keys, random)
	return r, nil
}

// reply answers as RFC 8915 says.
func (a *authority) reply(req []byte) []byte {
	s := nts.NewSession(random)
	switch a.ring.Load().Open(req, s) {
	case nts.NAK:
		return s.NAK(req, nil)
	case nts.OK:
		if resp, ok := a.ring.Load().Seal(s, put(answer(req))); ok {
			return resp
		}
	}
	a.t.Error("a question without NTS")
	return nil
}

func (a *authority) target() Target {
	to := target(a.server)
	to.NTS = NewSession(a.exchange)
	return to
}

func TestNTS(t *testing.T) {
	a := newAuthority(t, func(a *authority, s *server, _ int, req []byte, from netip.AddrPort) { s.send(from, a.reply(req)) })
	to := a.target()
	to.Addr = netip.AddrPortFrom(to.Addr.Addr(), 9) // the exchange names the port
	for range 20 {
		r, err := Query(context.Background(), to)
		if err != nil || !r.Authenticated || r.Stratum != 2 {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	if a.exchanges != 1 || to.NTS.client.Cookies() != nts.MaxCookies {
		t.Errorf("%d key exchanges, %d cookies", a.exchanges, to.NTS.client.Cookies())
	}
	// The server was replaced: one question fails, the next one has new keys.
	a.forget()
	if _, err := Query(context.Background(), to); codeOf(t, err) != NTS || !errors.Is(err, nts.ErrNAK) {
		t.Error(err)
	}
	to.NTS.after = 0 // the shortest pause is over
	if _, err := Query(context.Background(), to); err != nil || a.exchanges != 2 {
		t.Errorf("%v after %d exchanges", err, a.exchanges)
	}
}

// After a NAK that was forged the old cookies still work while no exchange does.
func TestNTSForgedNAK(t *testing.T) {
	a := newAuthority(t, func(a *authority, s *server, n int, req []byte, from netip.AddrPort) {
		if n == 2 {
			asked := nts.NewSession(random)
			a.ring.Load().Open(req, asked)
			s.send(from, asked.NAK(req, nil))
			return
		}
		s.send(from, a.reply(req))
	})
	to := a.target()
	a.query(to, "", 1)
	a.query(to, NTS, 1)
	a.refuse, to.NTS.after = errors.New("no route to NTS-KE"), 0
	a.query(to, "", 2) // tried, and did without
	if to.NTS.stale {
		t.Error("an authentic answer came, and new keys are still wanted")
	}
	a.query(to, "", 2)
}

func (a *authority) query(to Target, code string, exchanges int) {
	a.t.Helper()
	r, err := Query(context.Background(), to)
	if codeOf(a.t, err) != code || r.Authenticated != (err == nil) || a.exchanges != exchanges {
		a.t.Errorf("%+v, %v after %d exchanges; want %q after %d", r, err, a.exchanges, code, exchanges)
	}
}

func TestNTSExchangesAreSpacedOut(t *testing.T) {
	a := newAuthority(t, func(a *authority, s *server, _ int, req []byte, from netip.AddrPort) { s.send(from, a.reply(req)) })
	to := a.target()
	a.refuse = errors.New("no route to NTS-KE")
	a.query(to, NTS, 1)
	a.query(to, NTS, 1)
	pause := to.NTS.pause
	to.NTS.after = 0 // the pause is over
	a.query(to, NTS, 2)
	if pause != firstPause || to.NTS.pause != 15*time.Second {
		t.Errorf("paused %v, then %v", pause, to.NTS.pause)
	}
	to.NTS.after, a.refuse = 0, nil
	a.query(to, "", 3)
	if a.server.asked.Load() != 1 {
		t.Error("asked without keys")
	}
}

func TestNTSBadDatagrams(t *testing.T) {
	plain := func(req []byte) []byte { return put(answer(req)) }
	for name, bad := range map[string]func(a *authority, req []byte) []byte{
		"not protected": func(_ *authority, req []byte) []byte { return plain(req) },
		"changed":       func(a *authority, req []byte) []byte { b := a.reply(req); b[1]++; return b },
		"kiss of a stranger": func(_ *authority, req []byte) []byte {
			h := answer(req)
			h.Stratum, h.RefID = 0, packet.KissNTSNAK
			return put(h)
		},
	} {
		a := newAuthority(t, func(a *authority, s *server, n int, req []byte, from netip.AddrPort) {
			if n == 1 {
				s.send(from, bad(a, req))
				return
			}
			s.send(from, a.reply(req))
		})
		to := a.target()
		a.query(to, "", 1)
		if to.Discarded.Load() != 1 {
			t.Errorf("%s: %d discarded", name, to.Discarded.Load())
		}
	}
	// Always.
	a := newAuthority(t, func(a *authority, s *server, _ int, req []byte, from netip.AddrPort) { s.send(from, plain(req)) })
	a.query(a.target(), NTS, 1)
}

func TestNTSKiss(t *testing.T) {
	a := newAuthority(t, func(a *authority, s *server, _ int, req []byte, from netip.AddrPort) {
		asked := nts.NewSession(random)
		a.ring.Load().Open(req, asked)
		h := answer(req)
		h.Stratum, h.RefID = 0, packet.KissRate
		s.send(from, asked.Echo(put(h)))
	})
	if r, err := Query(context.Background(), a.target()); err != nil || r.Kiss != "RATE" || r.Authenticated {
		t.Errorf("%+v, %v", r, err)
	}
}

// Every question that isn't answered costs a cookie; then new ones are fetched.
func TestNTSRunsDry(t *testing.T) {
	a := newAuthority(t, func(*authority, *server, int, []byte, netip.AddrPort) {})
	to := a.target()
	to.Timeout = 5 * time.Millisecond
	for range nts.MaxCookies {
		a.query(to, Timeout, 1)
	}
	to.NTS.after = 0
	a.query(to, Timeout, 2)
}

// The key exchange may name another server.
func TestAnotherServer(t *testing.T) {
	for server, want := range map[string]string{"192.0.2.9": "192.0.2.9:1123", "fd00::9": "[fd00::9]:1123"} {
		got, err := at(context.Background(), &ntske.Result{Server: server, Port: 1123}, netip.MustParseAddrPort("[fd00::1]:123"))
		if err != nil || got.String() != want {
			t.Errorf("%s: %v, %v", server, got, err)
		}
	}
}

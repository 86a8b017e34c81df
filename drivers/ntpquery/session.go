package ntpquery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"komainu/drivers/clock"
	"komainu/ntp/instant"
	"komainu/ntp/nts"
)

// Pauses between key exchanges: the first and the growth are RFC 8915 section
// 4.2's; its longest, five days, would leave a box without time for too long.
const (
	firstPause   = 10 * time.Second
	longestPause = 2 * time.Hour
)

// errNoKeys says that there are none to protect a question with.
var errNoKeys = errors.New("no NTS keys")

// Exchange makes new keys with a server's NTS-KE (drivers/ntske).
type Exchange func(context.Context) (nts.Agreement, *nts.Keys, error)

// Session holds the NTS keys and cookies of one server, in memory only. It is
// for one Query at a time.
type Session struct {
	exchange Exchange
	client   *nts.Client     // nil: no keys yet
	server   netip.AddrPort  // where they are good
	stale    bool            // the server didn't know a cookie: new keys are wanted
	after    instant.Instant // no exchange before
	pause    time.Duration   // between the last exchange that failed and the next
}

// NewSession returns a session without keys; the first Query exchanges them.
func NewSession(exchange Exchange) *Session { return &Session{exchange: exchange} }

// keys returns what protects the next question and where to send it, after a
// key exchange if there are no cookies, or if the server didn't know the last
// one. Old cookies are used until an exchange has succeeded (RFC 8915 section
// 5.7), and exchanges that fail are spaced out.
func (s *Session) keys(ctx context.Context, addr netip.AddrPort) (*nts.Client, netip.AddrPort, error) {
	left := s.client != nil && s.client.Cookies() > 0
	if !left || s.stale {
		if err := s.renew(ctx, addr); err != nil && !left {
			return nil, addr, err
		}
	}
	return s.client, s.server, nil
}

func (s *Session) renew(ctx context.Context, addr netip.AddrPort) error {
	now := clock.Now()
	if now < s.after {
		return fmt.Errorf("%w: the next key exchange is in %v", errNoKeys, s.after.Sub(now).Round(time.Second))
	}
	s.pause = min(max(firstPause, s.pause*3/2), longestPause)
	s.after = now.Add(s.pause)
	agreed, keys, err := s.exchange(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoKeys, err)
	}
	server, err := at(ctx, agreed, addr)
	if err != nil {
		return fmt.Errorf("%w: the key exchange names the time server %q: %w", errNoKeys, agreed.Server, err)
	}
	// crypto/rand.Read never fails.
	client, err := nts.NewClient(keys, agreed.Cookies, func(b []byte) { _, _ = rand.Read(b) })
	if err != nil {
		return fmt.Errorf("%w: %w", errNoKeys, err)
	}
	s.client, s.server, s.stale, s.pause = client, server, false, 0
	return nil
}

// at is where the time server is that keys were agreed for: at addr, unless the
// exchange said otherwise. Of a name, an address of addr's family is preferred.
func at(ctx context.Context, agreed nts.Agreement, addr netip.AddrPort) (netip.AddrPort, error) {
	host, port := addr.Addr(), addr.Port()
	if agreed.Port != 0 {
		port = agreed.Port
	}
	if agreed.Server == "" {
		return netip.AddrPortFrom(host, port), nil
	}
	found, err := Resolve(ctx, agreed.Server)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, a := range found {
		if a.Is4() == host.Is4() {
			return netip.AddrPortFrom(a, port), nil
		}
	}
	return netip.AddrPortFrom(found[0], port), nil
}

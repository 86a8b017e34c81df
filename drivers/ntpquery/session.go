package ntpquery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"komainu/drivers/clock"
	"komainu/drivers/ntske"
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

// Exchange makes new keys with a server's NTS-KE.
type Exchange func(context.Context) (*ntske.Result, error)

// ExchangeWith makes keys with the NTS-KE at addr, whose certificate must be
// good for name. To ask the very server at addr, and not another of the same
// name, addr is that of Target with the port of the key exchange (ntske.Port).
func ExchangeWith(c *ntske.Client, addr netip.AddrPort, name string) Exchange {
	return func(ctx context.Context) (*ntske.Result, error) { return c.Handshake(ctx, addr.String(), name) }
}

// Session holds the NTS keys and cookies of one server, in memory only. It is
// for one Query at a time.
type Session struct {
	exchange Exchange
	client   *nts.Client     // nil: no keys yet
	server   netip.AddrPort  // where they are good
	stale    bool            // the server didn't know a cookie: new keys are wanted
	after    instant.Instant // no exchange before
	pause    time.Duration   // between the last exchange that failed and the next
	failed   error           // of the last exchange
	left     atomic.Int32    // cookies after the last query
}

// Cookies is how many queries can be made without a key exchange, 0..8. It may
// be called at any time.
func (s *Session) Cookies() int { return int(s.left.Load()) }

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

// renew makes new keys unless the last exchange was a short time ago.
func (s *Session) renew(ctx context.Context, addr netip.AddrPort) error {
	now := clock.Now()
	if now < s.after {
		err := fmt.Errorf("%w: the next key exchange is in %v", errNoKeys, s.after.Sub(now).Round(time.Second))
		if s.failed != nil {
			err = fmt.Errorf("%w, the last one said: %w", err, s.failed)
		}
		return err
	}
	s.pause = min(max(firstPause, s.pause*3/2), longestPause)
	s.after = now.Add(s.pause)
	if s.failed = s.agree(ctx, addr); s.failed != nil {
		return fmt.Errorf("%w: %w", errNoKeys, s.failed)
	}
	s.stale, s.pause = false, 0
	return nil
}

// agree makes new keys and finds out where they are good.
func (s *Session) agree(ctx context.Context, addr netip.AddrPort) error {
	agreed, err := s.exchange(ctx)
	if err != nil {
		return err
	}
	server, err := at(ctx, agreed, addr)
	if err != nil {
		return fmt.Errorf("the key exchange names the time server %q: %w", agreed.Server, err)
	}
	// crypto/rand.Read never fails.
	client, err := nts.NewClient(&agreed.Keys, agreed.Cookies, func(b []byte) { _, _ = rand.Read(b) })
	if err != nil {
		return err
	}
	s.client, s.server = client, server
	return nil
}

// at is where the time server is that keys were agreed for, which need not be
// addr. Of a name, an address of addr's family is preferred.
func at(ctx context.Context, agreed *ntske.Result, addr netip.AddrPort) (netip.AddrPort, error) {
	found, err := Resolve(ctx, agreed.Server)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, a := range found {
		if a.Is4() == addr.Addr().Is4() {
			return netip.AddrPortFrom(a, agreed.Port), nil
		}
	}
	return netip.AddrPortFrom(found[0], agreed.Port), nil
}

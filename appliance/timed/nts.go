package timed

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"runtime/debug"
	"sync/atomic"
	"time"

	"komainu/appliance/control"
	"komainu/drivers/clock"
	"komainu/drivers/files"
	"komainu/drivers/ntske"
	"komainu/ntp/nts"
	"komainu/ntp/server"
)

// NTS is the key exchange for clients (RFC 8915 section 4).
type NTS struct {
	Listen []netip.AddrPort                // addresses with TCP port
	Port   uint16                          // UDP, of the time server
	Load   func() (tls.Certificate, error) // reads the certificate; called again and again
}

// offering is the key exchange as it runs.
type offering struct {
	ring      atomic.Pointer[nts.Keyring]
	exchange  *ntske.Server
	listeners []net.Listener
	accepted  uint64          // connections when memory was last given back
	unsaved   bool            // the cookie keys; set before keepNTS runs, then its own
	failing   map[string]bool // what keepNTS has complained of
}

// Timing of the key exchange's upkeep.
const (
	upkeepEvery = 10 * time.Second // a person waits for a new certificate
	expirySoon  = 14 * 24 * time.Hour
	cookieForm  = 1 // version of the cookie keys' file
)

// openNTS takes the cookie keys over, or makes new ones, and opens the key
// exchange.
func (d *Daemon) openNTS(rules *server.Rules) error {
	if d.cfg.NTS == nil {
		return nil
	}
	ring, err := d.loadRing()
	if err != nil {
		return err
	}
	d.offering.ring.Store(ring)
	d.offering.failing = map[string]bool{}
	rules.NTS = ring
	certs := ntske.NewCertificates(d.cfg.NTS.Load, time.Now)
	if err := certs.Reload(); err != nil && !errors.Is(err, ntske.ErrDates) {
		return fmt.Errorf("nts: %w", err)
	}
	d.offering.exchange = &ntske.Server{Certificates: certs, Ring: d.offering.ring.Load, Offer: nts.Offer{Port: d.cfg.NTS.Port}}
	for _, at := range d.cfg.NTS.Listen {
		ln, err := ntske.Listen(at)
		if err != nil {
			return errors.Join(err, d.closeNTS())
		}
		d.offering.listeners = append(d.offering.listeners, ln)
	}
	return nil
}

func (d *Daemon) closeNTS() error {
	var errs []error
	for _, ln := range d.offering.listeners {
		errs = append(errs, ln.Close())
	}
	return errors.Join(errs...)
}

// loadRing reads the cookie keys. Without them, or with a file that is of no
// use, all clients exchange keys again: no more than that is lost.
func (d *Daemon) loadRing() (*nts.Keyring, error) {
	var keys []nts.Key
	err := files.ReadJSON(d.path(cookieFile), cookieForm, &keys)
	if err == nil {
		if ring, e := nts.LoadKeyring(keys); e == nil {
			return ring, nil
		} else {
			err = e
		}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		d.note("note-time-cookies-lost", err.Error())
	}
	ring, err := nts.NewKeyring(clock.Read().Wall, random)
	if err != nil {
		return nil, fmt.Errorf("nts: %w", err)
	}
	d.offering.unsaved = d.saveRing(ring) != nil // keepNTS says so, and tries again
	return ring, nil
}

// saveRing writes the cookie keys, which is to be done before they are used: else
// a restart costs all clients a key exchange.
func (d *Daemon) saveRing(ring *nts.Keyring) error {
	if err := files.ReplaceJSON(d.path(cookieFile), cookieForm, ring.Keys()); err != nil {
		return fmt.Errorf("nts: keep the cookie keys: %w", err)
	}
	return nil
}

// serveNTS runs the key exchange until ctx ends.
func (d *Daemon) serveNTS(ctx context.Context) {
	if d.cfg.NTS == nil {
		return
	}
	for _, ln := range d.offering.listeners {
		d.group.Go(func() error { return d.offering.exchange.Serve(ctx, ln) })
	}
	d.group.Go(func() error { return d.keepNTS(ctx) })
}

// keepNTS rotates the cookie keys and takes new certificates.
func (d *Daemon) keepNTS(ctx context.Context) error {
	tick := time.NewTicker(upkeepEvery)
	defer tick.Stop()
	for {
		d.renew()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (d *Daemon) renew() {
	d.complain("keep the cookie keys", d.renewRing())
	certs := d.offering.exchange.Certificates
	err := certs.Reload()
	d.complain("read the certificate", err)
	left := time.Until(certs.NotAfter())
	d.alarm("time-nts-certificate", "", left < 0, err != nil || left < expirySoon)
	if n := d.offering.exchange.Counters.Accepted.Load(); n != d.offering.accepted {
		d.offering.accepted = n
		debug.FreeOSMemory() // TLS makes garbage, and time itself none that would collect it
	}
}

// renewRing makes a new cookie key when it is time. Where that can't be saved,
// the old ones go on.
func (d *Daemon) renewRing() (err error) {
	now, ring := clock.Read().Wall, d.offering.ring.Load()
	next := ring
	if ring.Due(now) {
		if next, err = ring.Rotate(now, random); err != nil {
			return err
		}
	} else if !d.offering.unsaved {
		return nil
	}
	if err := d.saveRing(next); err != nil {
		return err
	}
	d.offering.unsaved = false
	d.offering.ring.Store(next)
	rules := *d.serving.rules.Load()
	rules.NTS = next
	d.serving.rules.Store(&rules)
	return nil
}

// complain logs what fails once, and again after it was good.
func (d *Daemon) complain(what string, err error) {
	if err != nil && !d.offering.failing[what] {
		d.cfg.Log.Error(what, "error", err)
	}
	d.offering.failing[what] = err != nil
}

// ntsStatus is the key exchange for people and monitoring; nil: not configured.
func (d *Daemon) ntsStatus() *control.TimeNTSServer {
	if d.cfg.NTS == nil || d.offering.exchange == nil {
		return nil
	}
	c := &d.offering.exchange.Counters
	listen := []string{}
	for _, at := range d.cfg.NTS.Listen {
		listen = append(listen, at.String())
	}
	keys := d.offering.ring.Load().Keys()
	return &control.TimeNTSServer{Listen: listen, Keys: len(keys), KeyAgeS: clock.Read().Wall.Sub(keys[0].Made).Seconds(),
		Certificate: d.offering.exchange.Certificates.NotAfter(),
		KE: map[string]uint64{"done": c.Agreed.Load(), "protocol": c.NoProtocol.Load(), "aead": c.NoAEAD.Load(), "record": c.Unrecognised.Load(),
			"bad-request": c.BadRequest.Load(), "busy": c.Busy.Load() + c.BusyPeer.Load(), "tls": c.TLS.Load(), "slow": c.Slow.Load(), "broken": c.Broken.Load()}}
}

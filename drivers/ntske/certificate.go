package ntske

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// ErrDates says that a certificate isn't valid at the time of the box's clock.
var ErrDates = errors.New("certificate out of its dates")

// Certificates holds the certificate that a server shows, and takes a new one
// without a restart. Its methods may be called at the same time.
type Certificates struct {
	load    func() (tls.Certificate, error)
	now     func() time.Time
	current atomic.Pointer[tls.Certificate]
}

// NewCertificates loads nothing yet: call Reload. now is the wall clock.
func NewCertificates(load func() (tls.Certificate, error), now func() time.Time) *Certificates {
	return &Certificates{load: load, now: now}
}

// Reload takes the certificate that is there now. One that can't be read, or is
// out of its dates (ErrDates), leaves the one in use in use, and the error is to
// be reported. Out of its dates and the first, it is used all the same beside
// the error: the clients judge it, and the clock at fault may be this box's.
func (c *Certificates) Reload() error {
	fresh, err := c.load()
	if err != nil {
		return err
	}
	if fresh.Leaf == nil {
		if len(fresh.Certificate) == 0 {
			return errors.New("NTS certificate: there is none")
		}
		if fresh.Leaf, err = x509.ParseCertificate(fresh.Certificate[0]); err != nil {
			return fmt.Errorf("NTS certificate: %w", err)
		}
	}
	if err := dates(fresh.Leaf, c.now()); err != nil {
		if c.current.CompareAndSwap(nil, &fresh) {
			return err
		}
		return fmt.Errorf("%w; the old one, good until %s, stays", err, c.NotAfter().UTC().Format(time.DateTime))
	}
	c.current.Store(&fresh)
	return nil
}

// NotAfter is when the certificate in use ends; zero if there is none.
func (c *Certificates) NotAfter() time.Time {
	if cert := c.current.Load(); cert != nil {
		return cert.Leaf.NotAfter
	}
	return time.Time{}
}

func (c *Certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if cert := c.current.Load(); cert != nil {
		return cert, nil
	}
	return nil, errors.New("NTS: no certificate could be loaded so far")
}

// dates says in words what is wrong with a certificate's dates at now.
func dates(c *x509.Certificate, now time.Time) error {
	if !now.Before(c.NotBefore) && !now.After(c.NotAfter) {
		return nil
	}
	state, do := "has expired", "renew it, or set this box's clock"
	if now.Before(c.NotBefore) {
		state, do = "isn't valid yet", "set this box's clock, or wait"
	}
	day := func(t time.Time) string { return t.UTC().Format(time.DateTime) }
	return fmt.Errorf("%w: %q %s: it is good from %s to %s UTC, and it is taken to be %s: %s", ErrDates, c.Subject.CommonName, state, day(c.NotBefore), day(c.NotAfter), day(now), do)
}

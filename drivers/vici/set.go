package vici

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

// given is what charon was given of one tunnel.
type given struct {
	conn   [32]byte // the whole connection, certificates and authorities included
	firm   [32]byte // what an SA that was made stands on: addresses, identities, networks
	psk    [32]byte
	key    [32]byte
	keyID  string
	crls   [32]byte
	shared bool
}

// TunnelError is what is wrong with one tunnel; the others are as wanted.
type TunnelError struct {
	Tunnel string
	Err    error
}

func (e *TunnelError) Error() string { return "tunnel " + e.Tunnel + ": " + e.Err.Error() }

// Unwrap is Err.
func (e *TunnelError) Unwrap() error { return e.Err }

// Set makes charon have these tunnels and no others. Those that are as before
// aren't touched. One whose addresses, identities or networks are others ends, and
// begins anew; with other keys or suites it is begun anew beside the old one, which
// stays until the new one is there. One that this side begins and that has no IKE
// SA is begun. Errors: each *TunnelError, joined; any other means that charon is
// gone, and that nothing is known.
func (k *Keeper) Set(ctx context.Context, want []Desired) error {
	k.setting.Lock()
	defer k.setting.Unlock()
	k.mu.Lock()
	run := k.runs
	k.wanted = map[string]string{}
	for _, d := range want {
		k.wanted[d.Tunnel.Name] = d.Tunnel.RemoteID
	}
	k.mu.Unlock()
	if run != k.run {
		k.given, k.run = nil, run
	}
	s := setting{k: k, client: k.client}
	if err := s.set(ctx, want); err != nil {
		k.given = nil
		return err
	}
	k.mu.Lock()
	k.loaded = k.runs == run
	k.mu.Unlock()
	k.look()
	return errors.Join(s.errs...)
}

// setting is one Set under way.
type setting struct {
	k      *Keeper
	client *Client
	known  map[string]given // before
	first  bool             // what charon has isn't known
	sas    map[string]bool  // tunnels that have an IKE SA
	begin  []string
	errs   []error
	crls   bool // there are new ones
}

func (s *setting) set(ctx context.Context, want []Desired) error {
	s.known, s.first = s.k.given, s.k.given == nil
	var conns, keys, shared []string
	for n, g := range s.known {
		conns = append(conns, n)
		keys = append(keys, g.keyID)
		if g.shared {
			shared = append(shared, n)
		}
	}
	if s.first {
		var e1, e2, e3 error
		conns, e1 = s.client.GetConns(ctx)
		keys, e2 = s.client.GetKeys(ctx)
		shared, e3 = s.client.GetShared(ctx)
		if err := errors.Join(e1, e2, e3); err != nil {
			return err
		}
	}
	all, err := s.client.ListSAs(ctx, "")
	if err != nil {
		return err
	}
	s.sas = map[string]bool{}
	for _, x := range all {
		s.sas[x.Name] = true
	}
	now := map[string]given{}
	for _, d := range want {
		g, err := s.load(ctx, d)
		switch {
		case err == nil:
			now[d.Tunnel.Name] = g
		case s.gone(err):
			return err
		default:
			s.errs = append(s.errs, &TunnelError{d.Tunnel.Name, err})
			// Its old connection, if any, isn't wanted either.
		}
	}
	if s.crls {
		if err := s.revoke(ctx, want); err != nil {
			return err
		}
		if err := s.client.FlushCerts(ctx); err != nil { // what was found out about them
			return err
		}
	}
	if err := s.remove(ctx, conns, keys, shared, now); err != nil {
		return err
	}
	s.k.given = now
	for _, n := range s.begin {
		if err := s.k.Initiate(ctx, n); err != nil {
			if s.gone(err) {
				return err
			}
			s.errs = append(s.errs, err)
		}
	}
	return nil
}

// gone tells whether an error is of charon itself, not of a tunnel.
func (s *setting) gone(err error) bool {
	var refused *RefusedError
	return !errors.As(err, &refused)
}

// load gives charon one tunnel, as far as it is new.
func (s *setting) load(ctx context.Context, d Desired) (given, error) {
	t, k := d.Tunnel, d.Keys
	conn := Connection(t, k)
	b, err := conn.Encode()
	if err != nil {
		return given{}, &RefusedError{"load-conn", err.Error()}
	}
	firm := fmt.Sprint(t.Local, t.Remote, t.LocalID, t.RemoteID, t.IfID, t.Inner, t.Beyond, t.Encap)
	g := given{conn: sha256.Sum256(b), firm: sha256.Sum256([]byte(firm)), psk: digest(k.PSK), key: digest(k.Key), crls: digest(k.CRLs...), shared: t.PSK}
	was, known := s.known[t.Name]
	g.keyID = was.keyID
	if t.PSK && (!known || g.psk != was.psk || g.firm != was.firm) {
		if err := s.client.LoadShared(ctx, t.Name, k.PSK, t.LocalID, t.RemoteID); err != nil {
			return g, err
		}
	}
	if !t.PSK && (!known || g.key != was.key) {
		if g.keyID, err = s.client.LoadKey(ctx, k.Key); err != nil {
			return g, err
		}
	}
	if !known || g.conn != was.conn {
		// charon finds an authority only by its certificate, wherever it is named.
		for _, a := range k.Authorities {
			for _, c := range split(a) {
				if err := s.client.LoadCert(ctx, Authority, c); err != nil {
					return g, err
				}
			}
		}
	}
	if len(k.CRLs) > 0 && (!known || g.crls != was.crls) {
		s.crls = true
		for _, l := range k.CRLs {
			for _, c := range split(l) {
				if err := s.client.LoadCert(ctx, RevocationList, c); err != nil {
					return g, err
				}
			}
		}
	}
	if !known || g.conn != was.conn {
		if err := s.client.LoadConn(ctx, conn); err != nil {
			return g, err
		}
	}
	switch {
	case known && g.firm != was.firm:
		if err := s.client.Terminate(ctx, t.Name, true); err != nil {
			return g, err
		}
		fallthrough
	case !s.sas[t.Name], known && (g.conn != was.conn || g.psk != was.psk || g.key != was.key):
		if t.Initiate {
			s.begin = append(s.begin, t.Name)
		}
	}
	return g, nil
}

// revoke ends tunnels of peers whose certificate is on a list: charon itself asks
// only when an SA is made.
func (s *setting) revoke(ctx context.Context, want []Desired) error {
	held, err := s.client.ListCerts(ctx)
	if err != nil {
		return err
	}
	var certs []*x509.Certificate
	for _, der := range held {
		if c, err := x509.ParseCertificate(der); err == nil { // it reads others than we do
			certs = append(certs, c)
		}
	}
	for _, d := range want {
		for _, text := range d.Keys.CRLs {
			for _, one := range split(text) {
				block, _ := pem.Decode(one)
				if block == nil {
					continue
				}
				l, err := x509.ParseRevocationList(block.Bytes)
				if err != nil {
					continue // charon has taken it
				}
				if revoked(l, certs, d.Tunnel.RemoteID) {
					if err := s.client.Terminate(ctx, d.Tunnel.Name, true); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// revoked tells whether the newest valid certificate of that identity is on the list.
func revoked(l *x509.RevocationList, certs []*x509.Certificate, identity string) bool {
	var newest *x509.Certificate
	for _, c := range certs {
		if slices.Contains(c.DNSNames, identity) || c.Subject.CommonName == identity || slices.ContainsFunc(c.IPAddresses, func(ip net.IP) bool { return addr(ip) == identity }) {
			if now := time.Now(); c.NotBefore.Before(now) && c.NotAfter.After(now) && (newest == nil || c.NotBefore.After(newest.NotBefore)) {
				newest = c
			}
		}
	}
	return newest != nil && slices.Equal(newest.RawIssuer, l.RawIssuer) && slices.ContainsFunc(l.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
		return e.SerialNumber.Cmp(newest.SerialNumber) == 0
	})
}

// remove takes away what charon has and isn't wanted.
func (s *setting) remove(ctx context.Context, conns, keys, shared []string, now map[string]given) error {
	used := map[string]bool{}
	for _, g := range now {
		used[g.keyID] = true
	}
	var errs []error
	for _, n := range conns {
		if _, ok := now[n]; !ok {
			errs = append(errs, s.client.UnloadConn(ctx, n))
		}
	}
	for _, n := range conns {
		if _, ok := now[n]; !ok {
			errs = append(errs, s.client.Terminate(ctx, n, true))
			delete(s.sas, n)
		}
	}
	if s.first {
		for n := range s.sas {
			if _, ok := now[n]; !ok {
				errs = append(errs, s.client.Terminate(ctx, n, true))
			}
		}
	}
	for _, n := range shared {
		if !now[n].shared {
			errs = append(errs, s.client.UnloadShared(ctx, n))
		}
	}
	for _, id := range keys {
		if id != "" && !used[id] {
			errs = append(errs, s.client.UnloadKey(ctx, id))
		}
	}
	return errors.Join(errs...)
}

func digest(parts ...[]byte) [32]byte {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:", len(p))
		h.Write(p)
	}
	return [32]byte(h.Sum(nil))
}

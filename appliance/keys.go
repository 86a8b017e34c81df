package main

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"komainu/appliance/agent"
	"komainu/appliance/config"
	"komainu/drivers/files"
	"komainu/drivers/vici"
)

// keyring resolves what tunnels prove themselves with, by the configuration that
// was read last; each call reads the secrets anew.
type keyring struct {
	folders
	secrets files.Secrets

	mu   sync.Mutex
	file *config.File
}

func (d folders) keyring(f *config.File) *keyring {
	return &keyring{folders: d, secrets: d.secrets(), file: f}
}

func (k *keyring) take(f *config.File) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.file = f
}

func (k *keyring) wiring() *wiring {
	k.mu.Lock()
	defer k.mu.Unlock()
	return &wiring{folders: k.folders, file: k.file, secrets: k.secrets}
}

// keys are those of the tunnel called name.
func (k *keyring) keys(name string) (vici.Keys, error) {
	w := k.wiring()
	for _, v := range w.file.VPNs {
		if v.Name == name {
			keys, _, err := w.tunnelKeys(v)
			return keys, err
		}
	}
	return vici.Keys{}, fmt.Errorf("tunnel %s: the configuration has no such [[vpn]]", name)
}

// certificates are those of all tunnels and of orders, each once, with the errors
// of all that can't be used.
func (k *keyring) certificates() ([]agent.Certificate, error) {
	w := k.wiring()
	var all []agent.Certificate
	var errs []error
	add := func(more []agent.Certificate, err error) {
		errs = append(errs, err)
		for _, c := range more {
			if !slices.Contains(all, c) {
				all = append(all, c)
			}
		}
	}
	for _, v := range w.file.VPNs {
		_, certs, err := w.tunnelKeys(v)
		add(certs, err)
	}
	own, err := w.parsed(w.file.Orders.Certificate)
	if err == nil {
		add(periods(w.file.Orders.Certificate, own[:1]), nil)
	}
	slices.SortFunc(all, func(a, b agent.Certificate) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Until, b.Until))
	})
	return all, errors.Join(errs...)
}

// pskLeast is how short a pre-shared key may be, in bytes: IKEv2 lets whoever
// poses as the other end try guesses at leisure (RFC 7296, 2.15).
const pskLeast = 16

// tunnelKeys are the keys of one tunnel, checked as far as it goes without the
// peer, and how long its certificates are good.
func (w *wiring) tunnelKeys(v config.VPN) (keys vici.Keys, certs []agent.Certificate, err error) {
	fail := func(err error) (vici.Keys, []agent.Certificate, error) {
		return vici.Keys{}, nil, fmt.Errorf("tunnel %s: %w", v.Name, err)
	}
	if v.ByPSK() {
		keys.PSK, err = w.secrets.Resolve(v.PSK)
		if err == nil && len(keys.PSK) < pskLeast {
			err = fmt.Errorf("the key %s has %d bytes: make one of %d or more, as by `openssl rand -base64 32`", v.PSK, len(keys.PSK), pskLeast)
		}
		if err != nil {
			return fail(err)
		}
		return keys, nil, nil
	}
	if keys.Cert, err = w.read(v.Certificate); err != nil {
		return fail(err)
	}
	if keys.Key, err = w.read(v.Key); err != nil {
		return fail(err)
	}
	if _, err := tls.X509KeyPair(keys.Cert, keys.Key); err != nil {
		return fail(fmt.Errorf("certificate %s with key %s: %w", v.Certificate, v.Key, err))
	}
	own, err := w.parsed(v.Certificate)
	if err != nil {
		return fail(err)
	}
	if err := proves(own[0], v.ID); err != nil {
		return fail(fmt.Errorf("certificate %s: %w", v.Certificate, err))
	}
	authorities, err := w.parsed(v.CA)
	if err != nil {
		return fail(err)
	}
	certs = slices.Concat(periods(v.Certificate, own[:1]), periods(v.CA, authorities))
	for _, a := range authorities {
		keys.Authorities = append(keys.Authorities, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Raw}))
	}
	if v.CRL != "" {
		lists, err := w.lists(v.CRL, authorities)
		if err != nil {
			return fail(err)
		}
		for _, l := range lists {
			keys.CRLs = append(keys.CRLs, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: l.Raw}))
			certs = append(certs, agent.Certificate{Name: secretName(v.CRL), List: true, From: l.ThisUpdate.UnixNano(), Until: l.NextUpdate.UnixNano()})
		}
	}
	return keys, certs, nil
}

// parsed are the certificates in a file, one at least.
func (w *wiring) parsed(ref string) ([]*x509.Certificate, error) {
	text, err := w.read(ref)
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for _, der := range blocks(text, "CERTIFICATE") {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", ref, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("certificate %s: there is none in it (PEM is wanted)", ref)
	}
	return out, nil
}

// lists are the lists of revoked certificates in a file, each signed by one of
// the authorities: another would be left aside, and nobody revoked.
func (w *wiring) lists(ref string, by []*x509.Certificate) ([]*x509.RevocationList, error) {
	text, err := w.read(ref)
	if err != nil {
		return nil, err
	}
	var out []*x509.RevocationList
	for _, der := range blocks(text, "X509 CRL") {
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, fmt.Errorf("list of revoked certificates %s: %w", ref, err)
		}
		if !slices.ContainsFunc(by, func(a *x509.Certificate) bool { return l.CheckSignatureFrom(a) == nil }) {
			return nil, fmt.Errorf("list of revoked certificates %s is by %s, which is none of the tunnel's authorities", ref, l.Issuer)
		}
		if l.NextUpdate.IsZero() {
			l.NextUpdate = endless
		}
		out = append(out, l)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("list of revoked certificates %s: there is none in it (PEM is wanted)", ref)
	}
	return out, nil
}

// endless is when a list ends that doesn't say (RFC 5280, 4.1.2.5).
var endless = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)

// blocks are the contents of the PEM blocks of a type.
func blocks(text []byte, kind string) (out [][]byte) {
	for rest := bytes.TrimSpace(text); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return out
		}
		if b.Type == kind {
			out = append(out, b.Bytes)
		}
	}
}

// proves tells why c doesn't say that its holder is id. Distinguished names are
// left to charon, which writes them in its own way.
func proves(c *x509.Certificate, id string) error {
	if strings.Contains(id, "=") {
		return nil
	}
	names := slices.Concat(c.DNSNames, c.EmailAddresses)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, id) }) {
		return nil
	}
	return fmt.Errorf("it is for %s, and the tunnel's id is %s: write that as id, or issue a certificate with this name", cmp.Or(strings.Join(names, ", "), "no name but its subject "+c.Subject.String()), id)
}

// periods are the times of certificates from ref.
func periods(ref string, certs []*x509.Certificate) (out []agent.Certificate) {
	for _, c := range certs {
		out = append(out, agent.Certificate{Name: secretName(ref), From: c.NotBefore.UnixNano(), Until: c.NotAfter.UnixNano()})
	}
	return out
}

// secretName is a reference for people.
func secretName(ref string) string { return strings.TrimPrefix(ref, "secret:") }

package pki

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"komainu/drivers/files"
)

// Revoke takes back certificates by their serial (its beginning, if only one has
// it), or by their name: all is needed if several valid ones have that. Nobody
// hears of it but by a new list: see WriteList. The ones that were revoked by
// this call are returned.
func (a *Authority) Revoke(what string, all bool, now time.Time) ([]Certificate, error) {
	word := strings.ToLower(strings.ReplaceAll(what, ":", ""))
	var found []int
	for i, c := range a.index.Certificates {
		if c.Name == what && c.Valid(now) {
			found = append(found, i)
		}
	}
	byName := len(found) > 0
	const enough = 4 // digits
	for i, c := range a.index.Certificates {
		if !byName && len(word) >= enough && strings.HasPrefix(c.Serial, word) {
			found = append(found, i)
		}
	}
	switch {
	case len(found) == 0:
		return nil, refuse("pki-unknown", what)
	case len(found) > 1 && !(byName && all):
		var serials []string
		for _, i := range found {
			serials = append(serials, a.index.Certificates[i].Serial)
		}
		return nil, refuse("pki-several", what, strings.Join(serials, ", "))
	}
	next := a.index
	next.Certificates = slices.Clone(next.Certificates)
	var out []Certificate
	for _, i := range found {
		c := &next.Certificates[i]
		if !c.Revoked.IsZero() {
			return nil, refuse("pki-revoked", c.Name, c.Serial, c.Revoked.Format(time.DateOnly))
		}
		c.Revoked = now.UTC().Truncate(time.Second)
		out = append(out, *c)
	}
	if err := save(a.dir, next); err != nil {
		return nil, err
	}
	a.index = next
	return out, nil
}

// WriteList makes the list of revoked certificates anew (RFC 5280, 5): who has it
// refuses those on it, and everybody from days on. Its number grows. Those that
// are out of date since a year are left out.
func (a *Authority) WriteList(days int, now time.Time) (path string, err error) {
	if err := period(days); err != nil {
		return "", err
	}
	next := a.index
	next.ListNumber++
	if err := save(a.dir, next); err != nil {
		return "", err
	}
	a.index = next
	list := &x509.RevocationList{Number: big.NewInt(next.ListNumber), ThisUpdate: now.Add(-early), NextUpdate: now.AddDate(0, 0, days)}
	for _, c := range next.Certificates {
		if c.Revoked.IsZero() || now.After(c.Until.AddDate(1, 0, 0)) {
			continue
		}
		n, ok := new(big.Int).SetString(c.Serial, 16)
		if !ok {
			return "", refuse("pki-index", filepath.Join(a.dir, indexFile), fmt.Sprintf("serial %q", c.Serial))
		}
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: c.Revoked})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		return "", err
	}
	path = filepath.Join(a.dir, ListFile)
	return path, files.Replace(path, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), 0o644)
}

// block is the content of the first PEM block, nil if there is none.
func block(text []byte) []byte {
	b, _ := pem.Decode(text)
	if b == nil {
		return nil
	}
	return b.Bytes
}

package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Request is what a certificate is to say.
type Request struct {
	Name string   // of the box's site; its identity in IKE and TLS
	More []string // further names and addresses
	Days int
	// CSR is a signing request (PKCS #10, PEM or DER) from a box that keeps its key;
	// of it only the key is taken. nil: a key is made too.
	CSR []byte
}

// Made says where a new certificate is.
type Made struct {
	Certificate
	Cert, Key string   // files; Key is empty with a CSR
	Older     []string // serials of valid ones of the same name
}

// Issue makes a certificate for a box, good for IKE and for both ends of TLS.
// One of the same name may be valid still: both are, until that is revoked.
func (a *Authority) Issue(r Request, now time.Time) (Made, error) {
	if !siteForm.MatchString(r.Name) || len(r.Name) > nameMost {
		return Made{}, refuse("pki-site", r.Name)
	}
	if err := period(r.Days); err != nil {
		return Made{}, err
	}
	number := serial()
	t := &x509.Certificate{
		SerialNumber: number, Subject: pkix.Name{CommonName: r.Name}, DNSNames: []string{r.Name},
		NotBefore: now.Add(-early), NotAfter: now.AddDate(0, 0, r.Days), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, n := range r.More {
		if ip, err := netip.ParseAddr(n); err == nil {
			t.IPAddresses = append(t.IPAddresses, ip.AsSlice())
		} else if siteForm.MatchString(n) {
			t.DNSNames = append(t.DNSNames, n)
		} else {
			return Made{}, refuse("pki-site", n)
		}
	}
	if t.NotAfter.After(a.cert.NotAfter) {
		return Made{}, refuse("pki-outlives", a.cert.NotAfter.Format(time.DateOnly), fmt.Sprint(max(0, int(a.cert.NotAfter.Sub(now)/(24*time.Hour)))))
	}
	base := filepath.Join(a.dir, Issued, r.Name+"-"+fmt.Sprintf("%x", number)[:8])
	m := Made{Certificate: Certificate{Serial: fmt.Sprintf("%x", number), Name: r.Name, From: t.NotBefore.UTC().Truncate(time.Second), Until: t.NotAfter.UTC().Truncate(time.Second)},
		Cert: base + ".pem", Key: base + "-key.pem"}
	for _, c := range a.index.Certificates {
		if c.Name == r.Name && c.Valid(now) {
			m.Older = append(m.Older, c.Serial)
		}
	}
	var public any
	var own *ecdsa.PrivateKey
	var err error
	if r.CSR != nil {
		m.Key = ""
		public, err = requested(r.CSR)
	} else if own, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err == nil {
		public = &own.PublicKey
	}
	if err != nil {
		return Made{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, public, a.key)
	if err != nil {
		return Made{}, err
	}
	if err := os.MkdirAll(filepath.Join(a.dir, Issued), 0o700); err != nil {
		return Made{}, err
	}
	// Known before it is there: one that nobody knows of couldn't be revoked.
	next := a.index
	next.Certificates = append(slices.Clone(next.Certificates), m.Certificate)
	if err := save(a.dir, next); err != nil {
		return Made{}, err
	}
	a.index = next
	if own != nil {
		if err := writeKey(m.Key, own); err != nil {
			return Made{}, err
		}
	}
	return m, writeNew(m.Cert, "CERTIFICATE", der, 0o644)
}

// requested is the key in a signing request, if it is strong enough and its
// holder has signed the request.
func requested(csr []byte) (any, error) {
	der := csr
	if b := block(csr); b != nil {
		der = b
	}
	req, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, refuse("pki-csr", err.Error())
	}
	if err := req.CheckSignature(); err != nil {
		return nil, refuse("pki-csr", err.Error())
	}
	switch k := req.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize >= 256 {
			return k, nil
		}
	case *rsa.PublicKey:
		if k.N.BitLen() >= 3072 {
			return k, nil
		}
	}
	return nil, refuse("pki-csr-key")
}

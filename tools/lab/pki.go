package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// The names that WritePKI issues certificates for: the three agents by their
// site names, and the service for its addresses on both sides.
const (
	SiteHall    = "hinata-cho"
	SiteEdge    = "dc-edge"
	SiteDB      = "dc-db"
	ServiceName = "service"
)

// WritePKI makes an authority and the town's certificates in dir: ca.pem, and
// NAME.pem with NAME-key.pem (mode 0600, PKCS 8) for each name, further sites
// included. All are ECDSA P-256 and valid for a quarter, so that no box warns of
// their end; the authority's key is not kept.
func WritePKI(dir string, further ...string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the folder of certificates: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the authority's key: %w", err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "komainu lab authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		return fmt.Errorf("make the authority: %w", err)
	}
	if err := writePEM(filepath.Join(dir, "ca.pem"), "CERTIFICATE", der, 0o644); err != nil {
		return err
	}
	ips := func(s ...string) (out []net.IP) {
		for _, a := range s {
			out = append(out, net.ParseIP(a))
		}
		return out
	}
	type name struct {
		name string
		ips  []net.IP
	}
	names := []name{
		{SiteHall, ips(Hall4, Hall6, MainHall4, MainHall6, AltHall4, AltHall6)},
		{SiteEdge, ips(Edge4, Edge6, MainEdge4, MainEdge6, AltEdge4, AltEdge6)},
		{SiteDB, ips(DB4, DB6)},
		{ServiceName, ips(Service4, Service6, DB4, DB6)},
	}
	for _, site := range further {
		names = append(names, name{name: site})
	}
	for i, c := range names {
		if err := issue(dir, c.name, c.ips, int64(i+2), ca, key); err != nil {
			return fmt.Errorf("issue the certificate of %s: %w", c.name, err)
		}
	}
	return nil
}

func issue(dir, name string, ips []net.IP, serial int64, ca *x509.Certificate, by *ecdsa.PrivateKey) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		DNSNames: []string{name}, IPAddresses: ips, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, ca, key.Public(), by)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, name+".pem"), "CERTIFICATE", der, 0o644); err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, name+"-key.pem"), "PRIVATE KEY", private, 0o600)
}

func writePEM(file, kind string, der []byte, mode os.FileMode) error {
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

// Package pki is a small certificate authority in a folder, for the tunnels and
// orders between boxes: it makes the authority, issues and revokes certificates,
// and makes the list of revoked ones. The folder belongs to one person's machine,
// better to a stick in a safe: whoever has ca-key.pem can be any box. It never
// overwrites a certificate or key, and asks no clock: the time is an argument.
// Start reading at Create, Open and Authority.Issue.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unicode"

	"komainu/appliance/say"
	"komainu/drivers/files"
)

// Files of an authority's folder.
const (
	CertFile  = "ca.pem"
	KeyFile   = "ca-key.pem" // mode 0600
	ListFile  = "crl.pem"
	Issued    = "issued" // folder of NAME-SERIAL.pem and NAME-SERIAL-key.pem
	indexFile = "index.json"
	lockFile  = "lock"
)

// Periods.
const (
	CADays   = 3652 // ten years
	CertDays = 825  // what browsers and CA/B long took at most
	ListDays = 30

	// early is how long before now a certificate begins: a box whose clock is a
	// little behind takes it too.
	early = time.Hour
	// dayMost bounds all periods: fifty years.
	dayMost = 18262
)

// Refusal is what a person asked for and doesn't get.
type Refusal struct {
	Code string // row of appliance/say
	Args []string
}

func (r *Refusal) Error() string { return say.Text("en", r.Code, r.Args...) }

func refuse(code string, args ...string) error { return &Refusal{Code: code, Args: args} }

// Certificate is one that was issued, as the index keeps it.
type Certificate struct {
	Serial  string    `json:"serial"` // hexadecimal
	Name    string    `json:"name"`
	From    time.Time `json:"from"`
	Until   time.Time `json:"until"`
	Revoked time.Time `json:"revoked,omitzero"`
}

// Valid tells whether c is neither revoked nor out of date at now.
func (c Certificate) Valid(now time.Time) bool { return c.Revoked.IsZero() && now.Before(c.Until) }

// version of the index's form.
const version = 1

// index is all that changes, replaced as a whole.
type index struct {
	ListNumber   int64         `json:"list_number"` // of the last list of revoked ones (RFC 5280, 5.2.3)
	Certificates []Certificate `json:"certificates"`
}

// Authority is an open one. Close lets others use it.
type Authority struct {
	dir   string
	lock  *files.Locked
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	index index
}

// Create makes an authority of this name in dir, which must not hold one. Its
// key is ECDSA on P-384, as strong as the tunnels' suite.
func Create(dir, name string, days int, now time.Time) (err error) {
	if err := named(name); err != nil {
		return err
	}
	if err := period(days); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	lock, err := files.Lock(filepath.Join(dir, lockFile))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	for _, f := range []string{CertFile, KeyFile, indexFile} {
		if _, err := os.Lstat(filepath.Join(dir, f)); !errors.Is(err, fs.ErrNotExist) {
			return refuse("pki-exists", dir, f)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-early), NotAfter: now.AddDate(0, 0, days),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	// The certificate is last: with it the authority is there.
	if err := writeKey(filepath.Join(dir, KeyFile), key); err != nil {
		return err
	}
	if err := save(dir, index{}); err != nil {
		return err
	}
	return writeNew(filepath.Join(dir, CertFile), "CERTIFICATE", der, 0o644)
}

// Open opens the authority in dir, for one at a time.
func Open(dir string) (*Authority, error) {
	if _, err := os.Stat(filepath.Join(dir, CertFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, refuse("pki-none", dir)
	}
	lock, err := files.Lock(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, err
	}
	a := &Authority{dir: dir, lock: lock}
	if err := a.read(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return a, nil
}

// Close lets others open it.
func (a *Authority) Close() error { return a.lock.Close() }

func (a *Authority) read() error {
	der, err := readBlock(filepath.Join(a.dir, CertFile), "CERTIFICATE")
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("%s: %w", CertFile, err)
	}
	info, err := os.Stat(filepath.Join(a.dir, KeyFile))
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return refuse("pki-key-open", filepath.Join(a.dir, KeyFile))
	}
	if der, err = readBlock(filepath.Join(a.dir, KeyFile), "PRIVATE KEY"); err != nil {
		return err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return fmt.Errorf("%s: %w", KeyFile, err)
	}
	var ok bool
	if a.key, ok = key.(*ecdsa.PrivateKey); !ok || !a.key.PublicKey.Equal(a.cert.PublicKey) {
		return refuse("pki-key-other", KeyFile, CertFile)
	}
	if err := files.ReadJSON(filepath.Join(a.dir, indexFile), version, &a.index); err != nil {
		return refuse("pki-index", filepath.Join(a.dir, indexFile), err.Error())
	}
	return nil
}

// Name is the authority's.
func (a *Authority) Name() string { return a.cert.Subject.CommonName }

// Until is its end.
func (a *Authority) Until() time.Time { return a.cert.NotAfter }

// List are all certificates in the order of their making.
func (a *Authority) List() []Certificate { return append([]Certificate{}, a.index.Certificates...) }

// save replaces the index.
func save(dir string, x index) error {
	return files.ReplaceJSON(filepath.Join(dir, indexFile), version, x)
}

// siteForm is a box's name, or a server's.
var siteForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

// nameMost is the longest common name (RFC 5280, ub-common-name).
const nameMost = 64

func named(name string) error {
	if name == "" || len([]rune(name)) > nameMost || strings.TrimSpace(name) != name || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return refuse("pki-name", name)
	}
	return nil
}

func period(days int) error {
	if days < 1 || days > dayMost {
		return refuse("pki-days", fmt.Sprint(days), fmt.Sprint(dayMost))
	}
	return nil
}

// serial is 126 random bits, so that nobody can tell the next one, and two
// authorities that were restored from one copy don't give out the same.
func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b)     // never fails (crypto/rand)
	b[0] = b[0]&0x7f | 0x40 // positive, and always as long
	return new(big.Int).SetBytes(b)
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writeNew(path, "PRIVATE KEY", der, 0o600)
}

// writeNew makes a file that isn't there yet, durably.
func writeNew(path, kind string, der []byte, mode fs.FileMode) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	err = errors.Join(pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Sync(), f.Close())
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return files.SyncFolder(filepath.Dir(path))
}

func readBlock(path, kind string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b, _ := pem.Decode(text)
	if b == nil || b.Type != kind {
		return nil, refuse("pki-file", path, kind)
	}
	return b.Bytes, nil
}

package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"komainu/appliance/say"
)

var day = time.Date(2027, 4, 1, 9, 0, 0, 0, time.UTC)

func made(t *testing.T) (string, *Authority) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	if err := Create(dir, "日向町 CA", CADays, day); err != nil {
		t.Fatal(err)
	}
	a, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return dir, a
}

func issue(t *testing.T, a *Authority, r Request, now time.Time) Made {
	t.Helper()
	if r.Days == 0 {
		r.Days = CertDays
	}
	m, err := a.Issue(r, now)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func cert(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	der, err := readBlock(path, "CERTIFICATE")
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// refused demands a refusal with this code, which both languages have words for.
func refused(t *testing.T, err error, code string) {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) || r.Code != code {
		t.Errorf("%v, want %s", err, code)
		return
	}
	for _, lang := range say.Languages() {
		if s := say.Text(lang, r.Code, r.Args...); strings.Contains(s, "{0}") || s == r.Code {
			t.Errorf("%s %s: %q", lang, code, s)
		}
	}
}

func TestIssued(t *testing.T) {
	dir, a := made(t)
	m := issue(t, a, Request{Name: "hinata-cho", More: []string{"10.20.7.2", "hinata.pref.example.jp"}}, day)
	c, ca := cert(t, m.Cert), cert(t, filepath.Join(dir, CertFile))
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	for _, name := range []string{"hinata-cho", "10.20.7.2", "hinata.pref.example.jp"} {
		for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
			if _, err := c.Verify(x509.VerifyOptions{DNSName: name, Roots: pool, CurrentTime: day, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: day.AddDate(0, 0, CertDays+1)}); err == nil {
		t.Error("good for ever")
	}
	if _, err := tls.LoadX509KeyPair(m.Cert, m.Key); err != nil {
		t.Error(err)
	}
	for path, mode := range map[string]os.FileMode{filepath.Join(dir, KeyFile): 0o600, m.Key: 0o600, filepath.Join(dir, indexFile): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", path, info.Mode(), err)
		}
	}
	if ca.PublicKey.(*ecdsa.PublicKey).Curve != elliptic.P384() || ca.MaxPathLen != 0 {
		t.Errorf("the authority: %+v", ca)
	}
	again := issue(t, a, Request{Name: "hinata-cho"}, day)
	if len(again.Older) != 1 || again.Older[0] != m.Serial || again.Cert == m.Cert || again.Serial == m.Serial {
		t.Errorf("%+v after %+v", again, m)
	}
}

// TestRequest: a box that keeps its key gets a certificate for it, under the name
// that the person gives.
func TestRequest(t *testing.T) {
	_, a := made(t)
	request := func(key any) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"dc-edge"}}, key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	}
	good, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := issue(t, a, Request{Name: "hinata-cho", CSR: request(good)}, day)
	if c := cert(t, m.Cert); m.Key != "" || !good.PublicKey.Equal(c.PublicKey) || len(c.DNSNames) != 1 || c.DNSNames[0] != "hinata-cho" {
		t.Errorf("%+v: %v", m, c.DNSNames)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	forged := request(good)
	b, _ := pem.Decode(forged)
	b.Bytes[len(b.Bytes)-1] ^= 1
	for code, csr := range map[string][]byte{"pki-csr-key": request(weak), "pki-csr": b.Bytes} {
		_, err := a.Issue(Request{Name: "hinata-cho", Days: 1, CSR: csr}, day)
		refused(t, err, code)
	}
	_, err = a.Issue(Request{Name: "hinata-cho", Days: 1, CSR: []byte("hello")}, day)
	refused(t, err, "pki-csr")
	if n := len(a.List()); n != 1 {
		t.Errorf("%d in the index", n)
	}
}

func TestRevoke(t *testing.T) {
	dir, a := made(t)
	one, two := issue(t, a, Request{Name: "hinata-cho"}, day), issue(t, a, Request{Name: "hinata-cho"}, day)
	other := issue(t, a, Request{Name: "aoba-mura"}, day)
	list := func(now time.Time) *x509.RevocationList {
		t.Helper()
		path, err := a.WriteList(ListDays, now)
		if err != nil {
			t.Fatal(err)
		}
		der, err := readBlock(path, "X509 CRL")
		if err != nil {
			t.Fatal(err)
		}
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.CheckSignatureFrom(cert(t, filepath.Join(dir, CertFile))); err != nil {
			t.Fatal(err)
		}
		return l
	}
	empty := list(day)
	if len(empty.RevokedCertificateEntries) != 0 || !empty.NextUpdate.Equal(day.AddDate(0, 0, ListDays)) {
		t.Errorf("%+v", empty)
	}
	_, err := a.Revoke("hinata-cho", false, day)
	refused(t, err, "pki-several")
	_, err = a.Revoke("kawa-cho", false, day)
	refused(t, err, "pki-unknown")
	if _, err := a.Revoke(strings.ToUpper(one.Serial[:10]), false, day); err != nil {
		t.Error(err)
	}
	_, err = a.Revoke(one.Serial, false, day)
	refused(t, err, "pki-revoked")
	if _, err := a.Revoke("hinata-cho", false, day); err != nil { // one valid one is left
		t.Error(err)
	}
	if _, err := a.Revoke("aoba-mura", true, day); err != nil {
		t.Error(err)
	}
	l := list(day)
	if l.Number.Cmp(empty.Number) <= 0 || len(l.RevokedCertificateEntries) != 3 {
		t.Errorf("list %v with %d", l.Number, len(l.RevokedCertificateEntries))
	}
	for i, m := range []Made{one, two, other} {
		if l.RevokedCertificateEntries[i].SerialNumber.Cmp(cert(t, m.Cert).SerialNumber) != 0 {
			t.Errorf("%s isn't on it", m.Serial)
		}
	}
	// It is the same when it is opened again, and what is long out of date goes.
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if a, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	if late := list(day.AddDate(0, 0, CertDays+400)); late.Number.Cmp(l.Number) <= 0 || len(late.RevokedCertificateEntries) != 0 {
		t.Errorf("list %v with %d", late.Number, len(late.RevokedCertificateEntries))
	}
}

func TestRefusals(t *testing.T) {
	dir, a := made(t)
	refused(t, Create(t.TempDir(), "", 1, day), "pki-name")
	refused(t, Create(t.TempDir(), "a\nb", 1, day), "pki-name")
	refused(t, Create(t.TempDir(), "CA", 0, day), "pki-days")
	for _, name := range []string{"", "Hinata", "日向", "-a", "a b", "a,CN=b", "*.example.jp", strings.Repeat("a", 65)} {
		_, err := a.Issue(Request{Name: name, Days: 1}, day)
		refused(t, err, "pki-site")
	}
	_, err := a.Issue(Request{Name: "a", Days: 1, More: []string{"10.1.0.300:1"}}, day)
	refused(t, err, "pki-site")
	_, err = a.Issue(Request{Name: "a", Days: CADays}, day.AddDate(0, 0, 1))
	refused(t, err, "pki-outlives")
	_, err = a.Issue(Request{Name: "a", Days: 100000}, day)
	refused(t, err, "pki-days")
	if _, err := Open(dir); err == nil {
		t.Error("two at once")
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	refused(t, Create(dir, "CA", 1, day), "pki-exists")
	_, err = Open(t.TempDir())
	refused(t, err, "pki-none")
	damage := func(file, text string, code string) {
		t.Helper()
		path := filepath.Join(dir, file)
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = Open(dir)
		refused(t, err, code)
		if err := os.WriteFile(path, was, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damage(CertFile, "", "pki-file")
	damage(KeyFile, "x", "pki-file")
	damage(indexFile, "{", "pki-index")
	damage(indexFile, `{"version": 2}`, "pki-index")
	otherDir, _ := made(t)
	key, err := os.ReadFile(filepath.Join(otherDir, KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	damage(KeyFile, string(key), "pki-key-other")
	if err := os.Chmod(filepath.Join(dir, KeyFile), 0o640); err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir)
	refused(t, err, "pki-key-open")
}

// TestHostOpenSSL: another implementation takes and refuses the same.
func TestHostOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("needs openssl")
	}
	dir, a := made(t)
	good, bad := issue(t, a, Request{Name: "hinata-cho"}, day), issue(t, a, Request{Name: "aoba-mura"}, day)
	early := issue(t, a, Request{Name: "kawa-cho"}, day.AddDate(0, 0, 2))
	if _, err := a.Revoke("aoba-mura", false, day); err != nil {
		t.Fatal(err)
	}
	list, err := a.WriteList(ListDays, day)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cert string
		at   time.Time
		want string
	}{
		{good.Cert, day, "OK"},
		{bad.Cert, day, "certificate revoked"},
		{early.Cert, day, "not yet valid"},
		{good.Cert, day.AddDate(0, 0, CertDays+1), "has expired"},
		{good.Cert, day.AddDate(0, 0, ListDays+1), "CRL has expired"},
	} {
		out, _ := exec.Command("openssl", "verify", "-x509_strict", "-crl_check", "-CRLfile", list, "-CAfile", filepath.Join(dir, CertFile),
			"-attime", strconv.FormatInt(c.at.Unix(), 10), c.cert).CombinedOutput()
		if !strings.Contains(string(out), c.want) {
			t.Errorf("%s at %s: %s, want %s", c.cert, c.at, out, c.want)
		}
	}
}

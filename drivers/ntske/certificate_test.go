package ntske

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"os"
	"testing"
	"time"
)

// TestReload: a new certificate is shown without a restart; a bad one isn't.
func TestReload(t *testing.T) {
	a := newAuthority(t)
	dir := t.TempDir()
	first := a.issue(t, "ntp.example.jp", -time.Hour, time.Hour)
	certFile, keyFile := write(t, dir, first)
	certs := NewCertificates(func() (tls.Certificate, error) { return tls.LoadX509KeyPair(certFile, keyFile) }, time.Now)
	must(t, certs.Reload())
	s, _ := newServer(t, first)
	s.Certificates = certs
	ln := open(t)
	start(t, s, ln)
	shown := func() time.Time {
		t.Helper()
		r, err := (&Client{Roots: a.pool()}).Handshake(context.Background(), ln.Addr().String(), "ntp.example.jp")
		must(t, err)
		return r.Ends
	}
	if !shown().Equal(first.Leaf.NotAfter) {
		t.Error("the first isn't shown")
	}
	second := a.issue(t, "ntp.example.jp", -time.Hour, 2*time.Hour)
	write(t, dir, second)
	must(t, certs.Reload())
	if !shown().Equal(second.Leaf.NotAfter) {
		t.Error("the second isn't shown")
	}
	for name, spoil := range map[string]func(){
		"expired": func() { write(t, dir, a.issue(t, "ntp.example.jp", -2*time.Hour, -time.Hour)) },
		"not yet": func() { write(t, dir, a.issue(t, "ntp.example.jp", time.Hour, 2*time.Hour)) },
		"gone":    func() { must(t, os.Remove(certFile)) },
		"no key":  func() { must(t, os.Remove(keyFile)) },
		"other key": func() {
			write(t, dir, second)
			must(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: first.Certificate[0]}), 0o644))
		},
		"nonsense": func() { must(t, os.WriteFile(certFile, []byte("nonsense"), 0o644)) },
		"half":     func() { must(t, os.Truncate(certFile, 100)) },
	} {
		write(t, dir, second)
		spoil()
		err := certs.Reload()
		if err == nil {
			t.Errorf("%s: taken", name)
		} else if dated := name == "expired" || name == "not yet"; errors.Is(err, ErrDates) != dated {
			t.Errorf("%s: %v", name, err)
		}
		if !certs.NotAfter().Equal(second.Leaf.NotAfter) {
			t.Errorf("%s: the old one is gone", name)
		}
	}
	if !shown().Equal(second.Leaf.NotAfter) {
		t.Error("the second isn't shown any more")
	}
}

func TestFirstCertificate(t *testing.T) {
	a := newAuthority(t)
	old := a.issue(t, "ntp.example.jp", -2*time.Hour, -time.Hour)
	certs := NewCertificates(func() (tls.Certificate, error) { return old, nil }, time.Now)
	if _, err := certs.get(nil); err == nil || !certs.NotAfter().IsZero() {
		t.Error("a certificate from nowhere")
	}
	if err := certs.Reload(); !errors.Is(err, ErrDates) {
		t.Error(err)
	}
	if _, err := certs.get(nil); err != nil {
		t.Errorf("the only certificate isn't shown: %v", err)
	}
	none := NewCertificates(func() (tls.Certificate, error) { return tls.Certificate{}, nil }, time.Now)
	if none.Reload() == nil {
		t.Error("nothing was taken for a certificate")
	}
}

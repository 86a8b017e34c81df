package lab_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"komainu/tools/lab"
)

func TestCertificatesAreGoodForTheirNamesAndAddresses(t *testing.T) {
	dir := t.TempDir()
	if err := lab.WritePKI(dir); err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for name, address := range map[string]string{
		lab.SiteHall: lab.MainHall4, lab.SiteEdge: lab.AltEdge6, lab.SiteDB: lab.DB4, lab.ServiceName: lab.Service6,
	} {
		key := filepath.Join(dir, name+"-key.pem")
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".pem"), key)
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{name, "[" + address + "]"} {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots}); err != nil {
				t.Errorf("%s for %s: %v", name, host, err)
			}
		}
		if i, err := os.Stat(key); err != nil || i.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v; want 0600", key, i.Mode(), err)
		}
	}
}

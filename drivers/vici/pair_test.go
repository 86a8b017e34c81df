package vici

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"komainu/drivers/netns"
	"komainu/drivers/netns/netnstest"
	"komainu/netstack/spec"
)

// pair is a hall that begins (box) and an edge that waits (DC), each with a
// charon of its own.
type pair struct {
	t          *testing.T
	town       netnstest.Town
	hall, edge *charon
}

// charon is one daemon in a namespace.
type charon struct {
	t             *testing.T
	netns, socket string
	conf          string
	log           *bytes.Buffer
	cmd           *exec.Cmd
	client        *Client
}

const daemon = "/usr/lib/ipsec/charon"

// kernelESP: the kernel has ESP, as on the stock one; else it is done in user space.
func kernelESP(t *testing.T, ns string) bool {
	ok := false
	netnstest.Do(t, ns, func() error {
		ok = exec.Command("ip", "link", "add", "probe-xfrm", "type", "xfrm", "if_id", "77").Run() == nil
		if ok {
			return exec.Command("ip", "link", "del", "probe-xfrm").Run()
		}
		return nil
	})
	return ok
}

func newPair(t *testing.T) *pair {
	t.Helper()
	if _, err := os.Stat(daemon); err != nil {
		t.Skip("needs charon (apt: strongswan-charon)")
	}
	town := netnstest.New(t)
	p := &pair{t: t, town: town}
	netnstest.IP(t, town.DC, "link set lo up\naddr add 203.0.113.1/24 dev lo")
	if !kernelESP(t, town.Box) {
		if _, err := os.Stat("/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so"); err != nil {
			t.Skip("the kernel has no ESP, and kernel-libipsec (apt: libcharon-extra-plugins) isn't there")
		}
	}
	p.hall, p.edge = newCharon(t, town.Box), newCharon(t, town.DC)
	p.hall.start()
	p.edge.start()
	return p
}

func newCharon(t *testing.T, ns string) *charon {
	dir, err := os.MkdirTemp("", "vici")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &charon{t: t, netns: ns, socket: filepath.Join(dir, "s"), conf: filepath.Join(dir, "strongswan.conf"), log: &bytes.Buffer{}}
	c.client = &Client{Socket: c.socket}
	text := Daemon(Settings{Socket: c.socket, UserSpace: !kernelESP(t, ns)})
	if err := os.WriteFile(c.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.client.Close()
		c.kill()
		if t.Failed() {
			t.Logf("charon in %s:\n%s", ns, c.log)
		}
	})
	return c
}

// start starts it, with a /run of its own for its PID file.
func (c *charon) start() {
	c.t.Helper()
	c.cmd = exec.Command("unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /run && exec "+daemon+" --use-syslog no")
	c.cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+c.conf)
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := netns.Do(c.netns, c.cmd.Start); err != nil {
		c.t.Fatal(err)
	}
	c.t.Helper()
	until(c.t, "charon to answer", func() bool { _, err := c.client.Version(context.Background()); return err == nil })
}

func (c *charon) kill() {
	if c.cmd != nil {
		_ = c.cmd.Process.Signal(syscall.SIGCONT)
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		c.cmd = nil
	}
}

// until waits for a condition, at most 10 s.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(netnstest.Patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// tunnel is one between hall and edge, named name, for a pair of networks.
func tunnel(name string, ifID uint32) (hall, edge spec.Tunnel) {
	hall = spec.Tunnel{Name: name, IfID: ifID, Local: netnstest.BoxWAN[0], Remote: netnstest.DCAddr[0], LocalID: "hall", RemoteID: "edge", PSK: true,
		Initiate: true, IKE: []string{"aes256gcm16-prfsha384-ecp384"}, ESP: []string{"aes256gcm16-ecp384"},
		Inner: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Beyond: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")},
		RekeyIKE: 4 * time.Hour, RekeyESP: time.Hour}
	return hall, reversed(hall)
}

func reversed(t spec.Tunnel) spec.Tunnel {
	t.Local, t.Remote, t.LocalID, t.RemoteID, t.Inner, t.Beyond, t.Initiate = t.Remote, t.Local, t.RemoteID, t.LocalID, t.Beyond, t.Inner, false
	return t
}

// authority issues certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	last int64
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, last: 1}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1, 2, 3, 4}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.key = key
	return a
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// issue makes keys for a name, valid from and for that long.
func (a *authority) issue(name string, from time.Time, valid time.Duration) (Keys, int64) {
	a.last++
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(a.last), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: from, NotAfter: from.Add(valid), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return Keys{Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
		Authorities: [][]byte{a.pem()}}, a.last
}

// crl is the authority's list with these serials.
func (a *authority) crl(number int64, serials ...int64) []byte {
	tmpl := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, s := range serials {
		tmpl.RevokedCertificateEntries = append(tmpl.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, tmpl, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

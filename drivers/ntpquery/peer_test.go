package ntpquery

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"komainu/drivers/ntske"
	"komainu/ntp/keys"
)

// chrony is a chronyd that serves its own clock on loopback without adjusting it.
type chrony struct {
	port, kePort uint16
	keys         []*keys.Key
	roots        *x509.CertPool
}

// freePort is one that nobody has now, on UDP and TCP.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

func startChrony(t *testing.T) chrony {
	t.Helper()
	path, err := exec.LookPath("chronyd")
	if err != nil || os.Getuid() != 0 {
		t.Skip("needs root and chronyd (apt-get install chrony)")
	}
	dir := t.TempDir()
	c := chrony{port: freePort(t), kePort: freePort(t), roots: certificate(t, dir)}
	var file strings.Builder
	for i, k := range []struct {
		name string
		kind keys.Algorithm
		size int
	}{{"AES128", keys.AES128, 16}, {"AES256", keys.AES256, 32}, {"SHA256", keys.SHA256, 32}, {"SHA1", keys.SHA1, 20}, {"MD5", keys.MD5, 16}} {
		secret := make([]byte, k.size)
		random(secret)
		c.keys = append(c.keys, key(t, uint32(i+1), k.kind, secret))
		fmt.Fprintf(&file, "%d %s HEX:%s\n", i+1, k.name, hex.EncodeToString(secret))
	}
	conf := fmt.Sprintf(`port %d
bindaddress 127.0.0.1
bindaddress ::1
allow
local stratum 7
cmdport 0
bindcmdaddress %s/chronyd.sock
pidfile %s/chronyd.pid
keyfile %s/keys
ntsserverkey %s/key.pem
ntsservercert %s/cert.pem
ntsport %d
user root
`, c.port, dir, dir, dir, dir, dir, c.kePort)
	write(t, dir, "keys", file.String())
	write(t, dir, "chrony.conf", conf)
	var out bytes.Buffer
	cmd := exec.Command(path, "-x", "-d", "-f", filepath.Join(dir, "chrony.conf"))
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("chronyd said:\n%s", out.String())
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for { // until it answers: refusals come back at once
		_, err := Query(ctx, Target{Addr: c.at("::1"), Timeout: 200 * time.Millisecond})
		if err == nil {
			return c
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func (c chrony) at(addr string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), c.port)
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// certificate writes one for 127.0.0.1 that signs itself.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	write(t, dir, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	roots := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(parsed)
	return roots
}

// chronyd as upstream: plain, with each kind of key, and with NTS.
func TestHostChrony(t *testing.T) {
	c := startChrony(t)
	ask := func(what string, to Target, authenticated bool) {
		t.Helper()
		r, err := Query(context.Background(), to)
		if err != nil || r.Stratum != 7 || r.Authenticated != authenticated {
			t.Errorf("%s: %+v, %v", what, r, err)
			return
		}
		there, back := r.ServerReceived.Sub(r.Sent), r.Received.Sub(r.ServerSent)
		if off := (there - back) / 2; off.Abs() > (there+back)/2+time.Millisecond {
			t.Errorf("%s: chronyd on the same clock is %v away after %v", what, off, there+back)
		}
	}
	ask("v4", Target{Addr: c.at("127.0.0.1"), Timeout: 2 * time.Second}, false)
	ask("v6", Target{Addr: c.at("::1"), Timeout: 2 * time.Second}, false)
	for _, k := range c.keys {
		ask(fmt.Sprintf("key %d", k.ID), Target{Addr: c.at("127.0.0.1"), Timeout: 2 * time.Second, Key: k}, true)
	}
	secret := c.keys[0].Secret()
	secret[0]++
	wrong := key(t, c.keys[0].ID, c.keys[0].Algorithm, secret)
	if _, err := Query(context.Background(), Target{Addr: c.at("127.0.0.1"), Timeout: 100 * time.Millisecond, Key: wrong}); codeOf(t, err) != Timeout {
		t.Errorf("chronyd is silent to a wrong key: %v", err)
	}
	to := Target{Addr: c.at("127.0.0.1"), Timeout: 5 * time.Second}
	to.NTS = NewSession(ExchangeWith(&ntske.Client{Roots: c.roots}, netip.AddrPortFrom(to.Addr.Addr(), c.kePort), "127.0.0.1"))
	for range 12 { // more than one exchange brings cookies for
		ask("NTS", to, true)
	}
	if n := to.NTS.client.Cookies(); n != 8 {
		t.Errorf("%d cookies after 12 questions", n)
	}
}

func TestHostProbeChrony(t *testing.T) {
	c := startChrony(t)
	r, err := Probe(context.Background(), c.at("127.0.0.1").String(),
		Options{Pause: 10 * time.Millisecond, NTS: &ntske.Client{Roots: c.roots}, KEPort: c.kePort})
	if err != nil || r.Answered != 4 || !r.Authenticated || r.Stratum != 7 || r.Offset.Abs() > r.Delay/2+time.Millisecond {
		t.Errorf("%+v, %v", r, err)
	}
	t.Logf("%+v", r)
	_, err = Probe(context.Background(), c.at("127.0.0.1").String(),
		Options{Pause: time.Millisecond, NTS: &ntske.Client{}, KEPort: c.kePort})
	if codeOf(t, err) != NTS || !strings.Contains(err.Error(), "authority") {
		t.Errorf("a certificate of a stranger: %v", err)
	}
}

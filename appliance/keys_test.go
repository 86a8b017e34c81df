package main

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"komainu/appliance/config"
	"komainu/appliance/pki"
)

// keyed is a box with one tunnel by certificates and one by a shared key.
type keyed struct {
	t    *testing.T
	box  folders
	ring *keyring
	ca   string
	auth *pki.Authority
}

func newKeyed(t *testing.T) *keyed {
	t.Helper()
	dir := t.TempDir()
	k := &keyed{t: t, box: folders{state: filepath.Join(dir, "state")}, ca: filepath.Join(dir, "pki")}
	if err := pki.Create(k.ca, "CA", pki.CADays, time.Now()); err != nil {
		t.Fatal(err)
	}
	var err error
	if k.auth, err = pki.Open(k.ca); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.auth.Close() })
	k.ring = k.box.keyring(&config.File{
		Orders: config.Orders{Certificate: "secret:vpn-cert"},
		VPNs: []config.VPN{
			{Name: "closed", ID: "hinata-cho", Certificate: "secret:vpn-cert", Key: "secret:vpn-key", CA: "secret:vpn-ca", CRL: "secret:vpn-crl"},
			{Name: "shared", ID: "hinata-cho", PSK: "secret:psk"},
		},
	})
	k.put("vpn-ca", filepath.Join(k.ca, pki.CertFile))
	k.issued("hinata-cho")
	list, err := k.auth.WriteList(pki.ListDays, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	k.put("vpn-crl", list)
	k.text("psk", "0123456789abcdef\n")
	return k
}

func (k *keyed) text(name, text string) {
	k.t.Helper()
	if err := k.box.secrets().Put(name, []byte(text)); err != nil {
		k.t.Fatal(err)
	}
}

func (k *keyed) put(name, file string) {
	k.t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		k.t.Fatal(err)
	}
	k.text(name, string(b))
}

// issued puts a new certificate of this name into the box.
func (k *keyed) issued(name string) pki.Made {
	k.t.Helper()
	m, err := k.auth.Issue(pki.Request{Name: name, Days: 90}, time.Now())
	if err != nil {
		k.t.Fatal(err)
	}
	k.put("vpn-cert", m.Cert)
	k.put("vpn-key", m.Key)
	return m
}

func TestTunnelKeys(t *testing.T) {
	k := newKeyed(t)
	keys, err := k.ring.keys("closed")
	if err != nil || len(keys.Authorities) != 1 || len(keys.CRLs) != 1 {
		t.Fatalf("%d authorities, %d lists: %v", len(keys.Authorities), len(keys.CRLs), err)
	}
	if _, err := tls.X509KeyPair(keys.Cert, keys.Key); err != nil {
		t.Error(err)
	}
	if shared, err := k.ring.keys("shared"); err != nil || string(shared.PSK) != "0123456789abcdef" {
		t.Errorf("%q %v", shared.PSK, err)
	}
	// Each call reads anew.
	k.issued("hinata-cho")
	if again, err := k.ring.keys("closed"); err != nil || slices.Equal(again.Cert, keys.Cert) {
		t.Errorf("the old certificate again: %v", err)
	}
	all, err := k.ring.certificates()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range all {
		names = append(names, c.Name)
		if c.List != (c.Name == "vpn-crl") || c.From > time.Now().UnixNano() || c.Until < time.Now().UnixNano() {
			t.Errorf("%+v", c)
		}
	}
	if want := []string{"vpn-ca", "vpn-cert", "vpn-crl"}; !slices.Equal(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
	// What a new configuration says counts from when it was read.
	k.ring.take(&config.File{})
	if _, err := k.ring.keys("closed"); err == nil {
		t.Error("keys of a tunnel that is gone")
	}
}

// TestUselessKeys: every secret that can't work is named, with what to do.
func TestUselessKeys(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(k *keyed)
		want  []string
	}{
		"short":      {func(k *keyed) { k.text("psk", "0123456789abcde\n") }, []string{"tunnel shared", "secret:psk", "15 bytes", "16"}},
		"no secret":  {func(k *keyed) { _ = k.box.secrets().Delete("vpn-key") }, []string{"tunnel closed", "secret:vpn-key"}},
		"other's":    {func(k *keyed) { k.issued("aoba-mura") }, []string{"tunnel closed", "aoba-mura", "hinata-cho"}},
		"other key":  {func(k *keyed) { m := k.issued("hinata-cho"); k.issued("hinata-cho"); k.put("vpn-key", m.Key) }, []string{"secret:vpn-key"}},
		"no PEM":     {func(k *keyed) { k.text("vpn-ca", "hello") }, []string{"secret:vpn-ca", "PEM"}},
		"no list":    {func(k *keyed) { k.put("vpn-crl", filepath.Join(k.ca, pki.CertFile)) }, []string{"secret:vpn-crl"}},
		"other list": {func(k *keyed) { o := newKeyed(k.t); k.put("vpn-crl", filepath.Join(o.ca, pki.ListFile)) }, []string{"secret:vpn-crl", "authorities"}},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKeyed(t)
			c.spoil(k)
			_, err := k.ring.certificates()
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%v doesn't tell %q", err, w)
				}
			}
			other := "shared"
			if name == "short" {
				other = "closed"
			}
			if _, err := k.ring.keys(other); err != nil {
				t.Errorf("it keeps the other tunnel: %v", err)
			}
		})
	}
}

// TestTunnelsNeedNoRestart: the agent takes other tunnels, and other shares of
// lines, while it runs; not other paths over them.
func TestTunnelsNeedNoRestart(t *testing.T) {
	text, err := os.ReadFile("config/testdata/closed.toml")
	if err != nil {
		t.Fatal(err)
	}
	parse := func(old, new string) *config.File {
		t.Helper()
		f, problems := config.Parse("closed.toml", []byte(strings.Replace(string(text), old, new, 1)))
		if problems != nil {
			t.Fatal(problems)
		}
		return f
	}
	was := parse("", "")
	for _, c := range []struct {
		old, new string
		restart  bool
	}{
		{`remote = "10.20.8.1"`, `remote = "10.20.8.3"`, false},
		{`mtu = 1380`, "rekey = \"30m\"\nesp = \"aes128gcm16-ecp256\"", false},
		{`psk = "secret:vpn"`, `psk = "secret:other"`, false},
		{"[[route]]\nname = \"prefecture\"", "[[vpn]]\nname = \"more\"\ninterface = \"alt\"\nremote = \"10.20.8.4\"\naddress = \"10.255.10.2/30\"\nauth = \"psk\"\npsk = \"secret:vpn\"\nid = \"hinata-cho\"\nremote-id = \"more\"\n[[route]]\nname = \"prefecture\"", false},
		{"[[route]]\nname = \"prefecture\"", "[[class]]\nname = \"bulk\"\npaths = [\"alt\"]\n[[qos]]\ninterface = \"main\"\nrate = \"10mbit\"\nclass = [{ name = \"bulk\", max = \"48KB/s\" }]\n[[route]]\nname = \"prefecture\"", false},
		{`remote = "10.255.8.1"`, "remote = \"10.255.8.1\"\nport = 4800", true},
	} {
		if got := differ(besideNetwork(was), besideNetwork(parse(c.old, c.new))); got != c.restart {
			t.Errorf("%s → %s: restart %v", c.old, c.new, got)
		}
	}
}

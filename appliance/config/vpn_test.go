package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTunnelRules makes one change to a file with tunnels and demands exactly
// what it must be answered with.
func TestTunnelRules(t *testing.T) {
	good := site(t, "closed")
	const first = `address = ["10.255.7.2/30", "fd00:7::2/126"]`
	for _, c := range []struct{ old, new, want string }{
		{first, first + "\nlocal = \"10.20.7.3\"", "config-not-on-interface local 10.20.7.3 main"},
		{first, first + "\nlocal = \"2001:db8:7:1::2\"", "config-families remote local"},
		{first, first + "\nrekeyike = \"1h\"", "config-unknown-near rekeyike [[vpn]] rekey-ike"},
		{first, first + "\nprotect = [{ local = \"192.168.50.0/24\", remote = \"172.20.9.0/24\" }]", "config-same-inside 172.20.0.0/16 [[vpn]] prefecture-backup dc-main 38 172.20.9.0/24"},
		{first, first + "\nif-id = 9", "config-vpn-if-id prefecture-backup dc-main 9"},
		{`remote = "10.1.0.10"`, `remote = "any"`, "config-vpn-any"},
		{`remote = "10.1.0.10"`, `remote = "10.20.7.2"`, "config-remote-own 10.20.7.2"},
		{`remote = "10.20.8.1"`, `remote = "2001:db8:9::1"`, "config-vpn-family 2001:db8:9::1 alt"},
		{`remote-id = "prefecture"`, `remote-id = "hinata-cho"`, "config-vpn-self hinata-cho"},
		{`remote-id = "prefecture"`, `remote-id = "%any"`, "config-vpn-id remote-id %any"},
		{`remote-id = "prefecture"`, `remote-id = "*.example.jp"`, "config-vpn-id remote-id *.example.jp"},
		{`remote-id = "prefecture"`, `remote-id = "dc-edge"`, "config-vpn-twice dc-main prefecture-backup"},
		{`name = "prefecture-backup"`, `name = "office"`, "config-vpn-name office 16; config-refers interface prefecture-backup [[interface]] office, main, alt, dc-main, dc-alt, office; config-refers from prefecture-backup [[interface]] office, main, alt, dc-main, dc-alt, office"},
		{`"10.255.8.2/30"`, `"10.255.7.1/30"`, "config-same-inside 10.255.7.1/30 [[vpn]] dc-alt dc-main 37 10.255.7.2/30; config-remote-own 10.255.7.1; config-not-on-interface local 10.255.8.2 dc-alt"},
		{`"10.255.8.2/30"`, `"192.168.50.9/30"`, "config-overlap 192.168.50.9/30 192.168.50.1/24 [[interface]] office 18; config-not-on-interface local 10.255.8.2 dc-alt"},
		{`mtu = 1380`, `mtu = "auto"`, ""},
		{`mtu = 1380`, `mtu = 200`, "config-range mtu 200 576 9216"},
		{`mtu = 1380`, `mtu = "full"`, "config-vpn-mtu full"},
		{`interface = "dc-main"`, "interface = \"dc-main\"\ngateway = \"10.255.7.1\"", "config-vpn-hop gateway dc-main"},
		{`remote = "10.255.7.1"`, `remote = "10.20.7.1"`, "config-not-in-network remote 10.20.7.1 dc-main"},
		{`interface = "prefecture-backup"` + "\n", "interface = \"prefecture-backup\"\nvia = \"10.255.9.1\"\n", "config-vpn-hop via prefecture-backup"},
		{`interface = "prefecture-backup"` + "\n", "via = \"10.255.9.1\"\n", "config-vpn-hop via prefecture-backup"},
		{`orders = "10.1.4.1:4796"`, `orders = "10.9.4.1:4796"`, ""},
		{"[[path]]\nname = \"main\"", "[[peer]]\nname = \"other\"\nrole = \"town-hall\"\nnetworks = [\"10.1.4.0/24\"]\n[[path]]\nname = \"main\"", "config-peer-without-path other; config-same-inside 10.1.4.0/24 [[peer]] other dc-edge 77 10.1.0.0/16"},
		{`psk = "secret:vpn"`, `psk = "hush"`, "config-want-secret psk"},
		{`auth = "psk"`, `auth = "cert"`, "config-missing certificate [[vpn]]; config-missing key [[vpn]]; config-missing ca [[vpn]]; config-only-with psk auth = \"psk\""},
	} {
		if !strings.Contains(good, c.old) {
			t.Errorf("no %q", c.old)
			continue
		}
		f, problems := Parse("x", []byte(strings.Replace(good, c.old, c.new, 1)))
		if diff := cmp.Diff(c.want, codes(problems)); diff != "" {
			t.Errorf("%q → %q (-want +got)\n%s", c.old, c.new, diff)
		}
		if f != nil {
			consistent(t, f)
		}
	}
}

// TestSuites: what is weak is refused with the word that makes it so, and nothing
// that is strong enough is.
func TestSuites(t *testing.T) {
	good := site(t, "closed")
	for _, c := range []struct{ key, suite, want string }{
		{"ike", "aes256gcm16-prfsha384-ecp384", ""},
		{"ike", "chacha20poly1305-prfsha256-curve25519", ""},
		{"ike", "aes256-sha512-modp4096", ""},
		{"ike", "aes128-sha256-prfsha256-ecp256", ""},
		{"esp", "aes128-sha256-modp3072", ""},
		{"esp", "aes256gcm16-aes128gcm16-ecp384-ecp521", ""},
		{"ike", "aes256-sha1-modp2048", "config-suite-hash ike sha1 aes256-sha1-modp2048; config-suite-group ike modp2048 aes256-sha1-modp2048"},
		{"ike", "aes256gcm16-prfmd5-ecp384", "config-suite-hash ike prfmd5 aes256gcm16-prfmd5-ecp384"},
		{"ike", "3des-sha256-ecp192", "config-suite-cipher ike 3des 3des-sha256-ecp192; config-suite-group ike ecp192 3des-sha256-ecp192"},
		{"ike", "cast128-sha256-ecp224", "config-suite-cipher ike cast128 cast128-sha256-ecp224; config-suite-group ike ecp224 cast128-sha256-ecp224"},
		{"esp", "blowfish256-sha256-ecp384", "config-suite-cipher esp blowfish256 blowfish256-sha256-ecp384"},
		{"esp", "des-md5-modp1024", "config-suite-cipher esp des des-md5-modp1024; config-suite-hash esp md5 des-md5-modp1024; config-suite-group esp modp1024 des-md5-modp1024"},
		{"esp", "null-sha256-ecp384", "config-suite-null esp null null-sha256-ecp384"},
		{"esp", "aes256gmac-ecp384", "config-suite-null esp aes256gmac aes256gmac-ecp384"},
		{"esp", "aes256gcm16-modpnone", "config-suite-null esp modpnone aes256gcm16-modpnone"},
		{"esp", "aes256gcm8-ecp384", "config-suite-tag esp aes256gcm8 aes256gcm8-ecp384"},
		{"esp", "aes256gcm16", "config-suite-no-pfs esp aes256gcm16"},
		{"esp", "aes256-ecp384", "config-suite-no-hash esp aes256-ecp384"},
		{"esp", "aes256gcm16-sha256-ecp384", "config-suite-hash-beside esp aes256gcm16-sha256-ecp384"},
		{"esp", "aes256gcm16-aes256-sha256-ecp384", "config-suite-one-cipher esp aes256gcm16-aes256-sha256-ecp384"},
		{"ike", "sha256-ecp384", "config-suite-one-cipher ike sha256-ecp384"},
		{"ike", "aes256gcm16-ecp384", "config-suite-no-prf ike aes256gcm16-ecp384"},
		{"ike", "aes256gcm16-prfsha384", "config-suite-no-group ike aes256gcm16-prfsha384"},
		{"ike", "aes265gcm16-prfsha384-ecp384", "config-suite-word-near ike aes265gcm16 aes265gcm16-prfsha384-ecp384 aes256gcm16"},
		{"ike", "default", "config-suite-word ike default default aes256gcm16, aes192gcm16, aes128gcm16, chacha20poly1305, aes256, aes192, aes128, sha512, sha384, sha256, prfsha512, prfsha384, prfsha256, ecp384, ecp521, ecp256, curve25519, modp3072, modp4096, modp6144, modp8192"},
		{"ike", "aes256gcm16--ecp384", "config-suite-word ike  aes256gcm16--ecp384 aes256gcm16, aes192gcm16, aes128gcm16, chacha20poly1305, aes256, aes192, aes128, sha512, sha384, sha256, prfsha512, prfsha384, prfsha256, ecp384, ecp521, ecp256, curve25519, modp3072, modp4096, modp6144, modp8192"},
	} {
		_, problems := Parse("x", []byte(strings.Replace(good, "mtu = 1380", c.key+" = \""+c.suite+"\"", 1)))
		if diff := cmp.Diff(c.want, codes(problems)); diff != "" {
			t.Errorf("%s %s (-want +got)\n%s", c.key, c.suite, diff)
		}
	}
}

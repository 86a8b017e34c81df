package keys

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func key(t testing.TB, id uint32, a Algorithm, secret []byte) *Key {
	t.Helper()
	k, err := New(id, a, secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// The message of RFC 4493 section 4 and NIST SP 800-38B appendix D.
const nist = "6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51" +
	"30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710"

func TestCMAC(t *testing.T) {
	m := unhex(t, nist)
	aes128 := key(t, 1, AES128, unhex(t, "2b7e151628aed2a6abf7158809cf4f3c"))
	aes256 := key(t, 1, AES256, unhex(t, "603deb1015ca71be2b73aef0857d7781 1f352c073b6108d72d9810a30914dff4"))
	if want := unhex(t, "fbeed618357133667c85e08f7236a8de"); !bytes.Equal(aes128.k1[:], want) {
		t.Errorf("K1 %x, want %x", aes128.k1, want)
	}
	if want := unhex(t, "f7ddac306ae266ccf90bc11ee46d513b"); !bytes.Equal(aes128.k2[:], want) {
		t.Errorf("K2 %x, want %x", aes128.k2, want)
	}
	w := NewWorker()
	for _, c := range []struct {
		k    *Key
		n    int
		want string
	}{
		{aes128, 0, "bb1d6929e95937287fa37d129b756746"},
		{aes128, 16, "070a16b46b4d4144f79bdd9dd04a287c"},
		{aes128, 40, "dfa66747de9ae63030ca32611497c827"},
		{aes128, 64, "51f0bebf7e3b9d92fc49741779363cfe"},
		{aes256, 0, "028962f61b7bf89efc6b551f4667d983"},
		{aes256, 16, "28a7023f452e8f82bd4bf28d8c37c35c"},
		{aes256, 40, "aaf3d8f1de5640c232f5b169b9c911e6"},
		{aes256, 64, "e1992190549f6ed5696a2c056c315410"},
	} {
		w.cmac(c.k, m[:c.n])
		if got := hex.EncodeToString(w.x[:]); got != c.want {
			t.Errorf("%v of %d octets: %s, want %s", c.k.Algorithm, c.n, got, c.want)
		}
	}
}

func message(version byte) []byte {
	m := make([]byte, 48)
	m[0] = version<<3 | 3
	for i := 1; i < len(m); i++ {
		m[i] = byte(i)
	}
	return m
}

func TestAppendVerify(t *testing.T) {
	w := NewWorker()
	for _, a := range []Algorithm{AES128, AES256, SHA256, SHA1, MD5} {
		for _, version := range []byte{3, 4} {
			k := key(t, 7, a, bytes.Repeat([]byte{0xa5}, algorithms[a].most))
			m := message(version)
			full := w.Append(k, m, m)
			mac := full[len(m):]
			if len(mac) != k.Size(version) || version == 4 && len(mac) > 24 {
				t.Errorf("%v, version %d: MAC of %d octets", a, version, len(mac))
			}
			if !w.Verify(k, m, mac) {
				t.Errorf("%v, version %d: own MAC refused", a, version)
			}
			for i := range full {
				full[i] ^= 4
				if w.Verify(k, full[:len(m)], full[len(m):]) {
					t.Errorf("%v, version %d: octet %d changed and accepted", a, version, i)
				}
				full[i] ^= 4
			}
			for n := range len(mac) {
				if w.Verify(k, m, mac[:n]) {
					t.Errorf("%v, version %d: MAC cut to %d octets accepted", a, version, n)
				}
			}
		}
	}
	// SHA-256 is cut to its first 20 octets in NTPv4.
	k := key(t, 7, SHA256, []byte("0123456789abcdef"))
	sum := sha256.Sum256(append([]byte("0123456789abcdef"), message(4)...))
	if got := w.Append(k, nil, message(4)); !bytes.Equal(got, append([]byte{0, 0, 0, 7}, sum[:20]...)) {
		t.Errorf("SHA-256: %x", got)
	}
}

func TestNoAllocation(t *testing.T) {
	w := NewWorker()
	m := message(4)
	buf := make([]byte, 0, 100)
	for _, a := range []Algorithm{AES128, AES256, SHA256, SHA1, MD5} {
		k := key(t, 7, a, bytes.Repeat([]byte{0xa5}, algorithms[a].most))
		if n := testing.AllocsPerRun(100, func() {
			if !w.Verify(k, m, w.Append(k, buf, m)) {
				t.Fatal("refused")
			}
		}); n != 0 {
			t.Errorf("%v: %v allocations", a, n)
		}
	}
}

func TestParse(t *testing.T) {
	s, err := Parse([]byte(`# keys of hinata-cho
! remark
% remark
; remark

1 AES128 HEX:000102030405060708090A0B0C0D0E0F
20 sha256 ASCII:municipal-time-keys  # trailing remark
300 MD5 a#b:c
4294967295 AES256CMAC HEX:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
`))
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[uint32]string{
		1:          "AES128 \x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f",
		20:         "SHA256 municipal-time-keys",
		300:        "MD5 a#b:c",
		4294967295: "AES256 \x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f",
	} {
		if k := s.Key(id); k == nil || k.Algorithm.String()+" "+string(k.Secret()) != want {
			t.Errorf("key %d: %v", id, k)
		}
	}
	if s.Len() != 4 || s.Key(2) != nil || (*Set)(nil).Key(1) != nil || (*Set)(nil).Len() != 0 {
		t.Error("keys that aren't there")
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"1 AES128", "line 1: 2 words, want three"},
		{"\n0 AES128 HEX:00", "line 2: the first word must be a key identifier"},
		{"4294967296 MD5 secret", "line 1: the first word"},
		{"1 DES secret", "line 1: the second word must be AES128, AES256, SHA256, SHA1 or MD5"},
		{"1 AES128 HEX:secret", "line 1: the key after HEX:"},
		{"1 AES128 HEX:0001", "line 1: AES128 key of 2 octets, want 16"},
		{"1 SHA256 secret", "line 1: SHA256 key of 6 octets, want 10 to 32"},
		{"1 SHA1 secretsecretsecretsecret", "line 1: a key of more than 20 characters needs HEX: or ASCII: before it"},
		{"1 MD5 secret\n2 MD5 secret\n1 MD5 secret", "line 3: key identifier 1 stands in line 1 already"},
		{"1 MD5 a secret\n2 MD5", "line 1: 4 words, want three: ID TYPE KEY\nline 2: 2 words"},
		{strings.Repeat("secret\n", 1000), "line 10: "},
	} {
		_, err := Parse([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: %v, want %q", c.text, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || len(err.Error()) > 1000) {
			t.Errorf("%.40q: error tells the key or is too long: %v", c.text, err)
		}
	}
}

func TestKeysAreNotPrinted(t *testing.T) {
	k := key(t, 9, SHA256, []byte("very-secret-key"))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(verb, k); strings.Contains(s, "very-secret") || !strings.Contains(s, "key 9") {
			t.Errorf("%s prints %s", verb, s)
		}
	}
	if _, err := NewSet(k, k); err == nil {
		t.Error("the same identifier twice")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("1 AES128 HEX:000102030405060708090A0B0C0D0E0F\n2 MD5 secret # x\n"))
	f.Add([]byte("! \n# \n7 SHA1 ASCII:#\n"))
	f.Add([]byte("1 M #"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		w, m := NewWorker(), message(4)
		for id, k := range s.keys {
			if k.ID != id || !w.Verify(k, m, w.Append(k, nil, m)) {
				t.Fatalf("%v can't be used", k)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	w, m := NewWorker(), message(4)
	for _, a := range []Algorithm{AES128, SHA256} {
		k := key(b, 7, a, bytes.Repeat([]byte{0xa5}, algorithms[a].most))
		mac := w.Append(k, nil, m)
		b.Run(a.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.Verify(k, m, mac)
			}
		})
	}
}

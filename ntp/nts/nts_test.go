package nts

import (
	"errors"
	"math/rand/v2"
	"testing"

	"komainu/ntp/packet"
	"komainu/ntp/wall"
)

// rng is repeatable randomness.
func rng(seed byte) Random {
	r := rand.NewChaCha8([32]byte{seed})
	return func(b []byte) { r.Read(b) }
}

const day = wall.Time(Period)

func ring(t testing.TB) *Keyring {
	t.Helper()
	r, err := NewKeyring(100*day, rng(1))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func keysOf(seed byte) *Keys {
	var k Keys
	r := rng(seed)
	r(k.C2S[:])
	r(k.S2C[:])
	return &k
}

// client is one that has done its key exchange with r.
func client(t testing.TB, r *Keyring, seed byte, cookies int) *Client {
	t.Helper()
	k := keysOf(seed)
	c, err := NewClient(k, r.Cookies(cookies, k, rng(seed+1)), rng(seed+2))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func header(mode uint8) []byte {
	b := make([]byte, packet.HeaderSize)
	h := packet.Header{Version: 4, Mode: mode, Stratum: 1, Transmit: 0x1122334455667788}
	h.Put(b)
	return b
}

func request(t testing.TB, c *Client) []byte {
	t.Helper()
	req, err := c.Request(header(packet.ModeClient))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// fields lists the types of a message's fields.
func fields(t testing.TB, msg []byte) []uint16 {
	t.Helper()
	var types []uint16
	for at := packet.HeaderSize; at < len(msg); {
		f, next, err := packet.NextField(msg, at)
		if err != nil {
			t.Fatal(err)
		}
		types, at = append(types, f.Type), next
	}
	return types
}

func TestLoop(t *testing.T) {
	r, s := ring(t), NewSession(rng(9))
	c := client(t, r, 20, 8)
	used := map[string]bool{}
	for i := range 20 {
		req := request(t, c)
		if mac, err := packet.Split(req); err != nil || mac != len(req) {
			t.Fatalf("request: MAC at %d of %d, %v", mac, len(req), err)
		}
		cookie := string(req[packet.HeaderSize+36+4:][:cookieSize])
		if used[cookie] {
			t.Fatal("a cookie was used twice")
		}
		used[cookie] = true
		if i%5 == 3 {
			continue // the request is lost
		}
		if v := r.Open(req, s); v != OK {
			t.Fatalf("request %d: %v", i, v)
		}
		resp, ok := r.Seal(s, header(packet.ModeServer))
		if !ok || len(resp) > len(req) {
			t.Fatalf("reply %d: %v, %d octets for %d", i, ok, len(resp), len(req))
		}
		if mac, err := packet.Split(resp); err != nil || mac != len(resp) {
			t.Fatalf("reply: MAC at %d of %d, %v", mac, len(resp), err)
		}
		if _, again := r.Seal(s, header(packet.ModeServer)); again {
			t.Fatal("a request was answered twice")
		}
		if err := c.Response(resp); err != nil {
			t.Fatalf("reply %d: %v", i, err)
		}
		if c.Cookies() != 8 {
			t.Fatalf("after reply %d: %d cookies", i, c.Cookies())
		}
		if err := c.Response(resp); !errors.Is(err, ErrUnauthentic) {
			t.Fatalf("reply taken twice: %v", err)
		}
	}
}

func TestFieldsOnTheWire(t *testing.T) {
	r, s := ring(t), NewSession(rng(9))
	c := client(t, r, 20, 6)
	req := request(t, c)
	want := []uint16{fieldUnique, fieldCookie, fieldPlaceholder, fieldPlaceholder, fieldAuthenticator}
	if got := fields(t, req); !equal(got, want) {
		t.Errorf("request has %x, want %x", got, want)
	}
	if v := r.Open(req, s); v != OK {
		t.Fatal(v)
	}
	resp, _ := r.Seal(s, header(packet.ModeServer))
	if got, want := fields(t, resp), []uint16{fieldUnique, fieldAuthenticator}; !equal(got, want) {
		t.Errorf("reply has %x, want %x", got, want)
	}
	if len(resp) != len(req) {
		t.Errorf("reply of %d octets to a request of %d with as many placeholders", len(resp), len(req))
	}
	if c.Response(resp) != nil || c.Cookies() != 8 {
		t.Errorf("%d cookies", c.Cookies())
	}
}

func equal(a, b []uint16) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

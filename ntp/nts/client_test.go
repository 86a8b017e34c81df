package nts

import (
	"bytes"
	"errors"
	"testing"

	"komainu/ntp/packet"
)

func TestTamperedResponse(t *testing.T) {
	r, s := ring(t), NewSession(rng(9))
	c := client(t, r, 20, 7)
	req := request(t, c)
	r.Open(req, s)
	good, _ := r.Seal(s, header(packet.ModeServer))
	for i := range good {
		for _, bit := range []byte{1, 0x80} {
			resp := bytes.Clone(good)
			resp[i] ^= bit
			if err := c.Response(resp); !errors.Is(err, ErrUnauthentic) {
				t.Fatalf("octet %d changed: %v", i, err)
			}
		}
	}
	for n := range good {
		if err := c.Response(good[:n]); !errors.Is(err, ErrUnauthentic) {
			t.Fatalf("cut to %d octets: %v", n, err)
		}
	}
	if c.Cookies() != 6 {
		t.Errorf("%d cookies: taken from a false reply", c.Cookies())
	}
	if err := c.Response(good); err != nil || c.Cookies() != 8 {
		t.Errorf("the true reply after false ones: %v, %d cookies", err, c.Cookies())
	}
}

func TestClientRunsDry(t *testing.T) {
	r := ring(t)
	c := client(t, r, 20, 2)
	for range 2 {
		if req := request(t, c); len(req) > maxRequest {
			t.Errorf("request of %d octets", len(req))
		}
	}
	if _, err := c.Request(header(packet.ModeClient)); !errors.Is(err, ErrNoCookie) {
		t.Error(err)
	}
	if _, err := NewClient(keysOf(1), nil, rng(1)); !errors.Is(err, ErrNoCookie) {
		t.Error(err)
	}
	for _, n := range []int{8, 102, 516} {
		if _, err := NewClient(keysOf(1), [][]byte{make([]byte, n)}, rng(1)); err == nil {
			t.Errorf("cookie of %d octets taken", n)
		}
	}
	big, err := NewClient(keysOf(1), [][]byte{make([]byte, 512)}, rng(1))
	if err != nil {
		t.Fatal(err)
	}
	if req := request(t, big); len(req) > maxRequest {
		t.Errorf("request of %d octets with large cookies", len(req))
	}
}

// TestCookieOutsideIsIgnored: a cookie that isn't encrypted isn't taken, though
// it is authenticated.
func TestCookieOutsideIsIgnored(t *testing.T) {
	r := ring(t)
	c := client(t, r, 20, 1)
	request(t, c)
	resp := appendField(header(packet.ModeServer), fieldUnique, c.unique[:])
	resp = appendField(resp, fieldCookie, make([]byte, 100))
	resp, _ = appendSealed(c.keys.s2c, &c.sc, resp, 0)
	if err := c.Response(resp); err != nil || c.Cookies() != 0 {
		t.Errorf("%v, %d cookies", err, c.Cookies())
	}
}

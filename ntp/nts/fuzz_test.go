package nts

import (
	"bytes"
	"errors"
	"testing"

	"komainu/ntp/packet"
)

// FuzzServerOpen: whatever arrives, no panic, and no reply longer than it.
func FuzzServerOpen(f *testing.F) {
	r := ring(f)
	for _, letters := range []string{"uca", "ucppa", "u", "uc", "ucax", "xucxa", "uucca", "ua", "vca"} {
		f.Add(craft(f, r, letters, ""))
	}
	f.Add(craft(f, r, "uca", "px"))
	f.Add(craft(f, r, "uca", "!"))
	s := NewSession(rng(9))
	f.Fuzz(func(t *testing.T, req []byte) {
		before := bytes.Clone(req)
		v := r.Open(req, s)
		resp, ok := r.Seal(s, header(packet.ModeServer))
		if ok != (v == OK) && !(v == OK && len(req) < len(resp)+200) {
			t.Fatalf("%v, sealed %v", v, ok)
		}
		if ok && len(resp) > len(req) {
			t.Fatalf("reply of %d octets for %d", len(resp), len(req))
		}
		if v == NAK {
			if kiss := s.NAK(req, nil); len(kiss) > len(req) || len(kiss) < packet.HeaderSize+fieldHeader+minUnique {
				t.Fatalf("kiss of %d octets for %d", len(kiss), len(req))
			}
		}
		if !bytes.Equal(req, before) {
			t.Fatal("the request was changed")
		}
	})
}

// FuzzClientResponse: only what the server sealed is taken over.
func FuzzClientResponse(f *testing.F) {
	r, s := ring(f), NewSession(rng(9))
	start := func() *Client {
		k := keysOf(20)
		c, err := NewClient(k, r.Cookies(6, k, rng(21)), rng(22))
		if err != nil {
			f.Fatal(err)
		}
		return c
	}
	req := request(f, start())
	r.Open(req, s)
	good, _ := r.Seal(s, header(packet.ModeServer))
	f.Add(good)
	f.Add(s.NAK(req, nil))
	f.Add(header(packet.ModeServer))
	f.Fuzz(func(t *testing.T, resp []byte) {
		c := start()
		request(t, c) // the same each time
		err := c.Response(resp)
		switch {
		case err == nil && (len(resp) < len(good) || !bytes.Equal(resp[:len(good)], good)):
			t.Fatal("taken over")
		case err != nil && c.Cookies() != 5:
			t.Fatalf("%d cookies after %v", c.Cookies(), err)
		case err != nil && !errors.Is(err, ErrUnauthentic) && !errors.Is(err, ErrNAK) && !errors.Is(err, ErrKiss):
			t.Fatal(err)
		}
	})
}

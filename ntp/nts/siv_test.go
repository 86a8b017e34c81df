package nts

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"github.com/facebook/time/ntp/protocol/nts/aessiv"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSIVVectors(t *testing.T) {
	for _, c := range []struct {
		name, key, text, sealed string
		ad                      []string
	}{
		{
			name:   "RFC 5297 A.1",
			key:    "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
			ad:     []string{"101112131415161718191a1b1c1d1e1f2021222324252627"},
			text:   "112233445566778899aabbccddee",
			sealed: "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c",
		},
		{
			name: "RFC 5297 A.2",
			key:  "7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f",
			ad: []string{
				"00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100",
				"102030405060708090a0", "09f911029d74e35bd84156c5635688c0",
			},
			text:   "7468697320697320736f6d6520706c61696e7465787420746f20656e6372797074207573696e67205349562d414553",
			sealed: "7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c485b62a3fd5c0d",
		},
	} {
		var sc scratch
		s, err := newSIV(unhex(t, c.key), &sc)
		if err != nil {
			t.Fatal(err)
		}
		var ad [][]byte
		for _, a := range c.ad {
			ad = append(ad, unhex(t, a))
		}
		text, sealed := unhex(t, c.text), unhex(t, c.sealed)
		for range 2 { // the CBC underneath has a past
			got := bytes.Clone(text)
			var tag [tagSize]byte
			if !s.seal(&sc, &tag, got, ad...) || !bytes.Equal(append(tag[:], got...), sealed) {
				t.Errorf("%s: %x %x, want %x", c.name, tag, got, sealed)
			}
			if !s.open(&sc, tag[:], got, ad...) || !bytes.Equal(got, text) {
				t.Errorf("%s: opened as %x", c.name, got)
			}
		}
	}
}

// TestSIVAgainstLibrary compares with an independent implementation at every
// length around the blocks' edges.
func TestSIVAgainstLibrary(t *testing.T) {
	rnd := rand.NewChaCha8([32]byte{1})
	octets := func(n int) []byte {
		b := make([]byte, n)
		rnd.Read(b)
		return b
	}
	var sc scratch
	for n := range 70 {
		key := octets(keySize)
		ours, err := newSIV(key, &sc)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := aessiv.NewAESSIV(key)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []int{0, 1, 15, 16, 17, 33, 300} {
			text, ad, nonce := octets(n), octets(m), octets(16)
			want, err := theirs.Seal(nil, text, ad, nonce)
			if err != nil {
				t.Fatal(err)
			}
			got := bytes.Clone(text)
			var tag [tagSize]byte
			if !ours.seal(&sc, &tag, got, ad, nonce) || !bytes.Equal(append(tag[:], got...), want) {
				t.Fatalf("text of %d, data of %d octets: %x %x, want %x", n, m, tag, got, want)
			}
			tag[n%16] ^= 1 << (m % 8)
			if ours.open(&sc, tag[:], got, ad, nonce) || !bytes.Equal(got, make([]byte, n)) {
				t.Fatalf("text of %d octets opened with a wrong tag", n)
			}
		}
	}
}

func TestSIVTooLong(t *testing.T) {
	var sc scratch
	s, err := newSIV(make([]byte, keySize), &sc)
	if err != nil {
		t.Fatal(err)
	}
	var tag [tagSize]byte
	full, over := make([]byte, maxInput), make([]byte, maxInput+1)
	if !s.seal(&sc, &tag, full, full, full) {
		t.Error("input of the longest length refused")
	}
	if s.seal(&sc, &tag, over, nil) || s.seal(&sc, &tag, nil, over) || s.open(&sc, tag[:], over) || s.open(&sc, tag[:15], nil) {
		t.Error("input of a wrong length taken")
	}
}

// Package nts is Network Time Security for NTP (RFC 8915): the records of the
// key exchange, the cookies in which a server hands its state to its clients,
// and the extension fields that protect a request and its reply. It opens no
// connection and knows no clock: TLS is drivers/ntske's, random octets come in
// as a func. Start reading at Keyring.Open for the server, Client for the client.
//
// The only AEAD is AES-SIV-CMAC-256, which every implementation must have
// (RFC 8915 section 5.1). It is written here over crypto/aes because a server
// needs it without garbage: github.com/facebook/time's aessiv allocates twice a
// request even with its key schedules kept, 2.4 KB without, and is a quarter
// slower. Tests hold the two against each other.
package nts

import (
	"encoding/binary"
	"slices"
)

// Extension fields of RFC 8915 section 7.5.
const (
	fieldUnique        = 0x0104
	fieldCookie        = 0x0204
	fieldPlaceholder   = 0x0304
	fieldAuthenticator = 0x0404
)

const (
	fieldHeader = 4  // octets of type and length
	minField    = 16 // octets of a whole extension field (RFC 7822 section 3)
	minLast     = 28 // octets of the last one; what is shorter is a MAC
	minUnique   = 32 // octets of a unique identifier (RFC 8915 section 5.3)
	nonceSize   = 16 // octets of the nonces that we make
	minNonce    = 16 // N_REQ of RFC 8915 section 5.6: octets of nonce with its padding

	// MaxCookies is how many cookies one reply brings and a client keeps
	// (RFC 8915 section 5.7).
	MaxCookies = 8
)

// Keys are what client and server share after a key exchange (RFC 8915 section
// 5.1), for AES-SIV-CMAC-256.
type Keys struct {
	C2S, S2C [keySize]byte
}

// Random fills b with octets that nobody can guess, as crypto/rand.Read does.
type Random func(b []byte)

// putHeader writes type and length of a field of n octets, header included.
func putHeader(b []byte, typ uint16, n int) {
	binary.BigEndian.PutUint16(b, typ)
	binary.BigEndian.PutUint16(b[2:], uint16(n))
}

// authenticator is the body of an authenticator field (RFC 8915 section 5.6).
type authenticator struct {
	nonce, tag, text []byte
}

// parseAuthenticator takes a body apart. In a request, room for the server's
// nonce is demanded, whatever the client's own length.
func parseAuthenticator(body []byte, request bool) (a authenticator, ok bool) {
	if len(body) < 4 {
		return a, false
	}
	nonce, text := int(binary.BigEndian.Uint16(body)), int(binary.BigEndian.Uint16(body[2:]))
	body = body[4:]
	if nonce == 0 || text < tagSize || pad(nonce)+pad(text) > len(body) {
		return a, false
	}
	if request && len(body)-pad(text) < minNonce {
		return a, false
	}
	a.nonce = body[:nonce]
	a.tag = body[pad(nonce):][:tagSize]
	a.text = body[pad(nonce):][tagSize:text]
	return a, true
}

// appendSealed appends an authenticator field to msg, which it protects; the
// last n octets of msg are its plaintext and become its end.
func appendSealed(s *siv, sc *scratch, msg []byte, n int) ([]byte, bool) {
	ad := len(msg) - n
	const head = fieldHeader + 4 + nonceSize + tagSize
	msg = slices.Grow(msg, head)[:len(msg)+head]
	copy(msg[ad+head:], msg[ad:ad+n])
	f := msg[ad:]
	putHeader(f, fieldAuthenticator, len(f))
	binary.BigEndian.PutUint16(f[4:], nonceSize)
	binary.BigEndian.PutUint16(f[6:], uint16(tagSize+n))
	copy(f[8:], sc.nonce[:])
	ok := s.seal(sc, (*[tagSize]byte)(f[8+nonceSize:]), f[head:], msg[:ad], f[8:8+nonceSize])
	return msg, ok
}

// pad rounds up to whole words, as extension fields hold them.
func pad(n int) int { return (n + 3) &^ 3 }

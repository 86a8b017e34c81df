package nts

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"komainu/ntp/wall"
)

const (
	// Period is how long one key seals new cookies. AES-GCM with random nonces
	// allows 2^32 of them: 49,000 a second, all day.
	Period = 24 * time.Hour
	kept   = 4 // keys that open cookies: a client may sleep for three days

	secretSize  = 32
	cookieNonce = 12
	cookiePlain = 4 + 2*keySize // algorithm, zero, C2S, S2C
	cookieSize  = 4 + cookieNonce + cookiePlain + 16

	algorithm = 15 // AEAD_AES_SIV_CMAC_256
)

// Key seals cookies. It is the secret of the time server: with it, every cookie
// since its making can be opened.
type Key struct {
	ID     uint32    `json:"id"` // stands in each cookie
	Made   wall.Time `json:"made"`
	Secret []byte    `json:"secret"` // 32 octets
}

// Keyring seals cookies with its newest key and opens those of the last four.
// It never changes, so all servers and the key exchange may share one; Rotate
// makes the next. Save Keys (mode 0600) before a new ring is used: then a cookie
// handed out is good after any crash.
//
// A cookie is the key's number, a random nonce, and the client's keys sealed
// with AES-256-GCM: nothing in it tells clients apart, or links two cookies of
// one (RFC 8915 section 6).
type Keyring struct {
	keys  []Key // newest first
	aeads []cipher.AEAD
}

// NewKeyring is a ring of one new key. Cookies of rings before it are lost:
// their clients get a NAK and exchange keys again.
func NewKeyring(now wall.Time, random Random) (*Keyring, error) {
	var id [4]byte
	random(id[:])
	return LoadKeyring([]Key{newKey(binary.BigEndian.Uint32(id[:]), now, random)})
}

func newKey(id uint32, now wall.Time, random Random) Key {
	k := Key{ID: id, Made: now, Secret: make([]byte, secretSize)}
	random(k.Secret)
	return k
}

// LoadKeyring is the ring whose Keys were saved.
func LoadKeyring(keys []Key) (*Keyring, error) {
	if len(keys) == 0 || len(keys) > kept {
		return nil, fmt.Errorf("keys of NTS cookies: %d of them, want 1 to %d: remove the file, clients will exchange keys again", len(keys), kept)
	}
	r := &Keyring{}
	for _, k := range keys {
		if len(k.Secret) != secretSize {
			return nil, fmt.Errorf("keys of NTS cookies: key %d has %d octets, want %d: remove the file, clients will exchange keys again", k.ID, len(k.Secret), secretSize)
		}
		if slices.ContainsFunc(r.keys, func(o Key) bool { return o.ID == k.ID }) {
			return nil, fmt.Errorf("keys of NTS cookies: key %d is there twice: remove the file, clients will exchange keys again", k.ID)
		}
		block, err := aes.NewCipher(k.Secret)
		if err != nil {
			return nil, fmt.Errorf("keys of NTS cookies: key %d: %w", k.ID, err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("keys of NTS cookies: key %d: %w", k.ID, err)
		}
		k.Secret = slices.Clone(k.Secret)
		r.keys = append(r.keys, k)
		r.aeads = append(r.aeads, aead)
	}
	return r, nil
}

// Keys is what to save, newest first. It isn't to be changed.
func (r *Keyring) Keys() []Key { return r.keys }

// Due says that the newest key is a Period old, or from so far in the future
// that the clock was wrong when it was made.
func (r *Keyring) Due(now wall.Time) bool {
	age := now.Sub(r.keys[0].Made)
	return age >= Period || age <= -Period
}

// Rotate is the ring with a new key and without the oldest.
func (r *Keyring) Rotate(now wall.Time, random Random) (*Keyring, error) {
	next := newKey(r.keys[0].ID+1, now, random)
	return LoadKeyring(append([]Key{next}, r.keys[:min(len(r.keys), kept-1)]...))
}

// Cookies makes n cookies that hold k.
func (r *Keyring) Cookies(n int, k *Keys, random Random) [][]byte {
	plain := make([]byte, cookiePlain)
	putKeys(plain, k)
	cookies := make([][]byte, n)
	for i := range cookies {
		cookies[i] = make([]byte, cookieSize)
		random(cookies[i][4:][:cookieNonce])
		r.sealCookie(cookies[i], plain)
	}
	return cookies
}

func putKeys(plain []byte, k *Keys) {
	binary.BigEndian.PutUint16(plain, algorithm)
	binary.BigEndian.PutUint16(plain[2:], 0)
	copy(plain[4:], k.C2S[:])
	copy(plain[4+keySize:], k.S2C[:])
}

// sealCookie fills cookieSize octets, in which the nonce stands already.
func (r *Keyring) sealCookie(cookie, plain []byte) {
	binary.BigEndian.PutUint32(cookie, r.keys[0].ID)
	r.aeads[0].Seal(cookie[:4+cookieNonce], cookie[4:4+cookieNonce], plain, nil)
}

// openCookie writes the plaintext to room, which has space for it.
func (r *Keyring) openCookie(cookie, room []byte) (plain []byte, ok bool) {
	if len(cookie) != cookieSize {
		return nil, false
	}
	id := binary.BigEndian.Uint32(cookie)
	for i := range r.keys {
		if r.keys[i].ID != id {
			continue
		}
		plain, err := r.aeads[i].Open(room[:0], cookie[4:4+cookieNonce], cookie[4+cookieNonce:], nil)
		return plain, err == nil && binary.BigEndian.Uint16(plain) == algorithm
	}
	return nil, false
}

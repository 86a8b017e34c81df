package accounts

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Bounds of a password, in bytes.
const PasswordLeast, PasswordMost = 8, 128

// The price of a guess: what OWASP's cheat sheet on password storage takes where
// memory is short (a box may have 512 MB).
const (
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
	argonLanes  = 1
	// What a file may ask of us at most, lest a damaged one takes all memory.
	argonMemoryMost = 64 << 10 // KiB
	argonTimeMost   = 10
)

// Password is Argon2id (RFC 9106) of a password.
type Password struct {
	Salt   []byte `json:"salt"` // 16 bytes
	Memory uint32 `json:"memory_kib"`
	Time   uint32 `json:"time"`
	Lanes  uint8  `json:"lanes"`
	Hash   []byte `json:"hash"` // 32 bytes
}

// Hash makes the Password of a word, with a fresh salt.
func Hash(word string) Password {
	p := Password{Salt: make([]byte, 16), Memory: argonMemory, Time: argonTime, Lanes: argonLanes}
	_, _ = rand.Read(p.Salt) // never fails (crypto/rand)
	p.Hash = p.hash(word)
	return p
}

func (p *Password) hash(word string) []byte {
	return argon2.IDKey([]byte(word[:min(len(word), PasswordMost)]), p.Salt, p.Time, p.Memory, p.Lanes, 32)
}

// right tells whether word is the password, in the same time either way.
func (p *Password) right(word string) bool {
	return subtle.ConstantTimeCompare(p.hash(word), p.Hash) == 1
}

var errHash = errors.New("bad password hash")

func (p *Password) check() error {
	if len(p.Salt) < 8 || len(p.Salt) > 64 || len(p.Hash) != 32 || p.Lanes < 1 || p.Lanes > 4 ||
		p.Memory < 8*uint32(p.Lanes) || p.Memory > argonMemoryMost || p.Time < 1 || p.Time > argonTimeMost {
		return errHash
	}
	return nil
}

// String is the PHC string: "$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH".
func (p Password) String() string {
	b := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.Memory, p.Time, p.Lanes,
		b.EncodeToString(p.Salt), b.EncodeToString(p.Hash))
}

// ParsePassword reads a PHC string of Argon2id with a hash of 32 bytes and at
// most 64 MiB of memory, 10 rounds, 4 lanes.
func ParsePassword(phc string) (Password, error) {
	var p Password
	f := strings.Split(phc, "$")
	if len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != fmt.Sprint("v=", argon2.Version) {
		return p, fmt.Errorf("%w: want $argon2id$v=19$m=...,t=...,p=...$SALT$HASH (`user password` writes it)", errHash)
	}
	if _, err := fmt.Sscanf(f[3], "m=%d,t=%d,p=%d", &p.Memory, &p.Time, &p.Lanes); err != nil {
		return p, fmt.Errorf("%w: %q: %w", errHash, f[3], err)
	}
	var err1, err2 error
	p.Salt, err1 = base64.RawStdEncoding.DecodeString(f[4])
	p.Hash, err2 = base64.RawStdEncoding.DecodeString(f[5])
	return p, errors.Join(err1, err2, p.check())
}

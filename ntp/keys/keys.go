// Package keys authenticates NTP messages with symmetric keys (RFC 5905 section
// 7.3, RFC 8573): it reads a key file's text, makes MACs and checks them. It
// reads no file, and never prints a key. Start reading at Parse and Worker.
package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
)

// Algorithm is how a MAC is made.
type Algorithm uint8

// Algorithms. MD5 and SHA1 are there to talk to old upstreams.
const (
	AES128 Algorithm = iota + 1 // AES-128-CMAC (RFC 4493), what RFC 8573 asks for
	AES256                      // AES-256-CMAC
	SHA256                      // SHA-256 of key and message
	SHA1                        // SHA-1 of key and message
	MD5                         // MD5 of key and message (RFC 5905)
)

// algorithms says of each: its name in key files, the length of its keys and of
// its digest in octets.
var algorithms = [...]struct {
	name           string
	shortest, most int
	digest         int
}{
	AES128: {"AES128", 16, 16, 16},
	AES256: {"AES256", 32, 32, 16},
	// Up to 32 octets are what other implementations take; chrony warns below 10.
	SHA256: {"SHA256", 10, 32, 32},
	SHA1:   {"SHA1", 4, 32, 20},
	MD5:    {"MD5", 4, 32, 16},
}

// String is the algorithm's name in key files.
func (a Algorithm) String() string {
	if int(a) >= len(algorithms) || algorithms[a].name == "" {
		return fmt.Sprintf("algorithm %d", uint8(a))
	}
	return algorithms[a].name
}

// Legacy says that the algorithm is too weak to be offered to clients.
func (a Algorithm) Legacy() bool { return a == SHA1 || a == MD5 }

// Key is one symmetric key. It doesn't change and may be shared.
type Key struct {
	ID        uint32 // 1 and more: zero is a crypto-NAK (RFC 5905 section 7.3)
	Algorithm Algorithm
	secret    []byte
	block     cipher.Block // of CMAC
	k1, k2    [16]byte     // its subkeys (RFC 4493 section 2.3)
}

// New makes a key. The error says which length of secret the algorithm takes.
func New(id uint32, a Algorithm, secret []byte) (*Key, error) {
	if id == 0 {
		return nil, errors.New("key identifier 0 is reserved, use 1 to 4294967295")
	}
	if int(a) >= len(algorithms) || algorithms[a].name == "" {
		return nil, fmt.Errorf("unknown %v", a)
	}
	p := algorithms[a]
	if len(secret) < p.shortest || len(secret) > p.most {
		if p.shortest == p.most {
			return nil, fmt.Errorf("%s key of %d octets, want %d", p.name, len(secret), p.most)
		}
		return nil, fmt.Errorf("%s key of %d octets, want %d to %d", p.name, len(secret), p.shortest, p.most)
	}
	k := &Key{ID: id, Algorithm: a, secret: append([]byte(nil), secret...)}
	if a == AES128 || a == AES256 {
		block, err := aes.NewCipher(k.secret)
		if err != nil {
			return nil, fmt.Errorf("%s key: %w", p.name, err)
		}
		k.block = block
		k.k1, k.k2 = subkeys(block)
	}
	return k, nil
}

// Secret is a copy of the key's octets.
func (k *Key) Secret() []byte { return append([]byte(nil), k.secret...) }

// String names the key without telling it.
func (k *Key) String() string { return fmt.Sprintf("key %d (%v)", k.ID, k.Algorithm) }

// GoString names the key without telling it.
func (k *Key) GoString() string { return k.String() }

// digest is how many octets of digest a message of this version carries: in
// NTPv4 at most 20, so that a MAC can be told from a field (RFC 7822 section 3).
func (k *Key) digest(version uint8) int {
	n := algorithms[k.Algorithm].digest
	if version >= 4 {
		n = min(n, 20)
	}
	return n
}

// Size is the length of the key's MACs in messages of that version of NTP,
// octets: key identifier and digest.
func (k *Key) Size(version uint8) int { return 4 + k.digest(version) }

// Set is keys by their identifiers. It doesn't change and may be shared. The
// nil Set is empty.
type Set struct{ keys map[uint32]*Key }

// NewSet makes a set. The error names an identifier that is there twice.
func NewSet(keys ...*Key) (*Set, error) {
	s := &Set{keys: make(map[uint32]*Key, len(keys))}
	for _, k := range keys {
		if s.keys[k.ID] != nil {
			return nil, fmt.Errorf("key identifier %d is there twice", k.ID)
		}
		s.keys[k.ID] = k
	}
	return s, nil
}

// Key is the key of that identifier, or nil.
func (s *Set) Key(id uint32) *Key {
	if s == nil {
		return nil
	}
	return s.keys[id]
}

// Len is the number of keys.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return len(s.keys)
}

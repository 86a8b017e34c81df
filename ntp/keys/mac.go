package keys

import (
	"crypto/cipher"
	"crypto/md5"  //nolint:gosec // only to talk to old upstreams
	"crypto/sha1" //nolint:gosec // only to talk to old upstreams
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"hash"
)

// Worker makes and checks MACs without allocation. One goroutine at a time may
// use it; its keys may be shared.
type Worker struct {
	sha256, sha1, md5 hash.Hash
	x                 [16]byte // CMAC: the block being encrypted
	sum               [sha256.Size]byte
}

// NewWorker returns a Worker.
func NewWorker() *Worker {
	return &Worker{
		sha256: sha256.New(),
		sha1:   sha1.New(), //nolint:gosec // see above
		md5:    md5.New(),  //nolint:gosec // see above
	}
}

// Append appends the MAC of an NTP message, which begins with its header, to
// dst: key identifier and digest, k.Size octets. The header's version decides
// how long the digest is. dst may be message itself.
func (w *Worker) Append(k *Key, dst, message []byte) []byte {
	sum := w.digest(k, message)
	dst = binary.BigEndian.AppendUint32(dst, k.ID)
	return append(dst, sum...)
}

// Verify says in constant time whether mac, key identifier and digest, belongs
// to the message before it. The caller has found k by the identifier.
func (w *Worker) Verify(k *Key, message, mac []byte) bool {
	if len(message) == 0 || len(mac) < 4 || binary.BigEndian.Uint32(mac) != k.ID {
		return false
	}
	return subtle.ConstantTimeCompare(w.digest(k, message), mac[4:]) == 1
}

// digest is the digest that a message carries; it is good until the next one.
func (w *Worker) digest(k *Key, message []byte) []byte {
	var h hash.Hash
	switch k.Algorithm {
	case SHA256:
		h = w.sha256
	case SHA1:
		h = w.sha1
	case MD5:
		h = w.md5
	default:
		w.cmac(k, message)
		return w.x[:]
	}
	h.Reset()
	h.Write(k.secret)
	h.Write(message)
	return h.Sum(w.sum[:0])[:k.digest(message[0]>>3&7)]
}

// cmac leaves the AES-CMAC of m in w.x (RFC 4493 section 2.4).
func (w *Worker) cmac(k *Key, m []byte) {
	clear(w.x[:])
	for len(m) > 16 {
		subtle.XORBytes(w.x[:], w.x[:], m[:16])
		k.block.Encrypt(w.x[:], w.x[:])
		m = m[16:]
	}
	subtle.XORBytes(w.x[:], w.x[:], m)
	if len(m) == 16 {
		subtle.XORBytes(w.x[:], w.x[:], k.k1[:])
	} else {
		w.x[len(m)] ^= 0x80
		subtle.XORBytes(w.x[:], w.x[:], k.k2[:])
	}
	k.block.Encrypt(w.x[:], w.x[:])
}

// subkeys are K1 and K2 of RFC 4493 section 2.3.
func subkeys(b cipher.Block) (k1, k2 [16]byte) {
	b.Encrypt(k1[:], k1[:])
	k1 = double(k1)
	return k1, double(k1)
}

// double multiplies by x in GF(2^128).
func double(v [16]byte) (d [16]byte) {
	hi, lo := binary.BigEndian.Uint64(v[:8]), binary.BigEndian.Uint64(v[8:])
	binary.BigEndian.PutUint64(d[:8], hi<<1|lo>>63)
	binary.BigEndian.PutUint64(d[8:], lo<<1^hi>>63*0x87)
	return d
}

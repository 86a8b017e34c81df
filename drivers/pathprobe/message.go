package pathprobe

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// kind of a message.
type kind uint8

const (
	probe   kind = 1 + iota // a packet of the size that is asked about
	echo                    // the answer: it came
	train                   // one of several back to back
	arrived                 // the answer to a train: how long that took
)

// message is what a packet begins with; zeros follow up to its size. Big endian:
//
//	 0  magic "KMPP"
//	 4  kind
//	 5  count: train, of how many
//	 6  index: train, from 0
//	 7  0
//	 8  id: the asker's; an answer repeats it
//	16  size of the packet that is asked about, IP header included
//	18  found: the sender's own result, 0: none
//	20  span: ns from the first to the last of a train
//	28  HMAC-SHA-256 over what stands before, its first 16 bytes
//
// Ids begin at random whenever a socket is opened and are asked about once, so
// an answer that is recorded and played again is the answer to nothing.
type message struct {
	kind         kind
	count, index uint8
	id           uint64
	size, found  uint16
	span         uint64
}

const (
	headLen = 28
	macLen  = 16
	wireLen = headLen + macLen
)

var magic = [4]byte{'K', 'M', 'P', 'P'}

// errForeign says that a packet isn't one of ours: another protocol, another
// key, or damaged.
var errForeign = errors.New("not a probe of this path")

// put writes m into b, which is at least wireLen long.
func (m message) put(b, key []byte) {
	copy(b, magic[:])
	b[4], b[5], b[6], b[7] = byte(m.kind), m.count, m.index, 0
	binary.BigEndian.PutUint64(b[8:], m.id)
	binary.BigEndian.PutUint16(b[16:], m.size)
	binary.BigEndian.PutUint16(b[18:], m.found)
	binary.BigEndian.PutUint64(b[20:], m.span)
	copy(b[headLen:wireLen], mac(b[:headLen], key))
}

func mac(b, key []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(b)
	return h.Sum(nil)[:macLen]
}

// parse reads a packet's payload.
func parse(b, key []byte) (message, error) {
	if len(b) < wireLen || [4]byte(b[:4]) != magic || !hmac.Equal(b[headLen:wireLen], mac(b[:headLen], key)) {
		return message{}, errForeign
	}
	m := message{kind: kind(b[4]), count: b[5], index: b[6], id: binary.BigEndian.Uint64(b[8:]), size: binary.BigEndian.Uint16(b[16:]),
		found: binary.BigEndian.Uint16(b[18:]), span: binary.BigEndian.Uint64(b[20:])}
	if m.kind < probe || m.kind > arrived || m.kind == train && (m.count == 0 || m.index >= m.count) {
		return message{}, errForeign
	}
	return m, nil
}

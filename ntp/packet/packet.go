// Package packet is the format of NTP messages on the wire: header (RFC 5905
// section 7.3), extension fields and what follows them (RFC 7822). It allocates
// nothing, keeps nothing, and judges nothing but lengths. Start reading at
// Header and Split.
package packet

import (
	"encoding/binary"
)

// HeaderSize is the length of every message's fixed part, octets.
const HeaderSize = 48

// Version is the version of the protocol that this project speaks first.
const Version = 4

// Modes of association (RFC 5905 figure 10).
const (
	ModeActive    = 1 // symmetric active
	ModePassive   = 2 // symmetric passive
	ModeClient    = 3
	ModeServer    = 4
	ModeBroadcast = 5
	ModeControl   = 6 // RFC 9327
	ModePrivate   = 7
)

// Leap indicators (RFC 5905 figure 9).
const (
	LeapNone           = 0
	LeapInsert         = 1 // the last minute of the day has 61 seconds
	LeapDelete         = 2 // it has 59
	LeapUnsynchronised = 3
)

// Header is the fixed part of a message.
type Header struct {
	Leap           uint8 // 0..3
	Version        uint8 // 0..7
	Mode           uint8 // 0..7
	Stratum        uint8 // 0: unspecified, or a kiss (RFC 5905 section 7.4)
	Poll           int8  // log2 of seconds
	Precision      int8  // log2 of seconds
	RootDelay      Short
	RootDispersion Short
	RefID          uint32
	RefTime        Timestamp
	Origin         Timestamp
	Receive        Timestamp
	Transmit       Timestamp
}

// Parse reads the header of b and says whether b was long enough.
func (h *Header) Parse(b []byte) bool {
	if len(b) < HeaderSize {
		return false
	}
	b = b[:HeaderSize]
	*h = Header{
		Leap:           b[0] >> 6,
		Version:        b[0] >> 3 & 7,
		Mode:           b[0] & 7,
		Stratum:        b[1],
		Poll:           int8(b[2]),
		Precision:      int8(b[3]),
		RootDelay:      Short(binary.BigEndian.Uint32(b[4:])),
		RootDispersion: Short(binary.BigEndian.Uint32(b[8:])),
		RefID:          binary.BigEndian.Uint32(b[12:]),
		RefTime:        Timestamp(binary.BigEndian.Uint64(b[16:])),
		Origin:         Timestamp(binary.BigEndian.Uint64(b[24:])),
		Receive:        Timestamp(binary.BigEndian.Uint64(b[32:])),
		Transmit:       Timestamp(binary.BigEndian.Uint64(b[40:])),
	}
	return true
}

// Put writes the header to the first HeaderSize octets of b, which must have
// them. Bits of Leap, Version and Mode that the format has no room for are cut.
func (h *Header) Put(b []byte) {
	b = b[:HeaderSize]
	b[0] = h.Leap<<6 | h.Version&7<<3 | h.Mode&7
	b[1] = h.Stratum
	b[2] = byte(h.Poll)
	b[3] = byte(h.Precision)
	binary.BigEndian.PutUint32(b[4:], uint32(h.RootDelay))
	binary.BigEndian.PutUint32(b[8:], uint32(h.RootDispersion))
	binary.BigEndian.PutUint32(b[12:], h.RefID)
	binary.BigEndian.PutUint64(b[16:], uint64(h.RefTime))
	binary.BigEndian.PutUint64(b[24:], uint64(h.Origin))
	binary.BigEndian.PutUint64(b[32:], uint64(h.Receive))
	binary.BigEndian.PutUint64(b[40:], uint64(h.Transmit))
}

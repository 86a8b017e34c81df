package packet

import (
	"encoding/binary"
	"errors"
)

// Lengths that RFC 7822 section 3 (RFC 5905 section 7.5) gives, in octets.
const (
	minField     = 16     // of every extension field
	minLastField = 28     // of the last one when no MAC follows
	maxMAC       = 24     // of an NTPv4 MAC: key identifier and 20 octets of digest
	minMAC       = 20     // key identifier and 16 octets
	maxMACv3     = 4 + 64 // NTPv3 has no fields that a longer one could be taken for
	cryptoNAK    = 4      // a key identifier of zero and no digest (RFC 5905 section 7.3)
)

// Errors of Split and NextField.
var (
	ErrHeader = errors.New("message shorter than the 48 octets of an NTP header")
	ErrField  = errors.New("NTP extension field with a bad length")
	ErrMAC    = errors.New("rest of the NTP message is neither an extension field nor a MAC")
)

// Field is one extension field.
type Field struct {
	Type uint16
	Body []byte // without the 4 octets of type and length, with its padding; part of the message
	At   int    // where in the message its type stands
}

// NextField reads the field that starts at octet at of b and tells where the
// next one would. The only lengths refused (ErrField) are those that can't be
// one: below 4, no multiple of 4, beyond the end of b. That suits fields in an
// encrypted part (RFC 8915 section 5.6), too; Split is stricter.
func NextField(b []byte, at int) (f Field, next int, err error) {
	if at < 0 || len(b)-at < 4 {
		return Field{}, at, ErrField
	}
	n := int(binary.BigEndian.Uint16(b[at+2:]))
	if n < 4 || n%4 != 0 || n > len(b)-at {
		return Field{}, at, ErrField
	}
	return Field{Type: binary.BigEndian.Uint16(b[at:]), Body: b[at+4 : at+n : at+n], At: at}, at + n, nil
}

// Split tells where the extension fields of message b end and its MAC begins:
// b[HeaderSize:mac] are fields, b[mac:] is the MAC. The MAC is empty, a
// crypto-NAK (4 octets), or 20..24 octets long.
//
// RFC 7822 section 3: a last field without a MAC has at least 28 octets and an
// NTPv4 MAC at most 24, so the number of octets that are left decides. Up to 24
// they can only be a MAC, more must begin with a field. An NTPv3 message has no
// fields, and its MAC may have the digest's full length, up to 68 octets.
func Split(b []byte) (mac int, err error) {
	if len(b) < HeaderSize {
		return 0, ErrHeader
	}
	at, longest := HeaderSize, maxMAC
	if b[0]>>3&7 < 4 {
		longest = maxMACv3
	} else {
		for len(b)-at >= minLastField {
			f, next, err := NextField(b, at)
			if err != nil {
				return 0, err
			}
			if len(f.Body)+4 < minField {
				return 0, ErrField
			}
			at = next
		}
	}
	switch n := len(b) - at; {
	case n == 0, n == cryptoNAK, n >= minMAC && n <= longest && n%4 == 0:
		return at, nil
	default:
		return 0, ErrMAC
	}
}

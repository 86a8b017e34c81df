package packet

import (
	"crypto/md5" //nolint:gosec // RFC 5905 names MD5 for reference identifiers; it protects nothing
	"encoding/binary"
	"net/netip"
	"strings"
)

// Kiss codes that this project sends or heeds (RFC 5905 section 7.4, RFC 8915
// section 5.7).
const (
	KissRate     uint32 = 'R'<<24 | 'A'<<16 | 'T'<<8 | 'E' // the client asks too often
	KissDeny     uint32 = 'D'<<24 | 'E'<<16 | 'N'<<8 | 'Y'
	KissRestrict uint32 = 'R'<<24 | 'S'<<16 | 'T'<<8 | 'R'
	KissNTSNAK   uint32 = 'N'<<24 | 'T'<<16 | 'S'<<8 | 'N'
)

// RefIDOf is the reference identifier that tells of an upstream (RFC 5905
// figure 12): its IPv4 address, or the first four octets of the MD5 hash of its
// IPv6 address. An address that isn't valid gives zero.
func RefIDOf(a netip.Addr) uint32 {
	a = a.Unmap()
	switch {
	case a.Is4():
		b := a.As4()
		return binary.BigEndian.Uint32(b[:])
	case a.Is6():
		b := a.As16()
		sum := md5.Sum(b[:]) //nolint:gosec // see above
		return binary.BigEndian.Uint32(sum[:4])
	default:
		return 0
	}
}

// RefIDCode is the identifier of a reference clock or kiss of up to four
// letters, such as "PPS" (RFC 5905 section 7.3), left-justified.
func RefIDCode(s string) uint32 {
	var b [4]byte
	copy(b[:], s)
	return binary.BigEndian.Uint32(b[:])
}

// Letters is the identifier as a kiss code or a reference clock's name; empty
// if it isn't one to four printing ASCII characters.
func Letters(id uint32) string {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], id)
	s := strings.TrimRight(string(b[:]), "\x00")
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return ""
		}
	}
	return s
}

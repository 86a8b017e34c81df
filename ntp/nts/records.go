package nts

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Limits and names of the key exchange (RFC 8915 sections 4 and 5.1).
const (
	ALPN          = "ntske/1"
	ExporterLabel = "EXPORTER-network-time-security"

	// MaxRequest and MaxResponse are the longest messages that we read, octets.
	// A server must take 1,024 and a client should take 65,536.
	MaxRequest  = 2048
	MaxResponse = 65536
)

// Record types (RFC 8915 section 7.6).
const (
	recordEnd      = 0
	recordProtocol = 1
	recordError    = 2
	recordWarning  = 3
	recordAEAD     = 4
	recordCookie   = 5
	recordServer   = 6
	recordPort     = 7

	critical     = 0x8000
	recordHeader = 4
	protocolNTP  = 0 // NTPv4, section 7.7
)

// Codes of an Error record (RFC 8915 section 7.8).
const (
	CodeUnrecognised = 0 // a critical record that the server doesn't know
	CodeBadRequest   = 1
	CodeInternal     = 2
)

// ErrRecords is a message that breaks the format of RFC 8915 section 4; it is
// wrapped with what is wrong.
var ErrRecords = errors.New("bad NTS-KE message")

// record is one record of a message.
type record struct {
	typ      uint16
	critical bool
	body     []byte
}

// readRecord reads the record at the start of b. False: b ends too early.
func readRecord(b []byte) (r record, rest []byte, ok bool) {
	if len(b) < recordHeader {
		return record{}, b, false
	}
	typ, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
	if n > len(b)-recordHeader {
		return record{}, b, false
	}
	r = record{typ &^ critical, typ&critical != 0, b[recordHeader:][:n:n]}
	return r, b[recordHeader+n:], true
}

func appendRecord(b []byte, typ uint16, isCritical bool, body []byte) []byte {
	if isCritical {
		typ |= critical
	}
	b = binary.BigEndian.AppendUint16(b, typ)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

// list reads the body of a negotiation.
func (r record) list() ([]uint16, error) {
	if len(r.body)%2 != 0 {
		return nil, fmt.Errorf("%w: a record of type %d has %d octets, want pairs", ErrRecords, r.typ, len(r.body))
	}
	var l []uint16
	for b := r.body; len(b) > 0; b = b[2:] {
		l = append(l, binary.BigEndian.Uint16(b))
	}
	return l, nil
}

func appendList(b []byte, typ uint16, values ...uint16) []byte {
	var body []byte
	for _, v := range values {
		body = binary.BigEndian.AppendUint16(body, v)
	}
	return appendRecord(b, typ, true, body)
}

// Complete says whether b begins with a whole message, and how long that is.
func Complete(b []byte) (n int, ok bool) {
	for rest := b; ; {
		r, after, ok := readRecord(rest)
		if !ok {
			return 0, false
		}
		rest = after
		if r.typ == recordEnd {
			return len(b) - len(rest), true
		}
	}
}

// message is what both directions have in common.
type message struct {
	protocols, aeads []uint16
	hasAEAD          bool
	codes, warnings  []uint16
	cookies          [][]byte
	server           string
	port             uint16
	unknown          int // type of a critical record that we don't know, or -1
}

// parseMessage reads a whole message by the rules for both directions: each
// record whose number is limited once, End of Message last, critical bits where
// they must be.
func parseMessage(b []byte) (*message, error) {
	m := &message{unknown: -1}
	var seen [recordPort + 1]int
	for ended := false; len(b) > 0; {
		if ended {
			return nil, fmt.Errorf("%w: %d octets after its end", ErrRecords, len(b))
		}
		r, rest, ok := readRecord(b)
		if !ok {
			return nil, fmt.Errorf("%w: its last record is cut off", ErrRecords)
		}
		b = rest
		if int(r.typ) >= len(seen) {
			if r.critical && m.unknown < 0 {
				m.unknown = int(r.typ)
			}
			continue
		}
		seen[r.typ]++
		ended = r.typ == recordEnd
		if err := m.take(r); err != nil {
			return nil, err
		}
	}
	for _, typ := range []int{recordProtocol, recordAEAD, recordServer, recordPort} {
		if seen[typ] > 1 {
			return nil, fmt.Errorf("%w: %d records of type %d, want one", ErrRecords, seen[typ], typ)
		}
	}
	m.hasAEAD = seen[recordAEAD] == 1
	switch {
	case seen[recordEnd] == 0:
		return nil, fmt.Errorf("%w: it has no end", ErrRecords)
	case seen[recordProtocol] == 0 && len(m.codes) == 0: // an error may stand alone
		return nil, fmt.Errorf("%w: it negotiates no protocol", ErrRecords)
	}
	return m, nil
}

func (m *message) take(r record) (err error) {
	if !r.critical && slices.Contains([]uint16{recordEnd, recordProtocol, recordError, recordWarning}, r.typ) {
		return fmt.Errorf("%w: a record of type %d isn't marked critical", ErrRecords, r.typ)
	}
	switch r.typ {
	case recordEnd:
		if len(r.body) != 0 {
			err = fmt.Errorf("%w: its end has a body of %d octets", ErrRecords, len(r.body))
		}
	case recordProtocol:
		m.protocols, err = r.list()
	case recordAEAD:
		m.aeads, err = r.list()
	case recordError, recordWarning, recordPort:
		if len(r.body) != 2 {
			return fmt.Errorf("%w: a record of type %d has %d octets, want 2", ErrRecords, r.typ, len(r.body))
		}
		v := binary.BigEndian.Uint16(r.body)
		switch r.typ {
		case recordError:
			m.codes = append(m.codes, v)
		case recordWarning:
			m.warnings = append(m.warnings, v)
		default:
			m.port = v
		}
	case recordCookie:
		m.cookies = append(m.cookies, r.body)
	case recordServer:
		m.server = string(r.body)
	}
	return err
}
